"""CPU, memory and traffic of processes, from /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_RESET_PEAK = "5"  # proc(5), clear_refs


def tree(pid: int) -> list[int]:
    """A process and its living descendants."""
    found = [pid]
    for parent in found:
        for children in (_PROC / str(parent)).glob("task/*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the process tree, ended and awaited children included; 0 once it is gone."""
    return sum(map(_ticks, tree(pid))) / _TICKS


def _ticks(pid: int) -> int:
    try:
        return parse_ticks((_PROC / str(pid) / "stat").read_text())
    except OSError:
        return 0


def parse_ticks(line: str) -> int:
    """utime + stime + cutime + cstime of a line of /proc/PID/stat, in clock ticks."""
    return sum(map(int, line[line.rindex(")") + 2 :].split()[11:15]))


def memory_kib(pid: int, field: str = "VmRSS") -> int:
    """A field of /proc/PID/status, summed over the process tree, in KiB; `VmHWM` is the peak of VmRSS."""
    total = 0
    for member in tree(pid):
        with suppress(OSError):
            lines = (_PROC / str(member) / "status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return total


def reset_peak(pid: int) -> None:
    """Let VmHWM start again from what is resident now."""
    for member in tree(pid):
        with suppress(OSError):
            (_PROC / str(member) / "clear_refs").write_text(_RESET_PEAK)


def traffic(pid: int, interface: str) -> tuple[int, int]:
    """Bytes received and sent on an interface of the network namespace of `pid`, frame headers included."""
    return parse_traffic((_PROC / str(pid) / "net" / "dev").read_text(), interface)


def parse_traffic(text: str, interface: str) -> tuple[int, int]:
    for line in text.splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == interface:
            values = counters.split()
            return int(values[0]), int(values[8])
    raise LookupError(f"no interface {interface}")
