"""The watcher's transitions, against a scripted API server on virtual time."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from memop.errors import (
    BadResponse,
    Forbidden,
    Gone,
    HistoryLost,
    NotFound,
    RequestTimeout,
    ServerError,
    Throttled,
    Unauthorized,
    Unreachable,
)
from memop.informers.informer import Informer
from memop.informers.store import Cause
from memop.informers.watcher import MAX_BACKOFF
from memop.metrics import InformerMetrics
from memop.refs import SERVICES, Key, Resource
from tests.unit.virtual_time import VirtualClock

FOREVER = 3600.0 * 24


@dataclass(frozen=True)
class Obj:
    key: Key
    uid: str
    resource_version: int
    size: int = 0


def decode(raw: bytes | msgspec.Raw) -> Obj:
    data = msgspec.json.decode(raw)
    meta = data["metadata"]
    return Obj(Key(meta["namespace"], meta["name"]), meta["uid"], int(meta["resourceVersion"]), int(data["size"]))


def wire(name: str, version: int, *, uid: str = "", size: Any = 0, namespace: str = "ns") -> dict[str, Any]:
    meta = {"namespace": namespace, "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, "size": size}


def event(kind: str, name: str, version: int, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": wire(name, version, **more)}).encode()


def bookmark(version: int) -> bytes:
    return json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(version)}}}).encode()


def stream_error(code: int, message: str = "no", **more: Any) -> bytes:
    status = {"kind": "Status", "code": code, "message": message, **more}
    return json.dumps({"type": "ERROR", "object": status}).encode()


@dataclass
class Page:
    items: list[msgspec.Raw]
    resource_version: str
    continue_token: str = ""
    remaining: int | None = None


def page(version: int | str, *objects: dict[str, Any], more: str = "") -> Page:
    return Page([msgspec.Raw(json.dumps(obj).encode()) for obj in objects], str(version), more)


Answer = Page | Exception
Step = bytes | Exception | float  # a line, what breaks the stream, or seconds of silence


@dataclass
class Server:
    """Answers lists and watches from a script, then as a quiet server would; remembers what it was asked, and when."""

    clock: VirtualClock
    lists: list[Answer] = field(default_factory=list)
    watches: list[list[Step] | Exception] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # verb, namespace, continue token or version
    times: list[float] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    checks: list[Answer] = field(default_factory=list)  # lists of one object: what version is it?
    checked: list[float] = field(default_factory=list)
    open_watches: int = 0

    def _note(self, verb: str, namespace: str, what: str) -> None:
        self.asked.append((verb, namespace, what))
        self.times.append(self.clock.monotonic())

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        resource_version: str = "",
    ) -> Page:
        assert (resource_version, label_selector) == ("", "app=memcached")
        await asyncio.sleep(0)
        if limit == 1:
            self.checked.append(self.clock.monotonic())
            answer = self.checks.pop(0) if self.checks else page(10**9)
        else:
            assert limit == 500
            self._note("list", namespace, continue_token)
            answer = self.lists.pop(0) if self.lists else page(1000)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        resource_version: str,
        timeout: float,  # noqa: ASYNC109 - the server's
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self._note("watch", namespace, resource_version)
        self.timeouts.append(timeout)
        await asyncio.sleep(0)
        script = self.watches.pop(0) if self.watches else [FOREVER]
        if isinstance(script, Exception):
            raise script
        self.open_watches += 1
        try:
            yield self._play(script)
        finally:
            self.open_watches -= 1

    async def _play(self, script: Sequence[Step]) -> AsyncIterator[bytes]:
        for step in script:
            match step:
                case bytes():
                    yield step
                case Exception():
                    raise step
                case _:
                    await asyncio.sleep(step)


@dataclass
class Bench:
    server: Server
    informer: Informer[Obj]
    registry: CollectorRegistry
    transitions: list[tuple[str, int | None, int | None, bool]]

    async def run(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.informer.run()

    def held(self) -> dict[str, int]:
        return {obj.key.name: obj.resource_version for obj in self.informer.reader.values()}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"resource": "services", **labels})


MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench(clock: VirtualClock) -> MakeBench:
    def make(
        lists: list[Answer] | None = None,
        watches: list[list[Step] | Exception] | None = None,
        namespaces: tuple[str, ...] = ("",),
    ) -> Bench:
        server = Server(clock, lists or [], watches or [])
        registry = CollectorRegistry()
        informer = Informer(
            server,
            SERVICES,
            decode,
            label_selector="app=memcached",
            namespaces=namespaces,
            clock=clock,
            metrics=InformerMetrics(registry),
            rng=random.Random(0),  # noqa: S311 - no secret
        )
        bench = Bench(server, informer, registry, [])

        def note(old: Obj | None, new: Obj | None, cause: Cause) -> None:
            name = (new or old or Obj(Key("", ""), "", 0)).key.name
            versions = (old.resource_version if old else None, new.resource_version if new else None)
            bench.transitions.append((name, *versions, cause is Cause.INITIAL))

        informer.subscribe(note)
        return bench

    return make


@contextmanager
def quiet() -> Iterator[list[str]]:
    """The events logged meanwhile."""
    events: list[str] = []
    with capture_logs() as logs:
        yield events
    events.extend(entry["event"] for entry in logs if entry["log_level"] != "debug")


async def test_a_list_comes_in_pages_and_a_watch_continues_from_it(make_bench: MakeBench) -> None:
    bench = make_bench(
        [page(10, wire("a", 3), more="t1"), page(10, wire("b", 4), more="t2"), page(10, wire("c", 5))],
        [[event("ADDED", "d", 11), event("MODIFIED", "a", 12), event("DELETED", "b", 13), FOREVER]],
    )
    await bench.run(10)
    assert bench.server.asked == [("list", "", ""), ("list", "", "t1"), ("list", "", "t2"), ("watch", "", "10")]
    assert bench.held() == {"a": 12, "c": 5, "d": 11}
    assert bench.transitions == [
        *(("a", None, 3, True), ("b", None, 4, True), ("c", None, 5, True)),
        *(("d", None, 11, False), ("a", 3, 12, False), ("b", 4, None, False)),
    ]
    assert bench.informer.synced
    assert bench.informer.health() is None
    assert bench.metric("memop_informer_synced", namespace="") == 1
    assert bench.metric("memop_informer_lists_total", namespace="") == 1
    assert bench.metric("memop_informer_objects") == 3
    assert bench.metric("memop_informer_events_total", type="ADDED") == 1


async def test_nothing_is_synced_before_the_last_page(make_bench: MakeBench) -> None:
    bench = make_bench([page(10, wire("a", 3), more="t1"), *[Unreachable("down")] * 9])
    with quiet():
        await bench.run(5)
    assert not bench.informer.synced
    assert bench.held() == {}


async def test_a_continue_token_that_expired_restarts_the_list(make_bench: MakeBench) -> None:
    bench = make_bench([page(10, wire("a", 3), more="t1"), Gone("expired"), page(20, wire("b", 15))])
    with quiet():
        await bench.run(5)
    assert [what for _, _, what in bench.server.asked] == ["", "t1", "", "20"]
    assert bench.held() == {"b": 15}


async def test_the_page_that_a_broken_connection_kept_back_is_asked_for_again(make_bench: MakeBench) -> None:
    bench = make_bench([page(10, wire("a", 3), more="t1"), Unreachable("down"), page(10, wire("b", 4))])
    with quiet():
        await bench.run(5)
    assert [what for _, _, what in bench.server.asked] == ["", "t1", "t1", "10"]
    assert bench.held() == {"a": 3, "b": 4}


async def test_the_end_of_a_watch_costs_a_question_and_neither_a_list_nor_a_pause(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[300.0, event("ADDED", "a", 12)], [400.0, bookmark(30)], [350.0]])
    with quiet() as logs:
        await bench.run(2000)
    assert bench.server.asked[1:] == [("watch", "", version) for version in ("10", "12", "30", "30")]
    start = bench.server.times[1]
    assert [time - start for time in bench.server.times[1:]] == pytest.approx([0, 300, 700, 1050])
    assert [time - start for time in bench.server.checked] == pytest.approx([300, 700, 1050])
    assert logs == []


async def test_a_watch_that_went_silent_is_renewed_from_where_it_was(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[bookmark(12), 150.0, RequestTimeout("silence")]])
    with quiet() as logs:
        await bench.run(200)
    assert bench.server.asked[1:] == [("watch", "", "10"), ("watch", "", "12")]
    assert bench.server.times[2] - bench.server.times[1] == pytest.approx(150)
    assert logs == []


async def test_watch_timeouts_are_spread_over_five_to_ten_minutes(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[100.0]] * 100)
    await bench.run(100 * 100)
    assert 300 <= min(bench.server.timeouts) < 330
    assert 570 < max(bench.server.timeouts) <= 600


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(Gone("too old"), id="410-in-http"),
        pytest.param([stream_error(410, reason="Expired")], id="410-in-the-stream"),
        pytest.param([stream_error(500)], id="500-in-the-stream"),
        pytest.param([stream_error(429, details={"retryAfterSeconds": 1})], id="429-in-the-stream"),
        pytest.param([stream_error(504, "Timeout: Too large resource version: 12")], id="too-large-in-the-stream"),
        pytest.param(RequestTimeout("Timeout: Too large resource version: 12", status=504), id="too-large-in-http"),
        pytest.param([b'{"type":"ERROR","object":[]}'], id="an-error-that-is-no-status"),
        pytest.param([b"garbage"], id="garbage"),
        pytest.param([b'{"type":"ADDED","object":{"metadata":{"na'], id="cut-within-a-line"),
        pytest.param([b'{"type":"ADDED","object":{}}'], id="not-an-object"),
        pytest.param([b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"x"}}}'], id="version-not-a-number"),
        pytest.param([BadResponse("a line of more than 16 MiB")], id="over-long-line"),
        pytest.param([ZeroDivisionError()], id="a-bug"),
    ],
)
async def test_what_a_watch_cannot_continue_from_lists_again(
    make_bench: MakeBench, ending: list[Step] | Exception
) -> None:
    bench = make_bench([page(10, wire("a", 3), wire("b", 4)), page(20, wire("b", 15))], [ending])
    with quiet():
        await bench.run(10)
    assert bench.server.asked == [("list", "", ""), ("watch", "", "10"), ("list", "", ""), ("watch", "", "20")]
    assert bench.held() == {"b": 15}
    assert bench.transitions[-2:] == [("b", 4, 15, False), ("a", 3, None, False)]
    assert bench.informer.health() is None


@pytest.mark.parametrize(
    "error",
    [Unreachable("cut"), RequestTimeout("silence"), Throttled("slow down"), ServerError("oops"), Unauthorized("who?")],
    ids=lambda error: type(error).__name__,
)
async def test_a_connections_trouble_continues_where_the_watch_was(make_bench: MakeBench, error: Exception) -> None:
    bench = make_bench([page(10)], [[event("ADDED", "a", 12), error], error])
    with quiet() as logs:
        await bench.run(10)
    assert bench.server.asked[1:] == [("watch", "", "10"), ("watch", "", "12"), ("watch", "", "12")]
    assert logs == ["informer failing", "informer recovered"]
    assert bench.metric("memop_informer_failures_total", namespace="", error=type(error).__name__) == 2


async def test_failures_wait_longer_and_longer_and_never_in_step(make_bench: MakeBench) -> None:
    bench = make_bench([Unreachable("down")] * 12)
    with quiet():
        await bench.run(400)
    pauses = [later - earlier for earlier, later in zip(bench.server.times, bench.server.times[1:], strict=False)][:12]
    nominal = [min(0.8 * 2**n, MAX_BACKOFF) for n in range(12)]
    assert all(0.5 * most <= pause <= most for pause, most in zip(pauses, nominal, strict=True))
    assert len({pause / most for pause, most in zip(pauses, nominal, strict=True)}) == 12


async def test_a_server_that_says_when_is_not_asked_before(make_bench: MakeBench) -> None:
    bench = make_bench([Throttled("slow down", retry_after=17)])
    with quiet():
        await bench.run(20)
    assert bench.server.times[1] - bench.server.times[0] == pytest.approx(17)


async def test_a_watch_that_ends_at_once_backs_off(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[]] * 1000)
    with quiet() as logs:
        await bench.run(300)
    assert len(bench.server.asked) < 20
    assert {verb for verb, _, _ in bench.server.asked[1:]} == {"watch"}
    assert "informer failing" in logs


async def test_a_watch_that_held_for_a_while_resets_the_backoff(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [*[Unreachable("down")] * 6, [61.0, Unreachable("cut")], [FOREVER]])
    with quiet():
        await bench.run(300)
    assert bench.server.times[-1] - bench.server.times[-2] == pytest.approx(61.4, abs=0.4)


@pytest.mark.parametrize("error", [Forbidden("no right", status=403), NotFound("no such kind", status=404)])
async def test_what_is_forbidden_or_missing_is_reported_once_and_found_when_it_appears(
    make_bench: MakeBench, error: Exception
) -> None:
    bench = make_bench([*[error] * 10, page(10, wire("a", 3))])
    with quiet() as logs:
        await bench.run(60)
        health = bench.informer.health() or ""
        assert health.startswith("services in all namespaces since 2026-01-01T00:00:00Z: ")
        assert type(error).__name__ in health
        assert not bench.informer.synced
        await bench.run(400)
    assert logs == ["informer failing", "informer recovered"]
    assert bench.held() == {"a": 3}
    assert bench.informer.health() is None


async def test_a_forbidden_namespace_keeps_no_other_from_being_served(make_bench: MakeBench) -> None:
    answers: list[Answer] = [Forbidden("no right"), page(10, wire("a", 3, namespace="two"))]
    bench = make_bench([*answers, *[Forbidden("no right")] * 9], namespaces=("one", "two"))
    with quiet():
        await bench.run(20)
    assert bench.held() == {"a": 3}
    assert (bench.informer.health() or "").startswith("services in namespace one ")
    assert bench.metric("memop_informer_synced", namespace="two") == 1
    assert bench.metric("memop_informer_synced", namespace="one") == 0


async def test_an_object_that_does_not_decode_is_skipped_and_the_rest_goes_on(make_bench: MakeBench) -> None:
    bench = make_bench(
        [page(10, wire("a", 3), wire("bad", 4, size="many"))],
        [[event("MODIFIED", "a", 11, size="many"), event("ADDED", "c", 12), event("DELETED", "a", 13, size="many")]],
    )
    with capture_logs() as logs:
        await bench.run(0.3)
    assert [entry["key"] for entry in logs if entry["event"] == "object does not decode"] == ["ns/bad", "ns/a"]
    assert bench.held() == {"c": 12}
    assert bench.transitions == [("a", None, 3, True), ("c", None, 12, False), ("a", 3, None, False)]


async def test_an_object_that_decodes_no_more_is_still_there_after_a_list(make_bench: MakeBench) -> None:
    bench = make_bench(
        [page(10, wire("a", 3)), page(20, wire("a", 15, size="many"), {"metadata": 7})], [[stream_error(410)]]
    )
    with quiet():
        await bench.run(10)
    assert bench.server.asked[-1] == ("watch", "", "20")
    assert bench.held() == {"a": 3}


async def test_what_a_bookmark_passed_is_no_news(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[bookmark(20), FOREVER]])
    await bench.run(10)
    bench.informer.wrote(json.dumps(wire("a", 15)).encode())
    assert bench.held() == {}


async def test_a_watch_that_told_of_an_error_is_closed_before_waiting(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[stream_error(410)]])
    with quiet():
        await bench.run(0.2)
    assert bench.server.open_watches == 0


async def test_an_undecodable_object_moves_the_watch_on_all_the_same(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[event("ADDED", "bad", 11, size="many"), 2.0]])
    with quiet():
        await bench.run(10)
    assert bench.server.asked[1:] == [("watch", "", "10"), ("watch", "", "11")]


async def test_an_unknown_event_is_passed_over(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[event("NOVEL", "a", 11), event("ADDED", "b", 12), FOREVER]])
    with quiet() as logs:
        await bench.run(10)
    assert bench.held() == {"b": 12}
    assert logs == ["unknown watch event"]


async def test_a_list_older_than_what_is_known_is_asked_for_again(make_bench: MakeBench) -> None:
    bench = make_bench(
        [page(10, wire("a", 3)), page(8, wire("b", 2)), page(20, wire("a", 3))],
        [[event("ADDED", "c", 15), event("DELETED", "c", 18), stream_error(410)]],
    )
    with quiet():
        await bench.run(10)
    assert bench.held() == {"a": 3}
    assert all(name != "b" for name, *_ in bench.transitions)


async def test_a_history_set_back_ends_everything_when_the_server_insists(make_bench: MakeBench) -> None:
    bench = make_bench(
        [page(100, wire("a", 90), wire("b", 50)), *[page(60, wire("a", 40))] * 3],
        [[stream_error(504, "Too large resource version: 100, current: 60")]],
    )
    with quiet(), pytest.raises(ExceptionGroup) as caught:
        await bench.run(30)
    assert caught.group_contains(HistoryLost, match="list services: 3 times a list as of 60, although 100 was told")
    assert bench.held() == {"a": 90, "b": 50}


@pytest.mark.parametrize("ending", [[70.0], [70.0, Unreachable("cut")], Unreachable("refused")])
async def test_a_watch_never_waits_for_a_version_that_the_server_has_yet_to_reach(
    make_bench: MakeBench, ending: list[Step] | Exception
) -> None:
    """A restored API server takes such a watch, and tells nothing."""
    bench = make_bench([page(100), *[page(60)] * 2], [ending])
    bench.server.checks = [page(60)]
    with quiet(), pytest.raises(ExceptionGroup) as caught:
        await bench.run(200)
    assert caught.group_contains(HistoryLost)
    assert [verb for verb, _, _ in bench.server.asked] == ["list", "watch", "list", "list"]


async def test_a_cache_is_current_but_for_when_its_watch_is_broken(make_bench: MakeBench) -> None:
    bench = make_bench([page(10)], [[5.0, Unreachable("cut")], [FOREVER]])
    bench.server.checks = [Unreachable("down"), Unreachable("down"), page(10)]
    known = {}

    async def look() -> None:
        for second in range(10):
            known[second] = bench.informer.current
            await asyncio.sleep(1)

    with quiet():
        async with asyncio.TaskGroup() as group:
            group.create_task(look())
            await bench.run(20)
    assert [second for second, current in known.items() if not current] == [0, 5, 6, 7, 8]
    assert known[9]


@pytest.mark.parametrize("error", [Forbidden("no right", status=403), NotFound("no such kind", status=404)])
async def test_a_kind_that_is_refused_from_the_start_keeps_nobody_waiting(
    make_bench: MakeBench, error: Exception
) -> None:
    bench = make_bench([error] * 50)
    with quiet():
        await bench.run(1)
    assert bench.informer.current


@pytest.mark.parametrize("error", [Forbidden("not yet", status=403), NotFound("no such kind yet", status=404)])
async def test_what_was_told_is_acted_on_only_once_its_refusal_has_lasted(
    make_bench: MakeBench, error: Exception
) -> None:
    bench = make_bench([page(10, wire("a", 3)), *[error] * 50], [[5.0]])
    bench.server.checks = [error]
    with quiet():
        await bench.run(60)
        assert not bench.informer.current
        await bench.run(60)
        assert bench.informer.current


async def test_one_stale_answer_is_no_history_set_back(make_bench: MakeBench) -> None:
    bench = make_bench([page(100, wire("a", 90)), page(110, wire("a", 90))], [[70.0]])
    bench.server.checks = [page(60)]
    with quiet():
        await bench.run(200)
    assert bench.server.asked[-1] == ("watch", "", "110")
    assert bench.transitions == [("a", None, 90, True)]


async def test_an_own_write_is_announced_once(make_bench: MakeBench) -> None:
    bench = make_bench([page(10, wire("a", 3))], [[5.0, event("MODIFIED", "a", 12), FOREVER]])
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.informer.run())
        await bench.informer.wait_settled()
        bench.informer.wrote(json.dumps(wire("a", 12)).encode())
        assert bench.held() == {"a": 12}
        await asyncio.sleep(10)
        bench.informer.deleted(Key("ns", "a"), "uid-a")
        assert bench.held() == {}
        running.cancel()
    assert bench.transitions == [("a", None, 3, True), ("a", 3, 12, False), ("a", 12, None, False)]


async def test_an_answer_that_does_not_decode_breaks_nothing(make_bench: MakeBench) -> None:
    bench = make_bench()
    with quiet() as logs:
        bench.informer.wrote(b"not an object")
    assert logs == ["object does not decode"]


async def settled_after(bench: Bench) -> float | None:
    """The seconds after which somebody who waits for the informer goes on, of the minute that it runs."""
    start = bench.server.clock.monotonic()
    took: list[float] = []

    async def wait() -> None:
        await bench.informer.wait_settled()
        took.append(bench.server.clock.monotonic() - start)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(wait())
        await bench.run(60)
        waiting.cancel()
    assert bench.informer.settled == bool(took)
    return took[0] if took else None


@pytest.mark.parametrize("error", [Forbidden("no right", status=403), NotFound("no such kind", status=404)])
async def test_a_refused_namespace_is_not_waited_for_and_told_of_once_it_is_listed(
    make_bench: MakeBench, error: Exception
) -> None:
    answers: list[Answer] = [error, page(10, wire("a", 3, namespace="two")), error]
    bench = make_bench([*answers, page(20, wire("b", 4, namespace="one"))], namespaces=("one", "two"))
    with quiet():
        assert await settled_after(bench) == pytest.approx(0)
    assert bench.informer.synced
    assert bench.transitions == [("a", None, 3, True), ("b", None, 4, True)]


async def test_what_is_refused_for_good_is_settled_and_never_synced(make_bench: MakeBench) -> None:
    bench = make_bench([Forbidden("no right"), *[Unreachable("down")] * 20])
    with quiet():
        assert await settled_after(bench) == pytest.approx(0)
    assert not bench.informer.synced


@pytest.mark.parametrize("error", [Unreachable("down"), Unauthorized("who?"), ServerError("oops"), Gone("expired")])
async def test_what_may_still_be_listed_is_waited_for(make_bench: MakeBench, error: Exception) -> None:
    bench = make_bench([error, page(10), *[error] * 20], namespaces=("one", "two"))
    with quiet():
        assert await settled_after(bench) is None
