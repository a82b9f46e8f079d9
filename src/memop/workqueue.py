"""The queue between informers and workers, after client-go's workqueue and controller-runtime's priority queue.

Its promises:

* *Stingy*: a key that waits is there once, however often it is added.
* *Exclusive*: a key that one worker holds is handed to no other.
* *Nothing is lost*: a key added while a worker holds it is handed out again after `done`.
* *Fair*: higher priority first; within a priority, first in, first out. Adding again can only raise a priority.
* *Delays merge*: of several delays for a key the earliest counts, and handing the key out settles the rest: whoever
  looks at it then decides anew when to look again.
* *Shutdown drains* (client-go's ShutDownWithDrain): nothing more is accepted and delayed keys are dropped; what waits,
  and what was added before while a worker held it, is still handed out. Then `get` raises `ShutDown`.

Every change is synchronous: nothing awaits between two of them, so no lock is needed. Everything, the metrics' scrape
included, happens on the loop's own thread.
"""

import asyncio
import heapq
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from memop.clock import Clock
from memop.metrics import QueueMetrics

LIVE = 0
INITIAL = -100  # keys of a first list wait behind live changes

# client-go's ItemExponentialFailureRateLimiter
BASE_BACKOFF = 0.005
MAX_BACKOFF = 1000.0

K = TypeVar("K", bound=Hashable)


class ShutDown(Exception):
    """The queue was shut down and is empty."""


class _Delayed(NamedTuple, Generic[K]):
    when: float
    order: int  # ties: keys need not be comparable
    key: K
    priority: int


class WorkQueue(Generic[K]):
    """Hands each key to one worker at a time; see the module's promises."""

    def __init__(self, name: str, *, clock: Clock, metrics: QueueMetrics) -> None:
        self.name = name
        self._clock = clock
        # A key is in at most one level, and then not in processing; in `again` only while in processing.
        self._levels: dict[int, OrderedDict[K, float]] = {}  # priority, highest first -> key -> since when it waits
        self._processing: dict[K, float] = {}  # key -> since when a worker holds it
        self._again: dict[K, int] = {}  # added while held -> priority
        self._failures: dict[K, int] = {}
        # The heap may hold entries that `delayed` no longer does; identity tells.
        self._delayed: dict[K, _Delayed[K]] = {}
        self._heap: list[_Delayed[K]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None
        self._getters: deque[asyncio.Future[None]] = deque()
        self.shutting_down = False
        self._drained = asyncio.Event()

        labels = (name, name)
        self._adds = metrics.adds.labels(*labels)
        self._retries = metrics.retries.labels(*labels)
        self._queue_duration = metrics.queue_duration.labels(*labels)
        self._work_duration = metrics.work_duration.labels(*labels)
        metrics.depth.labels(*labels).set_function(self.__len__)
        metrics.unfinished.labels(*labels).set_function(self._unfinished)
        metrics.longest.labels(*labels).set_function(self._longest)

    def __len__(self) -> int:
        """Keys ready to be handed out: neither delayed nor held."""
        return sum(map(len, self._levels.values()))

    def add(self, key: K, *, priority: int = LIVE, unless_held: bool = False) -> None:
        """Hand `key` out as soon as its turn comes; `unless_held`: not if a worker holds it, who knows already."""
        if self.shutting_down:
            return
        if key in self._processing:
            if unless_held:
                return
            held = self._again.get(key)
            if held is None:
                self._adds.inc()
            if held is None or priority > held:
                self._again[key] = priority
            return
        since = None
        for level, keys in self._levels.items():
            if key in keys:
                if level >= priority:
                    return
                since = keys.pop(key)
                break
        if since is None:
            self._adds.inc()
            since = self._clock.monotonic()
        self._enqueue(key, priority, since)

    def add_after(self, key: K, seconds: float, *, priority: int = LIVE) -> None:
        """Add `key` in `seconds`, unless it is to be added earlier already."""
        if self.shutting_down:
            return
        self._retries.inc()
        if seconds <= 0:
            self.add(key, priority=priority)
            return
        when = self._clock.monotonic() + seconds
        if (known := self._delayed.get(key)) is not None:
            if known.when <= when and known.priority >= priority:
                return
            when, priority = min(when, known.when), max(priority, known.priority)
        self._order += 1
        self._delayed[key] = entry = _Delayed(when, self._order, key, priority)
        if len(self._heap) > 2 * len(self._delayed) + 64:  # mostly settled entries
            self._heap = list(self._delayed.values())
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._set_timer()

    def add_rate_limited(self, key: K, *, at_least: float = 0.0) -> None:
        """Add `key` after a delay that doubles with every call until `forget`, and is no shorter than `at_least`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(BASE_BACKOFF * 2 ** min(failures, 32), MAX_BACKOFF)
        self.add_after(key, max(backoff, at_least))

    def forget(self, key: K) -> None:
        """The key fares well: its next rate-limited delay is the shortest again."""
        self._failures.pop(key, None)

    def requeues(self, key: K) -> int:
        """How often the key was rate-limited since it was last forgotten."""
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key, for the caller alone until it calls `done`. Raises `ShutDown` when there will be none."""
        while (level := self._highest()) is None:
            if self._is_drained():
                raise ShutDown
            getter = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled():
                    self._wake()  # the key that this one was woken for is another's
                raise
        key, since = level.popitem(last=False)
        self._delayed.pop(key, None)
        now = self._clock.monotonic()
        self._processing[key] = now
        self._queue_duration.observe(now - since)
        return key

    def done(self, key: K) -> None:
        """The caller of `get` lets go of the key."""
        now = self._clock.monotonic()
        self._work_duration.observe(now - self._processing.pop(key))
        if (priority := self._again.pop(key, None)) is not None:
            self._enqueue(key, priority, now)
        elif self.shutting_down:
            self._announce_if_drained()

    def shut_down(self, *, drop_waiting: bool = False) -> None:
        """Accept no more keys; with `drop_waiting`, hand out none either (the next leader lists them all anyway)."""
        self.shutting_down = True
        self._delayed.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if drop_waiting:
            self._levels.clear()
            self._again.clear()
        self._announce_if_drained()

    async def drained(self) -> None:
        """Returns once the queue was shut down and the last key is done."""
        await self._drained.wait()

    def _enqueue(self, key: K, priority: int, since: float) -> None:
        if priority not in self._levels:
            self._levels[priority] = OrderedDict()
            self._levels = dict(sorted(self._levels.items(), reverse=True))
        self._levels[priority][key] = since
        self._wake()

    def _highest(self) -> "OrderedDict[K, float] | None":
        for keys in self._levels.values():
            if keys:
                return keys
        return None

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._heap[0].when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        while self._heap:
            entry = self._heap[0]
            due = entry.when <= now
            if self._delayed.get(entry.key) is entry:
                if not due:
                    self._set_timer()
                    return
                del self._delayed[entry.key]
                self.add(entry.key, priority=entry.priority)
            heapq.heappop(self._heap)

    def _is_drained(self) -> bool:
        return self.shutting_down and not self._again and self._highest() is None

    def _announce_if_drained(self) -> None:
        if not self._is_drained():
            return
        for getter in self._getters:
            if not getter.done():
                getter.set_result(None)
        self._getters.clear()
        if not self._processing:
            self._drained.set()

    def _unfinished(self) -> float:
        now = self._clock.monotonic() if self._processing else 0.0
        return sum(now - since for since in self._processing.values())

    def _longest(self) -> float:
        return self._clock.monotonic() - min(self._processing.values()) if self._processing else 0.0
