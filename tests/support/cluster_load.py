"""Applications that ask one Service for keys all the while, and what they were answered."""

import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from tests.dataplane.client import Client
from tests.support.clusters import Cluster
from tests.support.keys import store
from tests.support.kubectl import eventually

CLIENTS = 4
PAUSE = 0.01  # of each client, after each request
QUIET = 3.0  # seconds without a failure after which all is well again

# A key and its value → the request and its only good reply; "" where any that is no error will do.
Operation = Callable[[str, str], tuple[str, str]]


def get(key: str, value: str) -> tuple[str, str]:
    return f"get {key}\r\n", f"VALUE {key} 0 {len(value)}\r\n{value}\r\nEND\r\n"


def put(key: str, value: str) -> tuple[str, str]:
    return f"set {key} 0 0 {len(value)}\r\n{value}\r\n", "STORED\r\n"


def touch(key: str, _value: str) -> tuple[str, str]:
    return f"touch {key} 0\r\n", "TOUCHED\r\n"


def replace(key: str, value: str) -> tuple[str, str]:
    return f"replace {key} 0 0 {len(value)}\r\n{value}\r\n", "STORED\r\n"


READS_AND_WRITES: tuple[Operation, ...] = (get, get, put)
ALL: tuple[Operation, ...] = (get, get, put, touch, replace)


@dataclass(frozen=True)
class Failure:
    """One try of a request that did not go well; `at` is of the monotonic clock."""

    at: float
    tried: int  # how many times by then
    key: str
    request: str
    reply: str

    @property
    def miss(self) -> bool:
        return self.reply in ("END\r\n", "NOT_FOUND\r\n", "NOT_STORED\r\n")


class Load:
    """Clients with a connection each to the Service, from which keys that are stored are read and written again.

    What fails is tried once more, over a new connection. `failures` has every try that did not go well.
    """

    def __init__(self, cluster: Cluster, operations: tuple[Operation, ...] = READS_AND_WRITES, keys: int = 200) -> None:
        # Keys of its own: twemproxy leaves some behind when it has given a dead server's to others for a while. And
        # its hash keeps keys together that differ in their last characters only.
        name = uuid.uuid4().hex[:8]
        self.values = {f"{number}:{name}": str(number) for number in range(keys)}
        self.failures: list[Failure] = []
        self.answered = 0
        self._address, self._port = cluster.address, cluster.port
        self._operations = operations
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(CLIENTS)]

    def __enter__(self) -> Self:
        with Client(self._address, self._port) as client:
            store(client, self.values)
        for thread in self._threads:
            thread.start()
        self.well(seconds=0.5)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def errors(self) -> list[Failure]:
        """Those that were no misses."""
        return [failure for failure in self.failures if not failure.miss]

    @property
    def lost(self) -> list[Failure]:
        """Errors of requests that were tried again, over a new connection, and failed again."""
        return [failure for failure in self.errors if failure.tried > 1]

    @property
    def seconds(self) -> float:
        """From the first error to the last."""
        times = [failure.at for failure in self.errors]
        return max(times) - min(times) if times else 0.0

    def keys(self) -> set[str]:
        """Those that were missed or failed."""
        return {failure.key for failure in self.failures}

    def well(self, seconds: float = QUIET) -> None:
        """Wait until requests have been answered for so long and none has failed."""
        began, answered = time.monotonic(), self.answered

        def check() -> None:
            now = time.monotonic()
            assert now - max([began, *(failure.at for failure in self.failures)]) >= seconds, self.failures[-3:]
            assert self.answered - answered > 10 * seconds

        eventually(check, timeout=90)

    def _run(self, number: int) -> None:
        choice = random.Random(number)  # noqa: S311 - the same load each time
        keys = list(self.values)
        client: Client | None = None

        def close() -> None:
            nonlocal client
            if client is not None:
                client.__exit__(None, None, None)
                client = None

        while not self._stop.wait(PAUSE):
            key = choice.choice(keys)
            request, wanted = choice.choice(self._operations)(key, self.values[key])
            for tried in (1, 2):
                try:
                    client = client or Client(self._address, self._port)
                    reply = client.ask(request)
                except OSError as error:
                    reply = repr(error)
                self.answered += 1
                if reply == wanted:
                    break
                failure = Failure(time.monotonic(), tried, key, request.partition("\r\n")[0], reply)
                self.failures.append(failure)
                if failure.miss:
                    break
                close()
        close()


def by_reply(failures: list[Failure]) -> Mapping[str, int]:
    """How often each came, for a test's report."""
    counts: dict[str, int] = {}
    for failure in failures:
        counts[failure.reply.strip()] = counts.get(failure.reply.strip(), 0) + 1
    return counts
