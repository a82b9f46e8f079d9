"""Time that jumps: an event loop which, when it would wait, moves its clock to the next timer instead."""

import asyncio
import selectors
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from memop.clock import Clock

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# Not 0: a deadline that somebody left at 0 must lie in the past.
START = 1000.0


class Deadlock(RuntimeError):
    """Every task waits, no timer is set and nothing outside the loop could wake it: for real, it would hang."""


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for real only where something real can happen: a registered file or another thread."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if len(self.get_map()) > 1:  # more than the loop's own wake-up pipe
            return self._wait_for_real(timeout)
        if timeout is None:
            if threading.active_count() > 1:
                return super().select(None)
            raise Deadlock("every task waits and no timer is set")
        self._advance(timeout)
        return []

    def _wait_for_real(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        if not ready and timeout is not None:
            self._advance(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A selector loop whose `time()` stands still while code runs and jumps to the next timer when nothing is ready.

    With sockets or pipes registered it waits for real, so that mixing is slow but never wrong; tests about
    sockets take the marker `real_loop`.
    """

    def __init__(self) -> None:
        self._virtual_now = START
        super().__init__(_JumpingSelector(self._advance))
        # A year in seconds is a float too coarse for the usual nanosecond: a timer would be due and never run.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._virtual_now

    def _advance(self, seconds: float) -> None:
        self._virtual_now += seconds


class VirtualClock(Clock):
    """Wall-clock time that starts at `EPOCH` and follows the loop."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.monotonic() - START)
