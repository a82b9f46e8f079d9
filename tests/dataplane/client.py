"""A memcached client that shows replies as they are, and clients that keep a proxy busy."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

TIMEOUT_SECONDS = 5.0
_BATCH = 100


class Client:
    """One connection. `ask` gives each reply whole, as text."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), timeout=TIMEOUT_SECONDS)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, request: str) -> str:
        """ConnectionError when the other side closes instead of answering."""
        self.send(request)
        return self.reply()

    def send(self, request: str) -> None:
        self._socket.sendall(request.encode())

    def reply(self) -> str:
        """What one request gets: a line, with the value that it announces, or all values up to END."""
        text = self._line()
        if text.startswith("VA "):
            return text + self._value(int(text.split()[1]))
        while text.rpartition("\r\n")[0].rpartition("\r\n")[2].startswith("VALUE "):
            line = text.rpartition("\r\n")[0].rpartition("\r\n")[2]
            text += self._value(int(line.split()[3])) + self._line()
        return text

    def closed(self) -> bool:
        """Whether the other side says nothing more and closes."""
        return self.rest() == ""

    def rest(self) -> str:
        """All that comes until the other side closes."""
        return self._file.read().decode()

    def cas(self, key: str) -> str:
        """The id that `gets` gives."""
        found = re.fullmatch(rf"VALUE {key} \d+ \d+ (\d+)\r\n.*\r\nEND\r\n", self.ask(f"gets {key}\r\n"), re.DOTALL)
        assert found is not None
        return found[1]

    def stats(self, kind: str = "") -> dict[str, str]:
        self.send(f"stats {kind}\r\n" if kind else "stats\r\n")
        result = {}
        while (line := self._line()) != "END\r\n":
            _, name, value = line.rstrip("\r\n").split(" ", 2)
            result[name] = value
        return result

    def put(self, keys: Iterable[str]) -> None:
        assert set(self.all_of([f"set {key} 0 0 1\r\nx\r\n" for key in keys])) <= {"STORED\r\n"}

    def held(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are there."""
        listed = list(keys)
        replies = self.all_of([f"get {key}\r\n" for key in listed])
        return {key for key, reply in zip(listed, replies, strict=True) if reply.startswith("VALUE ")}

    def all_of(self, requests: Sequence[str]) -> list[str]:
        """The replies, in order; many requests are under way at a time."""
        replies = []
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            self.send("".join(batch))
            replies += [self.reply() for _ in batch]
        return replies

    def _line(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("closed")
        return line.decode()

    def _value(self, length: int) -> str:
        return self._file.read(length + 2).decode()


Request = Callable[[str], tuple[str, str]]  # key → request, and how its reply begins


def get(key: str) -> tuple[str, str]:
    return f"get {key}\r\n", "VALUE"


def gets(key: str) -> tuple[str, str]:
    return f"gets {key}\r\n", "VALUE"


def gat(key: str) -> tuple[str, str]:
    return f"gat 1000 {key}\r\n", "VALUE"


def mg(key: str) -> tuple[str, str]:
    return f"mg {key} v\r\n", "VA"


def put(key: str) -> tuple[str, str]:
    return f"set {key} 0 0 1\r\n1\r\n", "STORED"


def touch(key: str) -> tuple[str, str]:
    return f"touch {key} 1000\r\n", "TOUCHED"


def replace(key: str) -> tuple[str, str]:
    return f"replace {key} 0 0 1\r\n1\r\n", "STORED"


EVERYTHING: tuple[Request, ...] = (get, gets, gat, mg, put, touch, replace)


@dataclass
class Load:
    """Clients that ask for stored keys, one request after the other, until told to stop."""

    address: str
    port: int
    requests: tuple[Request, ...]
    keys: tuple[str, ...] = tuple(f"key:{number}" for number in range(200))
    clients: int = 4
    bad: list[tuple[float, str, str]] = field(default_factory=list)  # (time, request, reply)
    answered: int = 0
    slowest: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        with Client(self.address, self.port) as client:
            for key in self.keys:
                assert client.ask(f"set {key} 0 0 1\r\n1\r\n") == "STORED\r\n"
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def kinds(self) -> Counter[str]:
        """How often each wrong reply came."""
        return Counter(reply for _, _, reply in self.bad)

    def _run(self, number: int) -> None:
        choice = random.Random(number)  # noqa: S311 - a load that is the same each time
        client = Client(self.address, self.port)
        try:
            while not self._stop.is_set():
                text, wanted = choice.choice(self.requests)(choice.choice(self.keys))
                begun = time.monotonic()
                try:
                    reply = client.ask(text)
                except OSError as error:
                    reply = repr(error)
                    client.close()
                    client = Client(self.address, self.port)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.answered += 1
                if not reply.startswith(wanted):
                    self.bad.append((begun, text.partition("\r\n")[0], reply.rstrip()))
                time.sleep(0.002)
        finally:
            client.close()
