"""Starts programs that outlive this one, and ends exactly those.

A process writes its own line of /proc/PID/stat to a file before it becomes the program, so no crash of ours can leave
one unrecorded. The start time in that line tells it from a later process that was given the same pid.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError

_PROC = Path("/proc")
_DEAD_STATES = "ZXx"


@dataclass(frozen=True)
class Stat:
    """What identifies a process for good: pid and start time, in clock ticks since boot."""

    pid: int
    state: str
    parent: int
    started: int


def parse_stat(line: str) -> Stat:
    """Reads /proc/PID/stat. The program's name is in parentheses and may itself hold spaces and parentheses."""
    pid = int(line[: line.index(" ")])
    rest = line[line.rindex(")") + 2 :].split()
    return Stat(pid=pid, state=rest[0], parent=int(rest[1]), started=int(rest[19]))


def read_stat(pid: int) -> Stat | None:
    """The process of that pid, unless there is none or it only waits for its parent to notice its end."""
    try:
        stat = parse_stat((_PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if stat.state in _DEAD_STATES else stat


@dataclass(frozen=True)
class Process:
    """A program that `up` started."""

    name: str
    pid: int
    started: int
    log: Path

    def alive(self) -> bool:
        now = read_stat(self.pid)
        return now is not None and now.started == self.started

    def kill(self) -> None:
        """Ends it at once: what it would save is in a directory that is deleted next."""
        if self.alive():
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


@dataclass(frozen=True)
class ProcessTable:
    """The processes of one cluster, one file each."""

    pids: Path
    logs: Path

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        join: Iterable[Path] = (),
    ) -> Process:
        """Runs `command` in its own session, inside the cgroups whose cgroup.procs files are given in `join`."""
        for directory in (self.pids, self.logs):
            directory.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        record = self.pids / name
        enter = [f"echo $$ >{shlex.quote(str(procs))}" for procs in join]
        # Written under another name first: half a record would be none.
        script = " && ".join([*enter, 'cat /proc/$$/stat >"$0.part"', 'mv "$0.part" "$0"', 'exec "$@"'])
        with log.open("ab") as output:
            child = subprocess.Popen(
                ["sh", "-c", script, str(record), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd="/",
                start_new_session=True,
            )
        wait_for(
            record.exists,
            seconds=10,
            failure=lambda: ClusterError(f"{name} did not start", log=log),
            still_possible=lambda: child.poll() is None,
        )
        # Left running on purpose: not ours to wait for, and Popen would warn about that when it is collected.
        child.returncode = 0
        return self._read(record)

    def all(self) -> list[Process]:
        """In the order in which they were started."""
        if not self.pids.is_dir():
            return []
        records = [file for file in self.pids.iterdir() if file.suffix != ".part"]
        return sorted((self._read(record) for record in records), key=lambda process: (process.started, process.pid))

    def find(self, name: str) -> Process | None:
        record = self.pids / name
        return self._read(record) if record.exists() else None

    def _read(self, record: Path) -> Process:
        stat = parse_stat(record.read_text())
        return Process(record.name, stat.pid, stat.started, self.logs / f"{record.name}.log")


def end(processes: Iterable[Process], *, seconds: float = 10) -> None:
    """Kills them and returns when they are gone."""
    waiting = list(processes)
    for process in waiting:
        process.kill()
    wait_for(
        lambda: not any(process.alive() for process in waiting),
        seconds=seconds,
        failure=lambda: ClusterError(
            f"{', '.join(p.name for p in waiting if p.alive())} did not end after SIGKILL",
            hint="a process in uninterruptible I/O ends when its device answers; run `down` again",
        ),
    )


def family(pid: int) -> set[int]:
    """A process and its ancestors."""
    result: set[int] = set()
    stat = read_stat(pid)
    while stat is not None:
        result.add(stat.pid)
        stat = read_stat(stat.parent)
    return result


def wait_for(
    condition: Callable[[], bool],
    *,
    seconds: float,
    failure: Callable[[], ClusterError],
    still_possible: Callable[[], bool] = lambda: True,
) -> None:
    """Returns when `condition` holds; raises when the time is over or it can't come true any more."""
    deadline = time.monotonic() + seconds
    pause = 0.01
    while not condition():
        if time.monotonic() > deadline or not still_possible():
            if condition():
                return
            raise failure()
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)
