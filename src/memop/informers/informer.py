"""One kind's cache, kept by a watcher per namespace: what reconcilers read and where their keys come from."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import msgspec
import structlog

from memop.clock import Clock
from memop.errors import BadResponse, NotFound
from memop.informers import wire
from memop.informers.store import Cached, Cause, Handler, Indexes, Store, StoreReader
from memop.informers.watcher import Client, Watcher
from memop.metrics import InformerMetrics
from memop.refs import Key, Resource

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T", bound=Cached)
Decode = Callable[[bytes | msgspec.Raw], T]


class Informer(Generic[T]):
    """Lists and watches `resource` in `namespaces` ("" alone: all) and keeps what `decode` makes of the objects.

    `name` labels the metrics; informers of one kind with different selectors need different ones.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        decode: Decode[T],
        *,
        label_selector: str = "",
        namespaces: Sequence[str] = ("",),
        indexes: Indexes[T] | None = None,
        clock: Clock,
        metrics: InformerMetrics,
        rng: random.Random,
        name: str = "",
        optional: bool = False,
    ) -> None:
        """`optional`: a cluster may well not serve the kind."""
        self.resource = resource
        self.name = name or str(resource)
        self._decode = decode
        self._optional = optional
        self._store = Store(namespaces=namespaces, indexes=indexes)
        self._listed: list[Callable[[], None]] = []
        self._scopes = [
            _Scope(namespace, self.name, self._store, decode, metrics, listed=self._listed) for namespace in namespaces
        ]
        self._watchers = [
            Watcher(
                client,
                resource,
                scope.namespace,
                scope,
                name=self.name,
                label_selector=label_selector,
                clock=clock,
                metrics=metrics,
                rng=rng,
                optional=optional,
            )
            for scope in self._scopes
        ]
        metrics.objects.labels(self.name).set_function(lambda: len(self._store.objects))

    @property
    def reader(self) -> StoreReader[T]:
        return self._store.reader

    def subscribe(self, handler: Handler[T]) -> None:
        """Call `handler` on every transition from now on; subscribe before `run`."""
        self._store.subscribe(handler)

    def when_listed(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each complete list: the kind may be served only now."""
        self._listed.append(callback)

    async def run(self) -> None:
        """List and watch until cancelled. Raises: HistoryLost."""
        async with asyncio.TaskGroup() as group:
            for watcher in self._watchers:
                group.create_task(watcher.run(), name=f"informer-{self.name}-{watcher.namespace}")

    @property
    def synced(self) -> bool:
        """Whether every namespace was listed completely once."""
        return all(scope.synced for scope in self._scopes)

    @property
    def settled(self) -> bool:
        """Whether every namespace was listed completely once, or the server refused it: unknown kind, or forbidden.

        What is refused is tried again, and tells the handlers as ever when it is listed after all.
        """
        return all(scope.settled.is_set() for scope in self._scopes)

    async def wait_settled(self) -> None:
        for scope in self._scopes:
            await scope.settled.wait()

    @property
    def current(self) -> bool:
        """Whether the cache is, as far as can be known, what the server has; refused namespaces aside.

        Not from when a watch broke until the server has answered again, and with no older state; or refused for long.
        """
        return all(watcher.current for watcher in self._watchers)

    def refusal(self, namespace: str) -> str | None:
        """Why the server does not let the kind be listed there now (unknown, forbidden); None where it does."""
        return next((s.refusal for s in self._scopes if s.refusal and s.namespace in ("", namespace)), None)

    def health(self) -> str | None:
        """None when every list and watch fares well, else which does not, since when and why.

        That a cluster does not serve an optional kind is well.
        """
        problems = [
            f"{self.name} in {f'namespace {watcher.namespace}' if watcher.namespace else 'all namespaces'} {problem}"
            for watcher in self._watchers
            if (problem := watcher.problem) is not None and not (self._optional and isinstance(problem.error, NotFound))
        ]
        return "; ".join(problems) or None

    def wrote(self, raw: bytes | msgspec.Raw) -> T | None:
        """The API server's answer to a write of our own, decoded: readers and handlers see it now.

        None, logged, where it does not decode.
        """
        if (obj := _decoded(self._decode, raw)) is not None:
            self._store.wrote(obj)
        return obj

    def deleted(self, key: Key, uid: str) -> None:
        """The API server confirmed that the object is gone; one that lingers on finalizers was only written."""
        self._store.deleted(key, uid)


class _Scope(Generic[T]):
    """Carries what one watcher tells into the store."""

    def __init__(
        self,
        namespace: str,
        name: str,
        store: Store[T],
        decode: Decode[T],
        metrics: InformerMetrics,
        *,
        listed: Sequence[Callable[[], None]],
    ) -> None:
        self.namespace = namespace
        self.synced = False
        self.settled = asyncio.Event()
        self.refusal: str | None = None
        self._store = store
        self._decode = decode
        self._listed = listed
        self._listing: dict[Key, T | None] = {}
        self._synced_gauge = metrics.synced.labels(name, namespace)
        self._events = {
            kind: metrics.events.labels(name, kind) for kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")
        }

    def begin(self) -> None:
        self._listing = {}

    def page(self, items: Iterable[msgspec.Raw]) -> None:
        # Decoded page by page: the raw text goes early, and other tasks run in between.
        for raw in items:
            if (obj := _decoded(self._decode, raw)) is not None:
                held = self._store.objects.get(obj.key)
                same = held is not None and held.uid == obj.uid and held.resource_version == obj.resource_version
                self._listing[obj.key] = held if same else obj
            elif (key := _key(raw)) is not None:
                self._listing[key] = None

    def complete(self, resource_version: int) -> None:
        cause = Cause.TOLD if self.synced else Cause.INITIAL
        self._store.listed(self.namespace, self._listing, resource_version, cause=cause)
        self._listing = {}
        self.synced = True
        self.refusal = None
        self.settled.set()
        self._synced_gauge.set(1)
        for callback in self._listed:
            callback()

    def refused(self, why: str) -> None:
        self.refusal = why
        self.settled.set()

    def event(self, kind: str, raw: msgspec.Raw) -> int:
        if (counter := self._events.get(kind)) is None:
            log.warning("unknown watch event", type=kind)
            return 0
        counter.inc()
        if kind in ("ADDED", "MODIFIED") and (obj := _decoded(self._decode, raw)) is not None:
            self._store.changed(obj)
            return obj.resource_version
        partial = wire.decode_partial(raw)
        version = partial.resource_version
        if kind == "DELETED":
            self._store.gone(partial.key, partial.metadata.uid, version)
        else:  # a bookmark, or an object that we cannot decode: it is told, all the same
            self._store.bookmark(self.namespace, version)
        return version

    def horizon(self) -> int:
        return self._store.horizon(self.namespace)


def _decoded(decode: Decode[T], raw: bytes | msgspec.Raw) -> T | None:
    """The object, or None, logged, when it is not what `decode` expects: the others must not suffer for it."""
    try:
        return decode(raw)
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises
        problem = f"{type(error).__name__}: {error}"
    log.error("object does not decode", key=str(_key(raw)), error=problem, start=bytes(raw)[:200])
    return None


def _key(raw: bytes | msgspec.Raw) -> Key | None:
    try:
        return wire.decode_partial(raw).key
    except BadResponse:
        return None
