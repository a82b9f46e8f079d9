"""The cache of one kind: a writer, private to the informer, and a reader for everybody else.

The rule: **per object the store only moves forward.** Deliveries overlap and come late: the watch, lists, and the
API server's answers to our own writes all tell of the same history. resourceVersions, compared as numbers, put them
in order, across a name's incarnations too:

* An object older than the one held is ignored; an equal one is no transition.
* The *horizon* of a namespace is the highest version up to which the watch (events, bookmarks) or a list has told
  everything. What is not held and no newer than the horizon is gone: an answer that comes after the watch has told
  of the deletion, or an event told again after a stale list, does not bring back a ghost.
* A DELETED event carries the version of the deletion, and ends whatever is held at or below it, even of another uid:
  at that version the name was free. A newer one held is a later incarnation, or an object whose labels came back.
* A list ends what it does not name, if held at or below the list's version; what is held above it is newer.
* A confirmed deletion has no version. The uid is remembered as dead, and so is everything of its name up to the version
  held then, until the watch tells of the deletion or a list, no older than that version, does without it.

Every transition is announced once to every handler, whatever brought it: a write of our own is seen by handlers and
readers as soon as it is answered, and the watch event that follows is no news.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Generic, Protocol, TypeVar

import structlog

from memop.refs import Key

log = structlog.stdlib.get_logger(__name__)


class Cached(Protocol):
    """What the store must know of an object; it should be immutable."""

    @property
    def key(self) -> Key: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> int: ...


T = TypeVar("T", bound=Cached)


class Cause(Enum):
    """How a transition became known."""

    INITIAL = "the first list"
    TOLD = "a later list or the watch"
    OWN = "the answer to a write of our own"


Handler = Callable[[T | None, T | None, Cause], None]
"""Called with (old, new, cause) on each transition: old is None for a new object, new for one that went."""

Index = Callable[[T], Iterable[str]]
Indexes = Mapping[str, Index[T]]
# Most values index one object: a bare key then, as a dict for each would double what a small object costs.
_Bucket = Key | dict[Key, None]


class StoreReader(Generic[T]):
    """The half that everybody may hold."""

    def __init__(
        self, objects: Mapping[Key, T], buckets: Mapping[str, Mapping[str, _Bucket]], horizon: Callable[[str], int]
    ) -> None:
        self._objects = objects
        self._buckets = buckets
        self._horizon = horizon

    def get(self, key: Key) -> T | None:
        return self._objects.get(key)

    def by_index(self, name: str, value: str) -> list[T]:
        """The objects for which the index function called `name` yields `value`."""
        bucket = self._buckets[name].get(value)
        if bucket is None:
            return []
        if isinstance(bucket, dict):
            return [self._objects[key] for key in bucket]
        return [self._objects[bucket]]

    def keys(self) -> Iterable[Key]:
        return self._objects.keys()

    def values(self) -> Iterable[T]:
        return self._objects.values()

    def resource_version(self, namespace: str = "") -> int:
        """Up to which version everything in `namespace` was told; 0 before the first list."""
        return self._horizon(namespace)

    def __contains__(self, key: Key) -> bool:
        return key in self._objects

    def __len__(self) -> int:
        return len(self._objects)


class Store(Generic[T]):
    """The writing half; `namespaces` are the scopes that are listed and watched, "" alone for all."""

    def __init__(self, *, namespaces: Iterable[str] = ("",), indexes: Indexes[T] | None = None) -> None:
        self.objects: dict[Key, T] = {}
        self._indexes = dict(indexes or {})
        self._buckets: dict[str, dict[str, _Bucket]] = {name: {} for name in self._indexes}
        self._horizons = dict.fromkeys(namespaces, 0)
        self._all = "" in self._horizons
        self._dead: dict[Key, tuple[str, int]] = {}  # key -> the uid confirmed dead and the version last held
        self._handlers: list[Handler[T]] = []
        self.reader = StoreReader(self.objects, self._buckets, self.horizon)

    def subscribe(self, handler: Handler[T]) -> None:
        self._handlers.append(handler)

    def horizon(self, namespace: str) -> int:
        """Up to which version everything in `namespace` was told."""
        return self._horizons["" if self._all else namespace]

    def changed(self, obj: T) -> None:
        """The watch tells that an object was added or modified."""
        self._update(obj, Cause.TOLD)
        self.bookmark(obj.key.namespace, obj.resource_version)

    def gone(self, key: Key, uid: str, resource_version: int) -> None:
        """The watch tells that an object was deleted or left the selection."""
        if self._dead.get(key, ("", 0))[0] == uid:
            del self._dead[key]
        held = self.objects.get(key)
        if held is not None and held.resource_version <= resource_version:
            self._set(key, held, None, Cause.TOLD)
        self.bookmark(key.namespace, resource_version)

    def bookmark(self, namespace: str, resource_version: int) -> None:
        """The watch tells that it told everything up to here."""
        scope = "" if self._all else namespace
        self._horizons[scope] = max(self._horizons[scope], resource_version)

    def listed(
        self,
        namespace: str,
        objects: Mapping[Key, T | None],
        resource_version: int,
        *,
        cause: Cause = Cause.TOLD,
    ) -> None:
        """A complete list tells all that `namespace` held at a version.

        None stands for an object that could not be decoded: it exists, and what is held of it stays.
        """
        # What is not held although everything up to the horizon was told is gone: such a list is a stale one.
        stale = resource_version < self._horizons[namespace]
        for key, obj in objects.items():
            if obj is None or self._is_dead(obj):
                continue
            held = self.objects.get(key)
            if not stale if held is None else obj.resource_version > held.resource_version:
                self._set(key, held, obj, cause)
        for key, held in list(self.objects.items()):
            if key not in objects and _covers(namespace, key) and held.resource_version <= resource_version:
                self._set(key, held, None, cause)
        for key, (uid, version) in list(self._dead.items()):
            obj = objects.get(key)
            absent = obj.uid != uid if obj is not None else key not in objects
            if absent and version <= resource_version and _covers(namespace, key):
                del self._dead[key]
        self._horizons[namespace] = max(self._horizons[namespace], resource_version)

    def wrote(self, obj: T) -> None:
        """The API server answers a write of our own."""
        if self._all or obj.key.namespace in self._horizons:
            self._update(obj, Cause.OWN)

    def deleted(self, key: Key, uid: str) -> None:
        """The API server confirms that the object is gone."""
        held = self.objects.get(key)
        # Of an object that is not held, the watch has told the end already, or will tell beginning and end.
        if held is not None and held.uid == uid:
            self._dead[key] = (uid, held.resource_version)
            self._set(key, held, None, Cause.OWN)

    def _update(self, obj: T, cause: Cause) -> None:
        if self._is_dead(obj):
            return
        held = self.objects.get(obj.key)
        known = self.horizon(obj.key.namespace) if held is None else held.resource_version
        if obj.resource_version > known:
            self._set(obj.key, held, obj, cause)

    def _set(self, key: Key, old: T | None, new: T | None, cause: Cause) -> None:
        # The index functions first: if one raises, nothing has changed.
        entries = {name: (_values(index, old), _values(index, new)) for name, index in self._indexes.items()}
        if new is None:
            del self.objects[key]
        else:
            self.objects[key] = new
        for name, (before, after) in entries.items():
            for value in before - after:
                _discard(self._buckets[name], value, key)
            for value in after - before:
                _insert(self._buckets[name], value, key)
        for handler in self._handlers:
            try:
                handler(old, new, cause)
            except Exception:
                log.exception("informer handler failed", key=str(key))

    def _is_dead(self, obj: T) -> bool:
        dead = self._dead.get(obj.key)
        return dead is not None and (obj.uid == dead[0] or obj.resource_version <= dead[1])


def _covers(namespace: str, key: Key) -> bool:
    return namespace in ("", key.namespace)


def _values(index: Index[T], obj: T | None) -> set[str]:
    return set() if obj is None else set(index(obj))


def _insert(buckets: dict[str, _Bucket], value: str, key: Key) -> None:
    bucket = buckets.get(value)
    if bucket is None:
        buckets[value] = key
    elif isinstance(bucket, dict):
        bucket[key] = None
    else:
        buckets[value] = {bucket: None, key: None}


def _discard(buckets: dict[str, _Bucket], value: str, key: Key) -> None:
    bucket = buckets[value]
    if isinstance(bucket, dict):
        del bucket[key]
        if bucket:
            return
    del buckets[value]
