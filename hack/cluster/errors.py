"""The one error that reaches the terminal as a message instead of a traceback."""

from __future__ import annotations

from pathlib import Path


class ClusterError(Exception):
    """What failed, what to do about it, and the log that tells more."""

    def __init__(self, message: str, *, hint: str = "", log: Path | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.log = log

    def render(self) -> str:
        lines = [f"error: {self}"]
        if self.log is not None:
            lines += [f"  | {line}" for line in tail(self.log)]
            lines.append(f"log: {self.log}")
        if self.hint:
            lines.append(f"what to do: {self.hint}")
        return "\n".join(lines)


def tail(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log, of which components write the reason for their exit."""
    try:
        return log.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
