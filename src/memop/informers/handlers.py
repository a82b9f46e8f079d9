"""From a changed object to the keys that someone should look at."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from memop.informers.store import Cached, Cause, Handler
from memop.refs import Key
from memop.workqueue import INITIAL, LIVE, WorkQueue

T = TypeVar("T", bound=Cached)


class OwnerRef(Protocol):
    """metav1.OwnerReference of the controller."""

    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...


class Owned(Cached, Protocol):
    """An object that may have a controller: an owner in its own namespace."""

    @property
    def owner(self) -> OwnerRef | None: ...


def enqueue(
    queue: WorkQueue[Key],
    keys: Callable[[T], Iterable[Key]],
    *,
    changed: Callable[[T, T], bool] | None = None,
) -> Handler[T]:
    """A handler that adds the keys of the object as it was and as it is: both owners, when the owner changed.

    `changed(old, new)` tells whether an update matters; another incarnation of a name always does.

    Of a child, a write of our own is no news to the worker that made it, who goes on from the answer. With `changed`,
    what matters is news whoever brought it: the answer to a status write is the whole CR, with everything that a user
    changed meanwhile, and the watch's event that follows is no transition any more.
    """

    def handle(old: T | None, new: T | None, cause: Cause) -> None:
        if changed and old is not None and new is not None and old.uid == new.uid and not changed(old, new):
            return
        priority = INITIAL if cause is Cause.INITIAL else LIVE
        for obj in (old, new):
            if obj is not None:
                for key in keys(obj):
                    queue.add(key, priority=priority, unless_held=cause is Cause.OWN and changed is None)

    return handle


def own_key(obj: Cached) -> tuple[Key]:
    return (obj.key,)


def controller_owner(group: str, kind: str) -> Callable[[Owned], Iterable[Key]]:
    """The key of the owner of that kind, whatever the version in which it is referred to."""

    def keys(obj: Owned) -> Iterable[Key]:
        owner = obj.owner
        if owner is not None and owner.kind == kind and owner.api_version.rpartition("/")[0] == group:
            yield Key(obj.key.namespace, owner.name)

    return keys
