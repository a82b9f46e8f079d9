"""Replica sync as app.py composes it, and behind it what the API server says of a handful of objects."""

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from memop.client import Page
from memop.controller import Controller
from memop.errors import ApiError, Conflict, NotFound, Unreachable
from memop.informers.informer import Informer
from memop.informers.watcher import Client
from memop.metrics import ControllerMetrics, InformerMetrics, QueueMetrics
from memop.reconcilers.objects import Live, decoder
from memop.reconcilers.sync.caches import INDEXES, Sources
from memop.reconcilers.sync.reconciler import ReplicaSync
from memop.reconcilers.sync.source import LABEL
from memop.refs import MEMCACHEDS, Key, ObjectReference, Resource
from memop.workqueue import WorkQueue
from tests.unit.virtual_time import VirtualClock

Json = dict[str, Any]
Watch = tuple[str, str, asyncio.Queue[bytes | None]]  # kind, selector, lines; None breaks it
NAMESPACE = "default"
CLAIMED = {"manager": "memop-memcached", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}}


@dataclass
class Server:
    """Stores what it is given, tells watches of it, and keeps what memop writes."""

    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # "apply" and "status"
    writes: list[Json] = field(default_factory=list)  # those that changed something
    watched: list[tuple[str, str]] = field(default_factory=list)  # kind and selector
    refusing: dict[str, ApiError] = field(default_factory=dict)  # "list Kind", "apply" or "status" -> error
    admission: int | None = None  # what every size becomes
    lag: float = 0.0  # seconds until a watch tells
    version: int = 100
    _watches: list[Watch] = field(default_factory=list)
    _history: list[tuple[int, str, Json | None, Json]] = field(default_factory=list)

    # --- What users do

    def put(self, kind: str, name: str, spec: Json, *, anew: bool = False, **metadata: Any) -> None:
        """Make or change an object; `anew`: another one of the name."""
        held = None if anew else self.objects.get((kind, name))
        if held is None:
            self.drop(kind, name)
            uid = f"{kind}-{name}-{self.version}"
            known: Json = {"uid": uid, "generation": 1, "managedFields": [CLAIMED]}
        else:
            known = held["metadata"]
            known = {**known, "generation": known["generation"] + (spec != held["spec"])}
        body = {
            "kind": kind,
            "metadata": {**known, "namespace": NAMESPACE, "name": name, **metadata},
            "spec": spec,
            "status": held["status"] if held else {},
        }
        self._store(body)

    def change(self, kind: str, name: str, **spec: Any) -> None:
        """Fields of the spec; None takes one out."""
        before = self.objects[kind, name]["spec"]
        self.put(kind, name, {field: value for field, value in {**before, **spec}.items() if value is not None})

    def workload(self, name: str, replicas: int, feeds: str = "", kind: str = "Deployment", **metadata: Any) -> None:
        self.put(kind, name, {"replicas": replicas}, labels={LABEL: feeds} if feeds else {}, **metadata)

    def pool(self, name: str = "cache", *, annotations: Json | None = None, **spec: Any) -> None:
        self.put("Memcached", name, spec, annotations=annotations or {})

    def drop(self, kind: str, name: str) -> None:
        gone = self.objects.pop((kind, name), None)
        if gone is not None:
            self.version += 1
            gone = copy.deepcopy(gone)  # earlier events tell of it as it was then
            gone["metadata"]["resourceVersion"] = str(self.version)
            self._tell("DELETED", gone, gone)

    def get(self, name: str = "cache") -> Json:
        return self.objects["Memcached", name]

    def size(self, name: str = "cache") -> int | None:
        size: int | None = self.get(name)["spec"].get("replicas")
        return size

    def condition(self, name: str = "cache") -> tuple[str, str] | None:
        """Status and reason."""
        [stated] = self.get(name)["status"].get("conditions") or [None]
        return None if stated is None else (stated["status"], stated["reason"])

    def message(self, name: str = "cache") -> str:
        message: str = self.get(name)["status"]["conditions"][0]["message"]
        return message

    def hang_up(self, kind: str) -> None:
        """Watches of the kind break."""
        for watched, _, lines in self._watches:
            if watched == kind:
                lines.put_nowait(None)

    # --- What memop asks

    async def list(self, resource: Resource, namespace: str = "", *, label_selector: str = "", **_: Any) -> Page:
        if error := self.refusing.get(f"list {resource.kind}"):
            raise error
        items = [
            msgspec.Raw(msgspec.json.encode(body))
            for (kind, _), body in self.objects.items()
            if kind == resource.kind and _selected(body, label_selector)
        ]
        return Page(items, str(self.version), "", None)

    @asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", resource_version: str, **_: Any
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.watched.append((resource.kind, label_selector))
        entry = (resource.kind, label_selector, asyncio.Queue[bytes | None]())
        for version, event, before, after in self._history:
            if version > int(resource_version):
                _tell(entry, event, before, after)
        self._watches.append(entry)
        try:
            yield self._lines(entry[2])
        finally:
            self._watches.remove(entry)

    async def _lines(self, lines: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        while (line := await lines.get()) is not None:
            if self.lag:
                await asyncio.sleep(self.lag)
            yield line
        raise Unreachable("the watch broke")

    async def apply(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes:
        before = self._checked("apply", key, body)
        size = body["spec"]["replicas"] if self.admission is None else self.admission
        return self._changed(body, {**before, "spec": {**before["spec"], "replicas": size}})

    async def apply_status(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes:
        before = self._checked("status", key, body)
        return self._changed(body, {**before, "status": dict(body["status"])})

    def _checked(self, verb: str, key: Key, body: Mapping[str, Any]) -> Json:
        self.asked.append(verb)
        if error := self.refusing.get(verb):
            raise error
        held = self.objects.get((body["kind"], key.name))
        if held is None:  # an apply would make it, were it not for the uid
            raise NotFound("not found", status=404) if verb == "status" else Conflict("uid mismatch", status=409)
        metadata = held["metadata"]
        if any(body["metadata"].get(name, metadata[name]) != metadata[name] for name in ("uid", "resourceVersion")):
            raise Conflict("the object has been modified", status=409)
        return held

    def _changed(self, asked: Mapping[str, Any], after: Json) -> bytes:
        before = self.get(asked["metadata"]["name"])
        if before != after:
            self.writes.append(dict(asked))
            metadata = after["metadata"]
            generation = metadata["generation"] + (before["spec"] != after["spec"])
            self._store({**after, "metadata": {**metadata, "generation": generation}})
        return msgspec.json.encode(self.get(asked["metadata"]["name"]))

    def _store(self, body: Json) -> None:
        self.version += 1
        body = copy.deepcopy(body)
        body["metadata"]["resourceVersion"] = str(self.version)
        place = (body["kind"], body["metadata"]["name"])
        before, self.objects[place] = self.objects.get(place), body
        self._tell("MODIFIED" if before else "ADDED", before, body)

    def _tell(self, event: str, before: Json | None, after: Json) -> None:
        self._history.append((self.version, event, before, after))
        for watch in self._watches:
            _tell(watch, event, before, after)


def _tell(watch: Watch, event: str, before: Json | None, after: Json) -> None:
    """One that leaves the selection is deleted, as far as a watch is concerned."""
    kind, selector, lines = watch
    was, is_ = before is not None and _selected(before, selector), _selected(after, selector)
    if kind == after["kind"] and (was or is_):
        type_ = event if event == "DELETED" else "DELETED" if not is_ else "MODIFIED" if was else "ADDED"
        lines.put_nowait(msgspec.json.encode({"type": type_, "object": after}))


def _selected(body: Json, selector: str) -> bool:
    return not selector or selector in body["metadata"].get("labels", {})


@dataclass
class Memop:
    """Replica sync, running: caches, queue, controller; `events` are (kind/name, type, reason, note)."""

    server: Server
    clock: VirtualClock
    events: list[tuple[str, str, str, str]] = field(default_factory=list)

    def record(self, regarding: ObjectReference, type: str, reason: str, note: str) -> None:  # noqa: A002
        self.events.append((f"{regarding.kind}/{regarding.name}", type, reason, note))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Memop"]:
        """Ready, and with nothing left to do."""
        registry = CollectorRegistry()
        client: Client = self.server
        informer = partial(
            Informer,
            client,
            clock=self.clock,
            metrics=InformerMetrics(registry),
            rng=random.Random(1),  # noqa: S311 - jitter
        )
        memcacheds: Informer[Live] = informer(
            MEMCACHEDS, decoder("memop-memcached", subresource="status"), indexes=INDEXES
        )
        self.queue: WorkQueue[Key] = WorkQueue("replica-sync", clock=self.clock, metrics=QueueMetrics(registry))
        async with asyncio.TaskGroup() as tasks:
            started: list[asyncio.Task[None]] = []

            def spawn(run: Coroutine[Any, Any, None]) -> None:
                started.append(tasks.create_task(run))

            self.sources = sources = Sources(memcacheds, informer=informer, spawn=spawn)
            reconciler = ReplicaSync(
                self.server, memcacheds=memcacheds, workloads=sources, events=self, clock=self.clock
            )
            controller = Controller(
                "replica-sync",
                self.queue,
                reconciler.reconcile,
                workers=2,
                clock=self.clock,
                metrics=ControllerMetrics(registry),
                gate=lambda: memcacheds.current,
            )
            sources.feed(self.queue)
            self._registry = registry
            spawn(memcacheds.run())
            spawn(sources.deployments.run())
            await memcacheds.wait_settled()
            await sources.deployments.wait_settled()
            spawn(controller.run())
            await self.settled()
            yield self
            for task in started:
                task.cancel()

    async def settled(self) -> None:
        """Long enough for everything but a long backoff."""
        await asyncio.sleep(3.0)

    def reconciles(self) -> float:
        """How often a key was looked at."""
        labels = {"controller": "replica-sync"}
        return sum(
            sample.value
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name == "controller_runtime_reconcile_total" and labels.items() <= sample.labels.items()
        )
