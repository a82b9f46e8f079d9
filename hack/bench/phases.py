"""What is done to an operator, and what it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hack.bench import proc
from hack.bench.api import Pool, write
from hack.bench.features import PLAIN, Features
from hack.bench.meter import Meter, Result, busiest, latencies
from hack.bench.observer import Observer
from hack.bench.operator import Operator
from hack.bench.place import Place
from hack.bench.server import Server, fresh_server

PHASES = ("idle", "cold", "steady", "touch", "scale", "restart", "backlog")
_IDLE = 5.0  # seconds
# memop reads each CR's Secrets again after 60 s, 66 at most. Then for one such turn: every read is counted once.
_UNTIL_STEADY, _STEADY = 60.0, 66.0
_LIVE_EVERY = 0.5  # seconds
# Added to a CR's first replicas (0 to 4), so that no phase's wish is an earlier one's.
_SCALED, _BACKLOG, _LIVE = 5, 10, 30


@dataclass(frozen=True)
class Setting:
    """What every measurement of one bench shares. `timeout`: seconds that a phase may take."""

    directory: Path
    place: Place
    namespaces: int
    timeout: float
    features: Features = PLAIN

    def pools(self, first: int, end: int) -> list[Pool]:
        return [Pool(number, self.namespaces, self.features) for number in range(first, end)]


class Measurement:
    """One operator that runs on one API server, ready and quiet at first."""

    def __init__(self, setting: Setting, server: Server, operator: Operator, observer: Observer) -> None:
        self._setting = setting
        self.server = server
        self._operator = operator
        self._observer = observer

    async def phase(self, name: str, pools: Sequence[Pool]) -> Result:
        """Do one of `PHASES`. `cold` creates the pools, so all but `idle` come after it. Raises: BenchError."""
        on_pools = {"cold": self._cold, "touch": self._touch, "scale": self._scale, "backlog": self._backlog}
        if name in on_pools:
            return await on_pools[name](pools)
        alone = {"idle": self._idle, "steady": self._steady, "restart": self._restart}
        return await alone[name]()

    async def grow(self, pools: Sequence[Pool]) -> int:
        """Create pools besides those that are there; RSS in KiB when the operator is done with them."""
        self._observer.expect({pool.key: None for pool in pools})
        await write(pools, self._create)
        await self._converged()
        await self._operator.quiet()
        return proc.memory_kib(self._operator.pid)

    async def _idle(self) -> Result:
        meter = self._meter()
        seconds = await self._pass(_IDLE)
        return self._result(meter, self._operator.cpu_seconds(), {"observed_seconds": seconds})

    async def _steady(self) -> Result:
        """Nothing happens, for as long as it takes to see what an operator does on schedule."""
        await self._pass(_UNTIL_STEADY)
        position = self.server.audited()
        meter = self._meter()
        seconds = await self._pass(_STEADY)
        result = self._result(meter, self._operator.cpu_seconds(), {"observed_seconds": seconds})
        reads = self.server.times_since(position, "get secrets")
        result.figures["secret_gets_per_second"] = len(reads) / seconds
        result.figures["secret_gets_in_busiest_second"] = float(busiest(reads))
        return result

    async def _pass(self, seconds: float) -> float:
        """Let time pass; how long it was. Raises: BenchError when the operator has ended."""
        started = now = time.monotonic()
        while (left := started + seconds - now) > 0:
            await asyncio.sleep(min(left, 1.0))
            self._operator.check()
            now = time.monotonic()
        return now - started

    async def _cold(self, pools: Sequence[Pool]) -> Result:
        self._observer.expect({pool.key: None for pool in pools})
        meter = self._meter()
        sent = await write(pools, self._create)
        await self._converged()
        quiet = await self._operator.quiet()
        seen = self._observer.by_key()
        waits = [seen[key].children["Deployment"] - at for key, at in sent.items()]
        return self._result(meter, quiet.cpu, self._times(sent) | latencies(waits))

    async def _create(self, pool: Pool) -> None:
        await self.server.api.create(pool)

    async def _touch(self, pools: Sequence[Pool]) -> Result:
        meter = self._meter()
        sent = await write(pools, self.server.api.touch)
        written = time.monotonic()
        quiet = await self._operator.quiet()
        seconds = max(quiet.since, written) - min(sent.values())
        return self._result(meter, quiet.cpu, {"seconds_to_converge": seconds})

    async def _scale(self, pools: Sequence[Pool]) -> Result:
        self._observer.expect({pool.key: pool.replicas + _SCALED for pool in pools})
        meter = self._meter()
        sent = await write(pools, lambda pool: self.server.api.scale(pool, pool.replicas + _SCALED))
        await self._converged()
        quiet = await self._operator.quiet()
        return self._result(meter, quiet.cpu, self._times(sent) | latencies(self._waits(sent)))

    async def _restart(self) -> Result:
        self._operator.stop()
        meter = Meter(self.server, self._setting.place)
        started = self._operator.start()
        await self._operator.ready()
        ready = time.monotonic()
        quiet = await self._operator.quiet()
        return self._result(meter, quiet.cpu, {"seconds_to_converge": max(quiet.since, ready) - started})

    async def _backlog(self, pools: Sequence[Pool]) -> Result:
        """The operator's list is in the order of the keys: who takes it as it comes reaches the live changes last."""
        self._operator.stop()
        await write(pools, lambda pool: self.server.api.scale(pool, pool.replicas + _BACKLOG))
        self._observer.expect({pool.key: pool.replicas + _BACKLOG for pool in pools})
        meter = Meter(self.server, self._setting.place)
        started = self._operator.start()
        await self._until(lambda: self._observer.done > 0)
        sent: dict[str, float] = {}
        for pool in sorted(pools, key=lambda pool: (pool.namespace, pool.name), reverse=True):
            if self._observer.converged.is_set():
                break
            self._observer.want(pool.key, _LIVE)
            sent[pool.key] = time.monotonic()
            await self.server.api.scale(pool, _LIVE)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._observer.converged.wait(), _LIVE_EVERY)
            self._operator.check()
        await self._converged()
        converged = self._observer.converged_at
        quiet = await self._operator.quiet()
        figures = {"seconds_to_converge": converged - started, "live_changes": float(len(sent))}
        return self._result(meter, quiet.cpu, figures | latencies(self._waits(sent)))

    def _meter(self) -> Meter:
        proc.reset_peak(self._operator.pid)
        return Meter(self.server, self._setting.place, self._operator.cpu_seconds)

    def _result(self, meter: Meter, cpu: float, figures: Mapping[str, float]) -> Result:
        result = meter.read(cpu)
        memory = {
            "rss_kib": float(proc.memory_kib(self._operator.pid)),
            "peak_rss_kib": float(proc.memory_kib(self._operator.pid, "VmHWM")),
        }
        return Result({**figures, **result.figures, **memory}, result.requests)

    def _times(self, sent: Mapping[str, float]) -> dict[str, float]:
        return {"seconds_to_converge": self._observer.converged_at - min(sent.values())}

    def _waits(self, sent: Mapping[str, float]) -> list[float]:
        """Seconds from the write of new replicas to the Deployment that has them."""
        seen = self._observer.by_key()
        return [seen[key].replicas_at - at for key, at in sent.items()]

    async def _converged(self) -> None:
        await self._until(self._observer.converged.is_set)

    async def _until(self, condition: Callable[[], bool]) -> None:
        operator = self._operator
        await self._observer.until(condition, self._setting.timeout, log=operator.log, check=operator.check)


@asynccontextmanager
async def running(setting: Setting, command: str) -> AsyncIterator[Measurement]:
    """An operator on an API server of its own, ready and quiet; both gone at the end."""
    async with (
        fresh_server(setting.directory, setting.place, setting.namespaces, setting.features) as server,
        Observer(server.api, setting.features.children) as seen,
    ):
        operator = Operator(
            command,
            server,
            setting.place,
            log=setting.directory / "operator.log",
            timeout=setting.timeout,
            share=setting.features.quiet,
        )
        try:
            operator.start()
            await operator.ready()
            await operator.quiet()
            yield Measurement(setting, server, operator, seen)
        finally:
            operator.kill()
