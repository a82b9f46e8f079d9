"""A memcached client that shows replies as they are, and clients that keep a proxy busy."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType

TIMEOUT_SECONDS = 5.0


class Client:
    """One connection. `ask` gives each reply whole, as text."""

    def __init__(self, address: str, port: int) -> None:
        self._socket = socket.create_connection((address, port), timeout=TIMEOUT_SECONDS)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
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
        return self._file.read() == b""

    def cas(self, key: str) -> str:
        """The id that `gets` gives."""
        found = re.fullmatch(rf"VALUE {key} \d+ \d+ (\d+)\r\n.*\r\nEND\r\n", self.ask(f"gets {key}\r\n"), re.DOTALL)
        assert found is not None
        return found[1]

    def has(self, key: str) -> bool:
        return self.ask(f"mg {key}\r\n") == "HD\r\n"

    def stats(self, kind: str = "") -> dict[str, str]:
        self.send(f"stats {kind}\r\n" if kind else "stats\r\n")
        result = {}
        while (line := self._line()) != "END\r\n":
            _, name, value = line.rstrip("\r\n").split(" ", 2)
            result[name] = value
        return result

    def put(self, keys: Iterable[str]) -> None:
        for key in keys:
            assert self.ask(f"set {key} 0 0 1\r\nx\r\n") == "STORED\r\n"

    def held(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are there."""
        return {key for key in keys if self.has(key)}

    def _line(self) -> str:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("closed")
        return line.decode()

    def _value(self, length: int) -> str:
        return self._file.read(length + 2).decode()


Request = Callable[[random.Random, str], tuple[str, str]]


def get(_random: random.Random, key: str) -> tuple[str, str]:
    return f"get {key}\r\n", "VALUE"


def gets(_random: random.Random, key: str) -> tuple[str, str]:
    return f"gets {key}\r\n", "VALUE"


def gat(_random: random.Random, key: str) -> tuple[str, str]:
    return f"gat 1000 {key}\r\n", "VALUE"


def mg(_random: random.Random, key: str) -> tuple[str, str]:
    return f"mg {key} v\r\n", "VA"


def put(_random: random.Random, key: str) -> tuple[str, str]:
    return f"set {key} 0 0 1\r\n1\r\n", "STORED"


def touch(_random: random.Random, key: str) -> tuple[str, str]:
    return f"touch {key} 1000\r\n", "TOUCHED"


def replace(_random: random.Random, key: str) -> tuple[str, str]:
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

    def __enter__(self) -> Load:
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
        while not self._stop.is_set():
            text, wanted = choice.choice(self.requests)(choice, choice.choice(self.keys))
            begun = time.monotonic()
            try:
                reply = client.ask(text)
            except (OSError, TimeoutError) as error:
                reply = repr(error)
                client = Client(self.address, self.port)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            self.answered += 1
            if not reply.startswith(wanted):
                self.bad.append((begun, text.partition("\r\n")[0], reply.rstrip()))
            time.sleep(0.002)
