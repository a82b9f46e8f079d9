"""What the bench sees of all CRs and their children, by watches of its own, and when it saw it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from hack.bench.api import CRS, Api
from hack.bench.errors import BenchError
from hack.bench.progress import say

_CR = "Memcached"
_STEP = 0.02  # seconds
_SAY_EVERY = 10.0  # seconds


class _Owner(msgspec.Struct):
    uid: str
    controller: bool = False


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    owner_references: list[_Owner] = []


class _Spec(msgspec.Struct):
    replicas: int | None = None


class _Status(msgspec.Struct, rename="camel"):
    observed_generation: int = 0


class _Object(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class _Error(msgspec.Struct):
    code: int = 0


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_error = msgspec.json.Decoder(_Error).decode
_decode_object = msgspec.json.Decoder(_Object).decode


@dataclass(slots=True)
class Seen:
    """One CR and its children; times are monotonic."""

    key: str = ""
    generation: int = 0
    observed: int = 0
    wanted: int | None = None  # spec.replicas of the CR
    replicas: int | None = None  # spec.replicas of its Deployment
    replicas_at: float = 0.0  # when the Deployment's were first seen as they are
    children: dict[str, float] = field(default_factory=dict)  # kind -> when it was first seen

    def lacks(self, kinds: Iterable[str], replicas: int | None = None) -> list[str]:
        """What keeps it from being converged: children of these kinds, these replicas when they are given."""
        missing = [kind for kind in kinds if kind not in self.children]
        if not self.generation or self.observed != self.generation:
            missing.append("status.observedGeneration")
        if replicas is not None and self.replicas != replicas:
            missing.append("its Deployment's replicas")
        return missing


class Observer:
    """Watches CRs and their children, `children` by kind and collection; a context manager."""

    def __init__(self, api: Api, children: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._children = children
        self._clock = clock
        self._seen: dict[str, Seen] = {}  # uid of the CR -> what is known of it
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted: dict[str, int | None] = {}
        self._done: set[str] = set()  # keys
        self.converged = asyncio.Event()
        self.converged_at = 0.0

    async def __aenter__(self) -> Self:
        paths = {_CR: f"{CRS}/memcacheds", **self._children}
        self._tasks = [asyncio.create_task(self._watch(kind, path)) for kind, path in paths.items()]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raises: BenchError when a watch has ended."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def until(
        self, condition: Callable[[], bool], seconds: float, *, log: Path, check: Callable[[], None] = lambda: None
    ) -> None:
        """Wait for what watch events bring about.

        Raises: BenchError that says what is missing, with the end of the log of who should have made it; what `check`
        raises.
        """
        started = said = self._clock()
        while not condition():
            await asyncio.sleep(_STEP)
            check()
            self.check()
            now = self._clock()
            if now > started + seconds:
                raise BenchError(f"not converged after {seconds:g} s: {self.missing()}", log=log)
            if now > said + _SAY_EVERY:
                said = now
                say(f"  {self.done} of {len(self._wanted)} CRs")

    def expect(self, wanted: Mapping[str, int | None]) -> None:
        """From now on `converged` says whether all these CRs (by key) have everything, with these replicas if given."""
        self._wanted = dict(wanted)
        self._done = set()
        self.converged.clear()
        for seen in self._seen.values():
            self._judge(seen)

    def want(self, key: str, replicas: int) -> None:
        """Expect other replicas of one CR, which it does not have yet."""
        self._wanted[key] = replicas
        self._done.discard(key)
        self.converged.clear()

    @property
    def done(self) -> int:
        return len(self._done)

    def by_key(self) -> dict[str, Seen]:
        return {seen.key: seen for seen in self._seen.values()}

    def missing(self) -> str:
        """How many of the CRs that are expected lack what."""
        known = self.by_key()
        lacking: Counter[str] = Counter()
        for key, replicas in self._wanted.items():
            lacking.update(known[key].lacks(self._children, replicas) if key in known else ["the CR itself"])
        return f"of {len(self._wanted)} CRs " + ", ".join(f"{number} lack {what}" for what, number in lacking.items())

    async def _watch(self, kind: str, path: str) -> None:
        version = ""
        while True:
            # The API server ends a watch when its buffer is full, and so it may in a burst.
            async for line in self._api.watch(path, version):
                version = self.event(kind, line)
            await asyncio.sleep(_STEP)

    def event(self, kind: str, line: bytes) -> str:
        """Take in one watch event of a kind; the version after it, none where the watch has to start anew.

        Raises: BenchError for an event that is another error.
        """
        event = _decode_event(line)
        if event.type == "ERROR":
            if _decode_error(event.object).code == 410:
                return ""
            raise BenchError(f"the bench's watch of {kind}: {bytes(event.object).decode()[:500]}")
        seen_object = _decode_object(event.object)
        if event.type != "BOOKMARK":
            self._take(kind, seen_object, gone=event.type == "DELETED")
        return seen_object.metadata.resource_version

    def _take(self, kind: str, seen_object: _Object, *, gone: bool) -> None:
        meta = seen_object.metadata
        if kind == _CR:
            seen = self._seen.setdefault(meta.uid, Seen())
            seen.key = f"{meta.namespace}/{meta.name}"
            seen.generation = meta.generation
            seen.observed = seen_object.status.observed_generation
            seen.wanted = seen_object.spec.replicas
            self._judge(seen)
            return
        for owner in meta.owner_references:
            if owner.controller:
                # A child's watch may be ahead of that of the CRs.
                seen = self._seen.setdefault(owner.uid, Seen())
                self._child(seen, kind, seen_object.spec.replicas, gone=gone)
                self._judge(seen)

    def _child(self, seen: Seen, kind: str, replicas: int | None, *, gone: bool) -> None:
        if gone:
            seen.children.pop(kind, None)
            return
        seen.children.setdefault(kind, self._clock())
        if kind == "Deployment" and replicas != seen.replicas:
            seen.replicas = replicas
            seen.replicas_at = self._clock()

    def _judge(self, seen: Seen) -> None:
        if seen.key not in self._wanted:
            return
        replicas = self._wanted[seen.key]
        # The CR's own replicas too: else an old generation, observed, would pass for the new one.
        if seen.lacks(self._children, replicas) or replicas not in (None, seen.wanted):
            self._done.discard(seen.key)
            self.converged.clear()
            return
        self._done.add(seen.key)
        if len(self._done) == len(self._wanted) and not self.converged.is_set():
            self.converged_at = self._clock()
            self.converged.set()
