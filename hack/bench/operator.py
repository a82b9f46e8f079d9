"""An operator under measurement: any command that reads KUBECONFIG."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import aiohttp

from hack.bench import proc
from hack.bench.errors import BenchError
from hack.bench.place import Place
from hack.bench.quiet import Quiet, quiet
from hack.bench.server import Server

_GRACE = 30.0  # seconds between SIGTERM and SIGKILL
# So often, 50 ms apart, the queue is looked at: one item that came on schedule is no backlog.
_LOOKS, _BETWEEN = 5, 0.05
# Any operator made with controller-runtime has these, and memop too.
_QUEUE = re.compile(r"^(?:workqueue_depth|workqueue_unfinished_work_seconds)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


def queued(metrics: str) -> float:
    """0 when a metrics page says that no work is queued or under way, or says nothing of queues."""
    return sum(map(float, _QUEUE.findall(metrics)))


class Operator:
    """One operator on one API server; started and stopped as often as wanted."""

    def __init__(self, command: str, server: Server, place: Place, *, log: Path, timeout: float, share: float) -> None:
        """`share` of a CPU: who uses less has nothing to do."""
        self._server = server
        self._place = place
        self.log = log
        self._timeout = timeout
        self._share = share
        self._health = place.address() if "{health}" in command else ""
        self._metrics = place.address() if "{metrics}" in command else ""
        filled = {"{health}": self._health, "{metrics}": self._metrics, "{kubeconfig}": str(server.kubeconfig)}
        for placeholder, value in filled.items():
            command = command.replace(placeholder, value)
        self._command = place.enter(shlex.split(command))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BenchError("the operator does not run")
        return self._process.pid

    def cpu_seconds(self) -> float:
        return proc.cpu_seconds(self.pid) if self._process else 0.0

    def start(self) -> float:
        """The monotonic time of the start. Raises: BenchError."""
        started = time.monotonic()
        try:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "KUBECONFIG": str(self._server.kubeconfig)},
                    start_new_session=True,  # ctrl-C is for the bench, which ends it
                )
        except OSError as error:
            raise BenchError(f"the operator cannot be started: {error}") from error
        return started

    def check(self) -> None:
        """Raises: BenchError when it has ended by itself."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise BenchError(f"the operator ended with exit code {code}", log=self.log)

    async def ready(self) -> None:
        """Wait for /readyz; at once where the command has no {health}. Raises: BenchError."""
        if not self._health:
            return
        deadline = time.monotonic() + self._timeout
        while await self._get(self._health, "/readyz") is None:
            self.check()
            if time.monotonic() > deadline:
                raise BenchError(f"the operator is not ready after {self._timeout:g} s", log=self.log)
            await asyncio.sleep(0.02)

    async def quiet(self) -> Quiet:
        """Wait until it has nothing to do. Raises: BenchError.

        The metrics are asked only when the CPU is quiet, and after the CPU time is known: a page costs the operator.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                found = await quiet(self.cpu_seconds, share=self._share, seconds=self._timeout, check=self.check)
            except BenchError as error:
                raise BenchError(f"the operator is {error}", log=self.log) from error
            if await self._queue_empty():
                return found
            if time.monotonic() > deadline:
                raise BenchError(f"the operator's queue is not empty after {self._timeout:g} s", log=self.log)

    async def _queue_empty(self) -> bool:
        """Whether it is now and then, which it is not while there is a backlog; True where metrics do not tell."""
        for look in range(_LOOKS if self._metrics else 0):
            if look:
                await asyncio.sleep(_BETWEEN)
            if not queued(await self._get(self._metrics, "/metrics") or ""):
                return True
        return not self._metrics

    async def _get(self, address: str, path: str) -> str | None:
        timeout = aiohttp.ClientTimeout(total=10)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://{address}{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None

    def stop(self) -> None:
        """SIGTERM to all of it. Raises: BenchError when it has not ended after 30 seconds."""
        self._signal(signal.SIGTERM)
        try:
            self._wait(_GRACE)
        except subprocess.TimeoutExpired:
            raise BenchError(f"the operator did not end within {_GRACE:g} s of SIGTERM", log=self.log) from None

    def kill(self) -> None:
        """End it now, if it runs."""
        self._signal(signal.SIGKILL)
        self._wait(_GRACE)

    def _signal(self, sign: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, sign)

    def _wait(self, seconds: float) -> None:
        if self._process is not None:
            self._process.wait(seconds)
            self._process = None
