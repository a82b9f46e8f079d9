"""The queue keeps the promises at the top of its module."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from memop.metrics import QueueMetrics
from memop.workqueue import INITIAL, LIVE, ShutDown, WorkQueue
from tests.unit.virtual_time import VirtualClock, VirtualTimeLoop


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def queue(clock: VirtualClock, registry: CollectorRegistry) -> WorkQueue[str]:
    return WorkQueue("test", clock=clock, metrics=QueueMetrics(registry))


def metric(registry: CollectorRegistry, name: str) -> float | None:
    return registry.get_sample_value(f"workqueue_{name}", {"name": "test", "controller": "test"})


async def take_all(queue: WorkQueue[str]) -> list[str]:
    taken = []
    while len(queue):
        taken.append(await queue.get())
        queue.done(taken[-1])
    return taken


async def test_a_waiting_key_is_there_once(queue: WorkQueue[str]) -> None:
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert await take_all(queue) == ["a", "b"]


async def test_a_key_added_while_held_comes_again_after_done_and_not_before(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await take_all(queue) == ["a"]


async def test_live_changes_go_before_the_initial_list(queue: WorkQueue[str]) -> None:
    queue.add("old-1", priority=INITIAL)
    queue.add("old-2", priority=INITIAL)
    queue.add("live-1")
    queue.add("old-2")
    assert await take_all(queue) == ["live-1", "old-2", "old-1"]


async def test_adding_again_never_lowers_a_priority(queue: WorkQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("a", priority=INITIAL)
    assert await take_all(queue) == ["a", "b"]


async def test_a_key_added_while_held_keeps_the_highest_priority(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    for priority in (INITIAL, LIVE, INITIAL):
        queue.add("a", priority=priority)
    queue.add("b", priority=INITIAL)
    queue.done("a")
    assert await take_all(queue) == ["a", "b"]


async def test_of_several_delays_the_earliest_counts(queue: WorkQueue[str], clock: VirtualClock) -> None:
    start = clock.monotonic()
    queue.add_after("a", 30)
    queue.add_after("a", 10)
    queue.add_after("a", 20)
    assert await queue.get() == "a"
    assert clock.monotonic() - start == pytest.approx(10)
    queue.done("a")
    await asyncio.sleep(60)
    assert len(queue) == 0


async def test_delays_end_in_their_order(queue: WorkQueue[str], clock: VirtualClock) -> None:
    start = clock.monotonic()
    for key, seconds in (("c", 30), ("a", 10), ("b", 20)):
        queue.add_after(key, seconds)
    seen = [(await queue.get(), clock.monotonic() - start) for _ in range(3)]
    assert [key for key, _ in seen] == ["a", "b", "c"]
    assert [when for _, when in seen] == pytest.approx([10, 20, 30])


async def test_handing_a_key_out_settles_its_delays(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 10)
    queue.add("a")
    queue.done(await queue.get())
    await asyncio.sleep(20)
    assert len(queue) == 0


async def test_a_delay_asked_for_while_held_survives(queue: WorkQueue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add_after(key, 10)
    queue.done(key)
    assert len(queue) == 0
    assert await queue.get() == "a"


async def test_a_delay_without_length_is_none(queue: WorkQueue[str]) -> None:
    queue.add_after("a", 0)
    assert len(queue) == 1


async def test_many_renewed_delays_do_not_pile_up(queue: WorkQueue[str]) -> None:
    for number in range(10_000):
        queue.add_after("a", 1000 - number / 100)
    assert len(queue._heap) < 100


async def test_backoff_doubles_from_5_ms_to_1000_s_until_forgotten(queue: WorkQueue[str], clock: VirtualClock) -> None:
    delays = []
    for _ in range(21):
        start = clock.monotonic()
        queue.add_rate_limited("a")
        queue.done(await queue.get())
        delays.append(clock.monotonic() - start)
    assert delays == pytest.approx([min(0.005 * 2**n, 1000) for n in range(21)])
    assert queue.requeues("a") == 21
    queue.forget("a")
    assert queue.requeues("a") == 0
    start = clock.monotonic()
    queue.add_rate_limited("a")
    await queue.get()
    assert clock.monotonic() - start == pytest.approx(0.005)


async def test_a_longer_wait_that_the_server_asked_for_is_kept(queue: WorkQueue[str], clock: VirtualClock) -> None:
    start = clock.monotonic()
    queue.add_rate_limited("a", at_least=7)
    await queue.get()
    assert clock.monotonic() - start == pytest.approx(7)


async def test_shutdown_hands_out_what_waits_and_drops_what_is_delayed(queue: WorkQueue[str]) -> None:
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("b")
    queue.add_after("c", 1)
    queue.shut_down()
    queue.add("d")
    queue.add_after("d", 0)
    queue.add_rate_limited("d")
    assert await queue.get() == "b"
    queue.done("a")
    assert await queue.get() == "a"
    with pytest.raises(ShutDown):
        await queue.get()
    assert not queue._drained.is_set()
    queue.done("a")
    queue.done("b")
    await queue.drained()


async def test_shutdown_may_leave_what_waits_to_the_next_leader(queue: WorkQueue[str]) -> None:
    for key in ("a", "b"):
        queue.add(key)
    key = await queue.get()
    queue.add(key)
    queue.shut_down(drop_waiting=True)
    queue.done(key)
    await queue.drained()
    with pytest.raises(ShutDown):
        await queue.get()


async def test_shutdown_frees_every_waiting_worker(queue: WorkQueue[str]) -> None:
    queue.add("a")
    await queue.get()
    queue.add("a")
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(1)
    queue.shut_down()
    await asyncio.sleep(1)
    assert not any(task.done() for task in waiting)  # "a" is still to come
    queue.done("a")
    await asyncio.sleep(1)
    queue.done("a")
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sorted(map(repr, results)) == ["'a'", "ShutDown()", "ShutDown()"]


async def test_a_cancelled_worker_passes_its_turn_on(queue: WorkQueue[str]) -> None:
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await second == "a"
    with suppress(asyncio.CancelledError):
        await first


async def test_metrics_tell_what_client_go_tells(queue: WorkQueue[str], registry: CollectorRegistry) -> None:
    queue.add("a")
    queue.add("a")
    queue.add("b", priority=INITIAL)
    queue.add("b")
    assert metric(registry, "adds_total") == 2
    assert metric(registry, "depth") == 2
    await asyncio.sleep(3)
    await queue.get()
    await asyncio.sleep(5)
    await queue.get()
    await asyncio.sleep(7)
    assert metric(registry, "depth") == 0
    assert metric(registry, "queue_duration_seconds_sum") == pytest.approx(3 + 8)
    assert metric(registry, "unfinished_work_seconds") == pytest.approx(12 + 7)
    assert metric(registry, "longest_running_processor_seconds") == pytest.approx(12)
    queue.add("a")
    queue.add("a")
    assert metric(registry, "adds_total") == 3
    queue.done("a")
    assert metric(registry, "work_duration_seconds_sum") == pytest.approx(12)
    queue.add_after("c", 5)
    queue.add_rate_limited("b")
    assert metric(registry, "retries_total") == 2
    assert metric(registry, "adds_total") == 3
    queue.done("b")
    queue.done(await queue.get())
    assert metric(registry, "unfinished_work_seconds") == 0
    assert metric(registry, "longest_running_processor_seconds") == 0


KEYS = st.sampled_from("abcde")
PRIORITIES = st.sampled_from([INITIAL, LIVE, 7])


class QueueMachine(RuleBasedStateMachine):
    """The queue against the plainest model: a list of what waits, a set of what is held, a dict of deadlines."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.clock = VirtualClock()
        self.queue: WorkQueue[str] = WorkQueue("test", clock=self.clock, metrics=QueueMetrics(CollectorRegistry()))
        self.waiting: list[tuple[str, int]] = []
        self.held: set[str] = set()
        self.again: dict[str, int] = {}
        self.delayed: dict[str, tuple[float, int, int]] = {}  # deadline, order, priority
        self.order = 0
        self.failures: dict[str, int] = defaultdict(int)
        self.shut = False

    def teardown(self) -> None:
        self.loop.close()

    def do(self, function: Any, *args: Any, **kwargs: Any) -> None:
        async def run() -> None:
            function(*args, **kwargs)

        self.loop.run_until_complete(run())

    def model_add(self, key: str, priority: int) -> None:
        if key in self.held:
            self.again[key] = max(priority, self.again.get(key, priority))
            return
        for entry in self.waiting:
            if entry[0] == key:
                if entry[1] >= priority:
                    return
                self.waiting.remove(entry)
                break
        self.waiting.append((key, priority))

    def expected(self) -> str | None:
        return max(self.waiting, key=lambda entry: entry[1])[0] if self.waiting else None

    @rule(key=KEYS, priority=PRIORITIES)
    def add(self, key: str, priority: int) -> None:
        self.do(self.queue.add, key, priority=priority)
        if not self.shut:
            self.model_add(key, priority)

    # Delays are never whole, time passes in whole seconds: no deadline falls on the moment that it is asked about.
    @rule(key=KEYS, seconds=st.just(0.0) | st.integers(0, 9).map(lambda whole: whole + 0.5), priority=PRIORITIES)
    def add_after(self, key: str, seconds: float, priority: int) -> None:
        self.do(self.queue.add_after, key, seconds, priority=priority)
        if self.shut:
            return
        if seconds == 0:
            self.model_add(key, priority)
            return
        self.order += 1
        when, order = self.loop.time() + seconds, self.order
        if key in self.delayed:
            known, _, known_priority = self.delayed[key]
            if known <= when and known_priority >= priority:
                return
            when, priority = min(known, when), max(known_priority, priority)
        self.delayed[key] = (when, order, priority)

    @rule(seconds=st.integers(1, 6))
    def pass_time(self, seconds: int) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        for key in sorted(self.delayed, key=lambda key: self.delayed[key][:2]):
            when, _, priority = self.delayed[key]
            if when <= self.loop.time():
                del self.delayed[key]
                self.model_add(key, priority)

    @precondition(lambda self: self.waiting)
    @rule()
    def get(self) -> None:
        expected = self.expected()
        assert expected is not None
        got = self.loop.run_until_complete(self.queue.get())
        assert got == expected
        assert got not in self.held
        self.waiting = [entry for entry in self.waiting if entry[0] != got]
        self.delayed.pop(got, None)
        self.held.add(got)

    @precondition(lambda self: not self.waiting and not self.delayed and not self.shut)
    @rule()
    def get_finds_nothing(self) -> None:
        async def try_get() -> None:
            async with asyncio.timeout(1e-7):
                await self.queue.get()

        with pytest.raises(TimeoutError):
            self.loop.run_until_complete(try_get())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.do(self.queue.done, key)
        self.held.remove(key)
        if key in self.again:
            self.waiting.append((key, self.again.pop(key)))

    @precondition(lambda self: not self.shut)
    @rule(rarely=st.integers(0, 9))
    def shut_down(self, rarely: int) -> None:
        if rarely == 0:
            self.do(self.queue.shut_down)
            self.shut = True
            self.delayed.clear()

    @invariant()
    def the_length_is_what_waits(self) -> None:
        assert len(self.queue) == len(self.waiting)

    @invariant()
    def it_is_drained_when_nothing_is_left(self) -> None:
        left = self.waiting or self.held or self.again
        assert self.queue._drained.is_set() == (self.shut and not left)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
