"""Load on caches, at little cost of its own, and what `kubectl get --watch` tells meanwhile; all in daemon threads."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Self

from tests.support.kubectl import Json, Kubectl

PORT = 11211
TIMEOUT = 1.0  # an answer that takes longer is a failed request
# How often an application asks where its servers are. Those that learn of it at once would leave a pod before kubelet
# stops it, whether the pod waits for them or not.
REFRESH = 2.0
PAGE = 1024 * 1024


class Watch:
    """All the versions of some objects, as the API server tells of them: (type of event, object)."""

    def __init__(self, kubectl: Kubectl, kind: str, *args: str) -> None:
        self.seen: list[tuple[str, Json]] = []
        self._command = ["kubectl", "--namespace", kubectl.namespace, "get", kind, *args]

    def __enter__(self) -> Self:
        command = [*self._command, "--watch", "--output-watch-events", "-o", "json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                event = json.loads(line)
                self.seen.append((event["type"], event["object"]))


class Endpoints:
    """The addresses of a pool that are ready, as of now, from its EndpointSlices."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.watch = Watch(kubectl, "endpointslices", "-l", f"kubernetes.io/service-name={name}")
        self._read = 0
        self._slices: dict[str, list[str]] = {}

    def __call__(self) -> list[str]:
        fresh = self.watch.seen[self._read :]
        self._read += len(fresh)
        for type_, piece in fresh:
            kept = [] if type_ == "DELETED" else piece.get("endpoints") or []
            ready = [endpoint for endpoint in kept if endpoint.get("conditions", {}).get("ready")]
            self._slices[piece["metadata"]["name"]] = [a for endpoint in ready for a in endpoint["addresses"]]
        return sorted({address for addresses in self._slices.values() for address in addresses})


@dataclass
class Tally:
    """What a client met; `served` counts by server, and a miss is served, too."""

    served: dict[str, int] = field(default_factory=dict)
    misses: int = 0
    wrong: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Application:
    """A client with a connection kept to each server of a pool that was ready when it last looked."""

    def __init__(self, kubectl: Kubectl, name: str, *, pause: float = 0.01) -> None:
        self.tally = Tally()
        self._endpoints = Endpoints(kubectl, name)
        self._pause = pause
        self._connections: dict[str, socket.socket] = {}
        self._round = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._stack.enter_context(self._endpoints.watch)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._stack.close()
        for connection in self._connections.values():
            connection.close()

    def _run(self) -> None:
        servers: list[str] = []
        looked = -REFRESH
        while not self._stop.wait(self._pause):
            if time.monotonic() - looked >= REFRESH:
                servers, looked = self._endpoints(), time.monotonic()
                for address in self._connections.keys() - servers:
                    self._connections.pop(address).close()
            self._round += 1
            for address in servers:
                self._request(address)

    def _request(self, address: str) -> None:
        """The value of the round before, and one for the next."""
        started = time.monotonic()
        try:
            if address not in self._connections:
                self._connections[address] = socket.create_connection((address, PORT), timeout=TIMEOUT)
            connection = self._connections[address]
            value = f"{address}-{self._round}"
            connection.sendall(f"get k\r\nset k 0 0 {len(value)}\r\n{value}\r\n".encode())
            answer = _until(connection, b"STORED\r\n").decode()
        except OSError as error:
            self.tally.failures.append(f"{address} after {time.monotonic() - started:.2f} s: {error!r}")
            if address in self._connections:
                self._connections.pop(address).close()
            return
        self.tally.served[address] = self.tally.served.get(address, 0) + 1
        if answer.startswith("END"):
            self.tally.misses += 1
        elif f"\r\n{address}-" not in answer:
            self.tally.wrong.append(f"{address}: {answer}")


def _until(connection: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end):
        part = connection.recv(4096)
        if not part:
            raise ConnectionResetError(f"closed after {answer!r}")
        answer += part
    return answer


class Busy:
    """Keeps one memcached busy: it looks up hundreds of keys that it does not have, and says END."""

    def __init__(self, address: str, *, per_second: int = 100) -> None:
        self._address = address
        self._pause = 1 / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        lines = 10
        batch = (b"get " + b" ".join(b"%x" % number for number in range(400)) + b"\r\n") * lines
        with closing(socket.create_connection((self._address, PORT), timeout=10)) as connection:
            while not self._stop.wait(self._pause):
                connection.sendall(batch)
                _until(connection, b"END\r\n" * lines)


class Killed(Exception):
    """memcached went while it was being filled."""


def fill(address: str, megabytes: int, *, connections: int) -> None:
    """A cache at its fullest.

    Items of one byte come first, for the largest hash table; then some of each size, each of which gets pages of its
    own; then clients that ask for large answers and do not read them.

    Raises: Killed.
    """
    try:
        with ExitStack() as stack:
            sender = stack.enter_context(closing(socket.create_connection((address, PORT), timeout=10)))
            _store(sender, ((f"s{number}", 1) for number in range(megabytes * PAGE // 96 * 5 // 4)))
            sizes = [int(80 * 1.25**power) for power in range(45)]
            _store(sender, ((f"m{size}-{n}", size) for size in sizes if size < PAGE // 2 for n in range(40)))
            _store(sender, ((f"l{number}", 400_000) for number in range(megabytes * PAGE // 400_000 // 4)))
            for number in range(connections):
                one = stack.enter_context(closing(socket.create_connection((address, PORT), timeout=10)))
                one.sendall(f"get l{number % 10 + 20}\r\n".encode() * 3)
            _store(sender, ((f"t{number}", 100 + number % 20_000) for number in range(3000)))
    except OSError as error:
        raise Killed(str(error)) from error


def _store(connection: socket.socket, items: Iterable[tuple[str, int]]) -> None:
    for batch in _batches(items):
        connection.sendall(batch)
    connection.sendall(b"mn\r\n")
    _until(connection, b"MN\r\n")


def _batches(items: Iterable[tuple[str, int]]) -> Iterator[bytes]:
    parts, size = [], 0
    for key, length in items:
        parts.append(b"set %s 0 0 %d noreply\r\n%s\r\n" % (key.encode(), length, b"x" * length))
        size += length
        if len(parts) >= 2000 or size > PAGE:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)
