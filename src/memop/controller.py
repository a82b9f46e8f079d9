"""Key → reconcile → outcome: workers that take keys from a queue, and one `match` over what became of each."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from memop.clock import Clock
from memop.errors import ApiError, Conflict, MemopError, TerminalError
from memop.metrics import ControllerMetrics
from memop.refs import Key
from memop.workqueue import ShutDown, WorkQueue

GATE_PAUSE = 0.1  # seconds between two looks at a closed gate

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """The object is as it should be, as far as is in our hands; look again in `after` seconds, if given."""

    after: float | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Try again, later and later."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Terminal:
    """Nothing helps until the object changes."""

    error: Exception


Outcome = Done | Failed | Terminal
Reconcile = Callable[[Key], Awaitable[Done]]


class Controller:
    """Runs `reconcile` for every key of `queue`, in `workers` tasks of one loop; begins none while `gate()` is False.

    A reconcile says what became of the key by what it returns or raises: `Done`; `TerminalError`, not retried; any
    other exception, retried with the queue's backoff, or after the server's Retry-After if that is longer. A `Conflict`
    is everyday business and retried quietly; an exception that is not a `MemopError` is a bug: it is logged with its
    traceback and counted as a panic, and never ends the worker. An exception group is judged by its leaves.
    """

    def __init__(
        self,
        name: str,
        queue: WorkQueue[Key],
        reconcile: Reconcile,
        *,
        workers: int,
        clock: Clock,
        metrics: ControllerMetrics,
        gate: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self._queue = queue
        self._reconcile = reconcile
        self._gate = gate
        self._workers = workers
        self._clock = clock
        self._active = 0
        # A labelled child costs a lookup under a lock: once, here. It also makes each series exist from the start.
        self._succeeded = metrics.total.labels(name, "success")
        self._failed = metrics.total.labels(name, "error")
        self._requeued = metrics.total.labels(name, "requeue")
        self._requeued_after = metrics.total.labels(name, "requeue_after")
        self._errors = metrics.errors.labels(name)
        self._terminal_errors = metrics.terminal_errors.labels(name)
        self._panics = metrics.panics.labels(name)
        self._seconds = metrics.seconds.labels(name)
        metrics.active_workers.labels(name).set_function(lambda: self._active)
        metrics.max_workers.labels(name).set(workers)

    async def run(self) -> None:
        """Reconcile until the queue is shut down and drained."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}-worker-{number}")

    async def _work(self) -> None:
        bind_contextvars(controller=self.name)  # the task's own context: ends with it
        while True:
            try:
                key = await self._queue.get()
            except ShutDown:
                return
            self._active += 1
            try:
                while not self._gate():
                    if self._queue.shutting_down:
                        return
                    await self._clock.sleep(GATE_PAUSE)
                await self._process(key)
            finally:
                self._active -= 1
                self._queue.done(key)
            # A queue full of converged objects, whose reconciles never suspend, must not starve the loop.
            await asyncio.sleep(0)

    async def _process(self, key: Key) -> None:
        # Cheaper by half than bound_contextvars; nothing else in this task's context is called like these.
        bind_contextvars(namespace=key.namespace, name=key.name, reconcile_id=secrets.token_hex(8))
        try:
            started = self._clock.monotonic()
            outcome = await self._attempt(key)
            self._seconds.observe(self._clock.monotonic() - started)
            self._settle(key, outcome)
        finally:
            unbind_contextvars("namespace", "name", "reconcile_id")

    async def _attempt(self, key: Key) -> Outcome:
        try:
            return await self._reconcile(key)
        except Exception as error:
            leaves = list(_leaves(error))
            if all(isinstance(leaf, TerminalError) for leaf in leaves):
                return Terminal(error)
            if not all(isinstance(leaf, MemopError) for leaf in leaves):
                self._panics.inc()
                log.exception("reconcile panicked")
            return Failed(error)

    def _settle(self, key: Key, outcome: Outcome) -> None:
        match outcome:
            case Done(after=None):
                self._queue.forget(key)
                self._succeeded.inc()
            case Done(after=float() | int() as after):
                self._queue.forget(key)
                self._queue.add_after(key, after)
                self._requeued_after.inc()
            case Terminal(error):
                self._queue.forget(key)
                self._failed.inc()
                self._errors.inc()
                self._terminal_errors.inc()
                log.error("reconcile failed for good: waiting for a change", error=_describe(error))
            case Failed(error) if all(isinstance(leaf, Conflict) for leaf in _leaves(error)):
                self._queue.add_rate_limited(key, at_least=_retry_after(error))
                self._requeued.inc()
                log.debug("conflict: observing again", error=_describe(error))
            case Failed(error):
                self._queue.add_rate_limited(key, at_least=_retry_after(error))
                self._failed.inc()
                self._errors.inc()
                log.warning("reconcile failed", error=_describe(error), failures=self._queue.requeues(key))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for child in error.exceptions:
            yield from _leaves(child)
    else:
        yield error


def _retry_after(error: Exception) -> float:
    return max((leaf.retry_after or 0.0 for leaf in _leaves(error) if isinstance(leaf, ApiError)), default=0.0)


def _describe(error: Exception) -> str:
    return "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in _leaves(error))
