"""When a process has nothing to do, told by its CPU time, which works for every operator."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hack.bench.errors import BenchError

WINDOW = 1.0  # seconds
_STEP = 0.1  # seconds between samples; so exact is the moment of the last activity
_BUSY = 0.5  # of a CPU between two samples: that is work, whatever the share over the whole window


@dataclass(frozen=True, slots=True)
class Quiet:
    """A process had nothing to do from `since` (monotonic) on; `cpu` are its CPU seconds when that was known."""

    since: float
    cpu: float


async def quiet(
    cpu: Callable[[], float],
    *,
    share: float,
    seconds: float,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Quiet:
    """Wait until `cpu` grew by less than `share` of a CPU over one second.

    Raises: BenchError after so many `seconds`; what `check`, called at every sample, raises.
    """
    deadline = clock() + seconds
    samples = deque([(clock(), cpu())])
    while True:
        await asyncio.sleep(_STEP)
        check()
        now = clock()
        samples.append((now, cpu()))
        while len(samples) > 1 and samples[1][0] <= now - WINDOW:
            samples.popleft()
        (since, before), (_, after) = samples[0], samples[-1]
        if now - since < WINDOW:
            continue
        used = (after - before) / (now - since)
        if used < share:
            return Quiet(_after_last_work(samples), after)
        if now > deadline:
            raise BenchError(f"not quiet after {seconds:g} s: it still uses {used:.0%} of a CPU")


def _after_last_work(samples: Sequence[tuple[float, float]]) -> float:
    """When work ended within a quiet window, which starts with its end where the share is wide: else the start."""
    since = samples[0][0]
    for (start, before), (end, after) in pairwise(samples):
        if after - before >= _BUSY * (end - start):
            since = end
    return since
