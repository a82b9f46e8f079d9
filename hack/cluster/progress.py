"""One line per phase with the time it took: a spinner in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console


class Progress:
    """Says what happens."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    @contextmanager
    def phase(self, name: str, closing: str = "ready", *, spinner: bool = True) -> Iterator[None]:
        """Times what happens inside. A phase that has others inside it goes without a spinner: one turns at a time."""
        started = time.monotonic()
        try:
            with self._console.status(f"{name} …") if spinner and self._console.is_terminal else nullcontext():
                yield
        except BaseException:
            self.say(f"{name} … failed after {time.monotonic() - started:.1f} s")
            raise
        self.say(f"{name} … {closing} {time.monotonic() - started:.1f} s")
