"""Figures read from what the kernel, the API server and the operator write, and what is made of them."""

import itertools
from collections import Counter

import pytest

from hack.bench.__main__ import label, main
from hack.bench.errors import BenchError
from hack.bench.features import FULL
from hack.bench.meter import Result, busiest, latencies, percentile, writes
from hack.bench.operator import Operator, queued
from hack.bench.proc import parse_ticks, parse_traffic
from hack.bench.quiet import quiet
from hack.bench.report import Report, Run, ratios, requests, summary
from hack.bench.server import count_requests, request_times


def test_cpu_time_is_the_process_s_own_and_that_of_children_that_have_ended() -> None:
    assert parse_ticks("7 (a (b) c) S 1 7 7 0 -1 4194304 1 2 3 4 100 20 3 1 20 0 1 0 987654 1 1") == 124


def test_traffic_is_that_of_the_interface_asked_for() -> None:
    text = "Inter-|   Receive  | Transmit\n    lo: 1 1 0 0 0 0 0 0 1 1\n  api1: 300 2 0 0 0 0 0 0 500 4 0 0 0 0 0 0\n"

    assert parse_traffic(text, "api1") == (300, 500)
    with pytest.raises(LookupError, match="eth9"):
        parse_traffic(text, "eth9")


def test_requests_are_counted_once_watches_when_they_start() -> None:
    log = b"""\
{"stage":"ResponseComplete","verb":"patch","requestURI":"/x","objectRef":{"resource":"memcacheds","subresource":"status"}}
{"stage":"ResponseComplete","verb":"patch","requestURI":"/x","objectRef":{"resource":"services","name":"a"}}
{"stage":"ResponseStarted","verb":"watch","requestURI":"/x","objectRef":{"resource":"services"}}
{"stage":"ResponseComplete","verb":"watch","requestURI":"/x","objectRef":{"resource":"services"}}
{"stage":"ResponseComplete","verb":"get","requestURI":"/version?timeout=32s"}
"""

    assert count_requests(log) == {
        "patch memcacheds/status": 1,
        "patch services": 1,
        "watch services": 1,
        "get /version": 1,
    }


def test_a_queue_is_what_waits_and_what_is_under_way() -> None:
    metrics = """\
# TYPE workqueue_depth gauge
workqueue_depth{controller="a",name="a"} 2.0
workqueue_depth{controller="b",name="b"} 0
workqueue_unfinished_work_seconds{controller="a",name="a"} 0.5
workqueue_adds_total{controller="a",name="a"} 100
"""

    assert queued(metrics) == 2.5
    assert queued("go_goroutines 12\n") == 0


def test_the_times_of_requests_are_those_of_one_name_in_order() -> None:
    log = b"""\
{"stage":"ResponseComplete","verb":"get","requestURI":"/x","objectRef":{"resource":"secrets"},"requestReceivedTimestamp":"2026-01-01T00:00:01.500000Z"}
{"stage":"ResponseComplete","verb":"get","requestURI":"/x","objectRef":{"resource":"secrets"},"requestReceivedTimestamp":"2026-01-01T00:00:00.250000Z"}
{"stage":"ResponseComplete","verb":"get","requestURI":"/x","objectRef":{"resource":"pods"},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z"}
"""
    first, second = request_times(log, "get secrets")

    assert second - first == 1.25


def test_the_busiest_second_starts_anywhere() -> None:
    assert busiest([]) == 0
    assert busiest([0.0, 0.9, 1.0, 1.5, 1.89, 3.0]) == 4


def test_writes_are_no_reads_and_no_leases() -> None:
    requests = {"get secrets": 9, "patch services": 2, "update leases": 5, "create events": 1, "post /x": 1}

    assert writes(Counter(requests)) == 3


class Metrics(Operator):
    """An operator whose metrics page tells of these queues, one look after another."""

    def __init__(self, *queues: int) -> None:
        self._metrics = "there"
        self._pages = iter(queues)

    async def _get(self, address: str, path: str) -> str | None:
        return f"workqueue_depth 0\nworkqueue_unfinished_work_seconds {next(self._pages)}\n"


async def test_what_comes_on_schedule_is_no_backlog_and_what_is_there_at_every_look_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hack.bench.operator._BETWEEN", 0.0)

    assert await Metrics(1, 1, 0)._queue_empty()
    assert not await Metrics(1, 1, 1, 1, 1)._queue_empty()


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert (percentile(values, 50), percentile(values, 99), percentile([3.0], 99)) == (50, 99, 3)
    assert latencies([]) == {}
    assert latencies([0.25]) == {
        "latency_p50_milliseconds": 250,
        "latency_p99_milliseconds": 250,
        "latency_max_milliseconds": 250,
    }


async def test_quiet_starts_where_the_last_busy_second_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hack.bench.quiet._STEP", 0.0)
    tenths = itertools.count()

    def clock() -> float:
        return next(tenths) / 8

    busy = itertools.chain((0.1 * step for step in range(16)), itertools.repeat(1.5))
    found = await quiet(lambda: next(busy), share=0.03, seconds=60, clock=clock)

    assert found.cpu == 1.5
    assert 1.5 <= found.since <= 2.0


async def test_with_work_on_schedule_quiet_starts_where_the_work_before_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hack.bench.quiet._STEP", 0.0)
    tenths = itertools.count()
    # A whole CPU for 2 s, then a tenth of one for ever.
    used = itertools.accumulate(itertools.chain([0.125] * 16, itertools.repeat(0.0125)))

    found = await quiet(lambda: next(used), share=0.3, seconds=60, clock=lambda: next(tenths) / 8)

    assert found.since == pytest.approx(2.0, abs=0.25)


async def test_what_never_gets_quiet_is_an_error_that_says_how_busy_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hack.bench.quiet._STEP", 0.0)
    seconds = itertools.count()
    cpu = itertools.count()

    with pytest.raises(BenchError, match="not quiet after 5 s: it still uses 100% of a CPU"):
        await quiet(lambda: float(next(cpu)), share=0.03, seconds=5, clock=lambda: float(next(seconds)))


def result(seconds: float, cpu: float = 1.0, **verbs: int) -> Result:
    return Result({"seconds_to_converge": seconds, "operator_cpu_seconds": cpu}, verbs)


def test_figures_are_medians_with_their_spread() -> None:
    results = [result(3, get=1), result(1, get=2), result(8)]

    assert summary(results)["seconds_to_converge"] == {"median": 3, "min": 1, "max": 8}
    assert requests(results) == {"get": 1}


def test_ratios_are_of_the_same_run_and_nothing_has_none() -> None:
    found = ratios([result(2, cpu=0.0), result(9)], [result(1), result(3)])

    assert found["seconds_to_converge"] == {"median": 2.5, "min": 2, "max": 3}
    assert found["operator_cpu_seconds"]["median"] == 1


def test_the_limit_is_the_quickest_width_of_each_run_and_the_table_has_everyone() -> None:
    report = Report(100, 1, {"a": "cmd a", "b": "cmd b"}, memory={"a": {500: 1000, 1500: 3000}})
    for limit in (4, 5):
        cold = {"a": {"cold": result(8)}, "b": {"cold": result(16)}}
        report.runs.append(Run(cold, {16: result(9), 32: result(limit)}))
    content, table = report.json(), report.table()

    assert content["limit"]["best_at_once"] == [32, 32]
    assert content["operators"]["a"]["cold_to_limit_ratios"]["seconds_to_converge"] == {
        "median": 1.8,
        "min": 1.6,
        "max": 2,
    }
    assert content["second_to_first_ratios"]["cold"]["seconds_to_converge"]["median"] == 2
    assert content["operators"]["a"]["memory"]["rss_kib_per_cr"] == 2
    assert all(text in table for text in ("cold  a", "cold  b", "cold  limit", "a / limit", "b / a", "2.00 KiB a CR"))
    assert max(map(len, table.splitlines())) <= 120


def test_a_full_report_says_how_often_secrets_are_read_when_nothing_happens() -> None:
    figures = {
        "observed_seconds": 66.0,
        "operator_cpu_seconds": 3.3,
        "secret_gets_per_second": 15.15,
        "secret_gets_in_busiest_second": 51.0,
    }
    report = Report(1000, 1, {"a": "cmd"}, FULL, runs=[Run({"a": {"steady": Result(figures)}})])

    assert "steady  a: 15.2 secret GETs/s, 51 in the busiest second; 5.0% of a CPU; over 66 s" in report.table()
    assert "1000 full CRs, children: 5" in report.table()
    assert report.json()["features"] == "full"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/v/bin/python -m memop.cli run --x={health}", "memop"),
        ("/usr/bin/manager -m", "manager"),
        ("'./my operator' --flag", "my operato"),
    ],
)
def test_an_operator_is_called_by_its_program(command: str, name: str) -> None:
    assert label(command) == name


@pytest.mark.parametrize("flag", ["--n=0", "--phases=warm", "--memory=5000,500", "--memory=5", "--namespaces=x"])
def test_a_flag_that_makes_no_sense_ends_before_anything_is_started(flag: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([flag])
