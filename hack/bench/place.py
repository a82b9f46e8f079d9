"""Where things run.

As root the whole bench runs in PID, mount and network namespaces of its own, with the API server on their loopback, and
what is measured runs in one more network namespace, joined by two veth pairs: one for the API server, whose counters
are the bytes, and one for probes, which so are not counted. No namespace has a name: all end with the bench's process,
and every process and interface in them with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from hack.bench import proc
from hack.bench.errors import BenchError
from hack.cluster.errors import ClusterError
from hack.cluster.network import NODE_IP
from hack.cluster.processes import wait_for

_CLONE_NEWPID = 0x20000000
_INSIDE = "MEMOP_BENCH_DIRECTORY"

# The API server's certificate is good for NODE_IP; every network here is our own, so the address is free.
_API, _PROBE = "api1", "probe1"
_OUTER = f"""\
link set lo up
link add api0 type veth peer name {_API}
link add probe0 type veth peer name {_PROBE}
link set {_API} netns {{pid}}
link set {_PROBE} netns {{pid}}
address add {NODE_IP}/24 dev api0
address add 198.18.1.1/24 dev probe0
link set api0 up
link set probe0 up
"""
_INNER = f"""\
link set lo up
address add 198.18.0.2/24 dev {_API}
address add 198.18.1.2/24 dev {_PROBE}
link set {_API} up
link set {_PROBE} up
"""


class Place(Protocol):
    """Where an operator or the limit's client runs."""

    @property
    def api_host(self) -> str:
        """Where the API server is, seen from there."""

    @property
    def listen(self) -> str:
        """What the API server listens on for that."""

    def enter(self, command: Sequence[str]) -> list[str]:
        """`command`, made to run there."""

    def address(self) -> str:
        """A free host:port that a server there can listen on and the bench can reach."""

    def traffic(self) -> tuple[int, int] | None:
        """Bytes received and sent so far, frame headers included; None where they cannot be told."""


class Here:
    """Without root: in the bench's own network, where nobody's bytes can be told from another's."""

    api_host = listen = "127.0.0.1"

    def enter(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def address(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{probe.getsockname()[1]}"

    def traffic(self) -> tuple[int, int] | None:
        return None


@dataclass
class Apart:
    """A network namespace of its own, held by a process of the bench."""

    holder: int
    _port: int = 8080

    api_host = NODE_IP
    listen = "0.0.0.0"  # noqa: S104 - of a network that is ours alone

    @classmethod
    def make(cls) -> Apart:
        """Called once, inside the bench's namespaces."""
        with suppress(OSError):  # neighbour discovery would be counted; without IPv6 there is none
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = Path("/proc/self/ns/net").stat().st_ino
        wait_for(
            lambda: Path(f"/proc/{holder.pid}/ns/net").stat().st_ino != own,
            seconds=10,
            failure=lambda: ClusterError("no network namespace could be made"),
            still_possible=lambda: holder.poll() is None,
        )
        place = cls(holder.pid)
        _ip(["ip", "-batch", "-"], _OUTER.format(pid=holder.pid))
        _ip(place.enter(["ip", "-batch", "-"]), _INNER)
        return place

    def enter(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", "--", *command]

    def address(self) -> str:
        self._port += 1
        return f"198.18.1.2:{self._port}"

    def traffic(self) -> tuple[int, int] | None:
        return proc.traffic(self.holder, _API)


def _ip(command: Sequence[str], lines: str) -> None:
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the network could not be made: {done.stderr.strip()}")


def directory_inside() -> Path | None:
    """The bench's temporary directory, when this process is the one in the namespaces."""
    name = os.environ.get(_INSIDE)
    return Path(name) if name else None


def run_inside(argv: Sequence[str], directory: Path) -> int:
    """Run `hack.bench ARGV` as the first process of new namespaces; its exit code. When it ends, all in them ends.

    From here on this process can make no thread, and what it starts is in the new PID namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWPID) != 0:
        raise BenchError(f"no PID namespace could be made: {os.strerror(ctypes.get_errno())}")
    enter = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount-proc", "--"]
    command = [*enter, sys.executable, "-m", "hack.bench", *argv]
    with subprocess.Popen(command, env={**os.environ, _INSIDE: str(directory)}) as process:
        try:
            return process.wait()
        finally:
            process.kill()


def end_on_sigterm() -> None:
    """SIGTERM unwinds like an exception, so that everything started is ended."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)
