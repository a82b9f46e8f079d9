"""What becomes of a key, by what its reconcile returned or raised."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from memop.controller import Controller, Done
from memop.errors import Conflict, ServerError, TerminalError, Throttled, Unreachable
from memop.metrics import ControllerMetrics, QueueMetrics
from memop.refs import Key
from memop.workqueue import WorkQueue
from tests.unit.virtual_time import VirtualClock

A, B = Key("ns", "a"), Key("ns", "b")
Reconcile = Callable[[Key], Awaitable[Done]]


@dataclass
class Bench:
    clock: VirtualClock
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    times: list[float] = field(default_factory=list)
    open: bool = True

    def __post_init__(self) -> None:
        self.queue: WorkQueue[Key] = WorkQueue("memcached", clock=self.clock, metrics=QueueMetrics(self.registry))
        self.metrics = ControllerMetrics(self.registry)

    def gate(self) -> bool:
        return self.open

    def controller(self, reconcile: Reconcile, *, workers: int = 1) -> Controller:
        async def timed(key: Key) -> Done:
            self.times.append(self.clock.monotonic())
            return await reconcile(key)

        return Controller(
            "memcached",
            self.queue,
            timed,
            workers=workers,
            clock=self.clock,
            metrics=self.metrics,
            gate=self.gate,
        )

    @asynccontextmanager
    async def running(self, reconcile: Reconcile, **options: Any) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller(reconcile, **options).run())
            yield
            self.queue.shut_down()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"controller_runtime_{name}", {"controller": "memcached", **labels})

    def results(self) -> dict[str, float | None]:
        names = ("success", "error", "requeue", "requeue_after")
        return {name: count for name in names if (count := self.metric("reconcile_total", result=name))}


@pytest.fixture
def bench(clock: VirtualClock) -> Bench:
    return Bench(clock)


def raising(*errors: Exception) -> Reconcile:
    """Raises each once, then is done."""
    left = list(errors)

    async def reconcile(key: Key) -> Done:
        if left:
            raise left.pop(0)
        return Done()

    return reconcile


async def test_done_is_not_looked_at_again(bench: Bench) -> None:
    async with bench.running(raising()):
        bench.queue.add(A)
        await asyncio.sleep(7200)
    assert len(bench.times) == 1
    assert bench.results() == {"success": 1}
    assert bench.metric("reconcile_time_seconds_count") == 1


async def test_nothing_is_begun_before_the_gate_opens(bench: Bench) -> None:
    bench.open = False
    async with bench.running(raising(), workers=2):
        bench.queue.add(A)
        bench.queue.add(B)
        await asyncio.sleep(60)
        assert bench.times == []
        bench.open = True
        await asyncio.sleep(1)
        assert len(bench.times) == 2


async def test_a_closed_gate_keeps_nobody_from_ending(bench: Bench) -> None:
    bench.open = False
    async with bench.running(raising()):
        bench.queue.add(A)
        await asyncio.sleep(60)
        started = bench.clock.monotonic()
    assert bench.clock.monotonic() - started < 1
    assert bench.times == []


async def test_done_after_is_looked_at_again_then(bench: Bench) -> None:
    async def reconcile(key: Key) -> Done:
        return Done(after=60)

    async with bench.running(reconcile):
        bench.queue.add(A)
        await asyncio.sleep(150)
    assert [later - bench.times[0] for later in bench.times] == pytest.approx([0, 60, 120])
    assert bench.results() == {"requeue_after": 3}


async def test_a_failure_is_retried_with_backoff_until_it_succeeds(bench: Bench) -> None:
    with capture_logs() as logs:
        async with bench.running(raising(*[Unreachable("down")] * 4)):
            bench.queue.add(A)
            await asyncio.sleep(60)
    pauses = [later - earlier for earlier, later in zip(bench.times, bench.times[1:], strict=False)]
    assert pauses == pytest.approx([0.005, 0.01, 0.02, 0.04])
    assert bench.queue.requeues(A) == 0
    assert bench.results() == {"error": 4, "success": 1}
    assert bench.metric("reconcile_errors_total") == 4
    assert bench.metric("reconcile_panics_total") == 0
    assert [entry["log_level"] for entry in logs] == ["warning"] * 4


async def test_a_server_that_says_when_is_not_asked_before(bench: Bench) -> None:
    async with bench.running(raising(Throttled("slow down", retry_after=9))):
        bench.queue.add(A)
        await asyncio.sleep(60)
    assert bench.times[1] - bench.times[0] == pytest.approx(9)


async def test_what_is_terminal_is_not_retried(bench: Bench) -> None:
    with capture_logs() as logs:
        async with bench.running(raising(Unreachable("down"), TerminalError("never"))):
            bench.queue.add(A)
            await asyncio.sleep(7200)
    assert len(bench.times) == 2
    assert bench.queue.requeues(A) == 0
    assert bench.results() == {"error": 2}
    assert bench.metric("terminal_reconcile_errors_total") == 1
    assert logs[-1]["log_level"] == "error"


async def test_a_conflict_is_retried_without_ado(bench: Bench) -> None:
    with capture_logs() as logs:
        async with bench.running(raising(Conflict("moved"))):
            bench.queue.add(A)
            await asyncio.sleep(60)
    assert bench.results() == {"requeue": 1, "success": 1}
    assert bench.metric("reconcile_errors_total") == 0
    assert [entry["log_level"] for entry in logs] == ["debug"]


async def test_a_bug_is_told_with_its_traceback_and_ends_no_worker(bench: Bench) -> None:
    with capture_logs() as logs:
        async with bench.running(raising(ZeroDivisionError())):
            bench.queue.add(A)
            bench.queue.add(B)
            await asyncio.sleep(60)
    assert len(bench.times) == 3
    assert bench.metric("reconcile_panics_total") == 1
    assert bench.results() == {"error": 1, "success": 2}
    assert logs[0]["exc_info"] is True
    assert logs[0]["event"] == "reconcile panicked"


@pytest.mark.parametrize(
    ("errors", "result", "panics", "terminal"),
    [
        ([Conflict("moved"), Conflict("moved")], {"requeue": 1, "success": 1}, 0, 0),
        ([Conflict("moved"), ServerError("oops")], {"error": 1, "success": 1}, 0, 0),
        ([TerminalError("never"), ServerError("oops")], {"error": 1, "success": 1}, 0, 0),
        ([TerminalError("never"), TerminalError("ever")], {"error": 1}, 0, 1),
        ([TerminalError("never"), KeyError("x")], {"error": 1, "success": 1}, 1, 0),
    ],
)
async def test_a_group_of_errors_is_judged_by_its_leaves(
    bench: Bench, errors: list[Exception], result: dict[str, float], panics: int, terminal: int
) -> None:
    group = ExceptionGroup("tasks", [errors[0], ExceptionGroup("more", errors[1:])])
    with capture_logs():
        async with bench.running(raising(group)):
            bench.queue.add(A)
            await asyncio.sleep(60)
    assert bench.results() == result
    assert bench.metric("reconcile_panics_total") == panics
    assert bench.metric("terminal_reconcile_errors_total") == terminal


async def test_no_key_is_reconciled_twice_at_a_time(bench: Bench) -> None:
    at_work: Counter[Key] = Counter()
    most: Counter[Key] = Counter()

    async def reconcile(key: Key) -> Done:
        at_work[key] += 1
        most[key] = max(most[key], at_work[key])
        most[Key("", "all")] = max(most[Key("", "all")], at_work.total())
        await asyncio.sleep(1)
        at_work[key] -= 1
        return Done()

    async with bench.running(reconcile, workers=4):
        for _ in range(20):
            for number in range(8):
                bench.queue.add(Key("ns", str(number)))
            await asyncio.sleep(0.3)
        assert bench.metric("active_workers") == 4
        assert bench.metric("max_concurrent_reconciles") == 4
    assert most.pop(Key("", "all")) == 4
    assert set(most.values()) == {1}
    assert bench.metric("active_workers") == 0


async def test_shutdown_lets_a_reconcile_finish(bench: Bench) -> None:
    finished: list[Key] = []

    async def reconcile(key: Key) -> Done:
        await asyncio.sleep(10)
        finished.append(key)
        return Done(after=5)

    async with bench.running(reconcile):
        bench.queue.add(A)
        await asyncio.sleep(1)
    assert finished == [A]
    await bench.queue.drained()


async def test_cancelling_passes_through_and_lets_go_of_the_key(bench: Bench) -> None:
    async def reconcile(key: Key) -> Done:
        await asyncio.sleep(7200)
        return Done()

    running = asyncio.create_task(bench.controller(reconcile).run())
    bench.queue.add(A)
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    bench.queue.shut_down()
    await bench.queue.drained()
    assert bench.results() == {}


async def test_reconciles_that_never_suspend_let_others_run(bench: Bench) -> None:
    others: list[int] = []

    async def reconcile(key: Key) -> Done:
        if len(bench.times) < 100:
            bench.queue.add(key)
        return Done()

    async def other() -> None:
        while len(bench.times) < 100:
            others.append(len(bench.times))
            await asyncio.sleep(0)

    bench.queue.add(A)
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.controller(reconcile).run())
        await other()
        bench.queue.shut_down()
    assert len(others) > 90


async def test_log_lines_name_the_controller_the_object_and_the_reconcile(bench: Bench) -> None:
    seen: list[dict[str, str]] = []

    async def reconcile(key: Key) -> Done:
        seen.append(structlog.contextvars.get_contextvars())
        return Done()

    async with bench.running(reconcile):
        bench.queue.add(A)
        bench.queue.add(B)
        await asyncio.sleep(1)
    assert [(ctx["controller"], ctx["namespace"], ctx["name"]) for ctx in seen] == [
        ("memcached", "ns", "a"),
        ("memcached", "ns", "b"),
    ]
    assert seen[0]["reconcile_id"] != seen[1]["reconcile_id"]
    assert structlog.contextvars.get_contextvars() == {}
