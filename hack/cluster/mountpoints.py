"""The well-known directories a node covers with its own must exist on the machine, if only empty.

Several nodes may need the same one, and removing a directory takes away the mounts on it in every namespace. So each is
marked when it is made, and the last node of the machine removes those that carry the mark.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.locks import exclusive

_MARK = ".made-by-memop"


@dataclass(frozen=True)
class Mountpoints:
    """The directories one node needs. Its run directory tells the other nodes that it is there."""

    run: Path
    directories: tuple[Path, ...]
    lock: Path

    def claim(self) -> None:
        with exclusive(self.lock):
            self.run.mkdir(mode=0o700, exist_ok=True)
            for directory in self.directories:
                if not directory.exists():
                    directory.mkdir(parents=True)
                    (directory / _MARK).touch()

    def release(self) -> None:
        with exclusive(self.lock):
            shutil.rmtree(self.run)
            if any(self.run.parent.glob("memop-*")):
                return
            for directory in self.directories:
                mark = directory / _MARK
                if mark.exists():
                    mark.unlink()
                    remove_empty(directory)


def remove_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:  # not there, or somebody else has put something into it
        return
