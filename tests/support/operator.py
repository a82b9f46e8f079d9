"""memop as users run it: `memop run` in a process of its own, told about by its health endpoint and its log."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

from tests.support.kubectl import eventually


def free_port() -> int:
    """Below the range that outgoing connections take theirs from: memop binds it seconds later."""
    while True:
        port = random.randrange(20000, 32000)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Operator:
    """One `memop run`; a context manager that stops it by SIGTERM."""

    kubeconfig: ClassVar[Path | None] = None
    """Whose rights it has; None: those of the tests."""

    def __init__(self, log: Path, *flags: str, environ: dict[str, str] | None = None) -> None:
        self.log_path = log
        self._flags = flags
        self._environ = {**os.environ, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._health = f"127.0.0.1:{free_port()}"
        self._metrics = f"127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until /readyz says ok."""
        command = [
            *(sys.executable, "-W", "error", "-m", "memop.cli", "run"),
            f"--health-probe-bind-address={self._health}",
            f"--metrics-bind-address={self._metrics}",
            "--metrics-secure=false",
            "--log-format=json",
            *((f"--kubeconfig={self.kubeconfig}",) if self.kubeconfig else ()),
            *self._flags,
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environ)
        if ready:
            eventually(self.assert_ready, timeout=90, interval=0.05)  # a busy machine

    def assert_ready(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise RuntimeError(f"memop ended with {code}:\n{self.log_path.read_text()[-3000:]}")
        assert self.probe("readyz")[0] == 200, self.probe("readyz?verbose")[1]

    def probe(self, path: str) -> tuple[int, str]:
        """Status and body of a health endpoint; status 0 where nothing answers."""
        try:
            with urllib.request.urlopen(f"http://{self._health}/{path}", timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def stop(self, *, timeout: float = 30) -> int:
        """SIGTERM, as kubelet sends it; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def log(self) -> list[dict[str, Any]]:
        """Every line of the log: it is JSON to the last one."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]
