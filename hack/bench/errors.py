"""The one error that reaches the terminal as a message instead of a traceback."""

from __future__ import annotations

from pathlib import Path

from hack.cluster.errors import tail


class BenchError(Exception):
    """What failed; with the end of the log that tells more."""

    def __init__(self, message: str, *, log: Path | None = None) -> None:
        # Read now: the log is in a directory that is gone when the message is shown.
        super().__init__("\n".join([message, *(f"  | {line}" for line in (tail(log) if log else ()))]))
