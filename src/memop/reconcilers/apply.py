"""The one way in which children and status are written: look, judge whose it is, compare, and only then apply."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, Protocol

import msgspec
import structlog

from memop.clock import Clock
from memop.errors import ApiError, BadResponse, Conflict, NamespaceTerminating, NotFound, Rejected
from memop.informers.informer import Informer
from memop.metrics import OperatorMetrics
from memop.reconcilers.compare import Difference, FieldSet, difference
from memop.reconcilers.objects import CONTROLLER, NOTHING, Claim, Json, Live, claim, controlled, decoder
from memop.reconcilers.takeover import taken_over
from memop.refs import Key, Resource

log = structlog.get_logger(__name__)

# No object has this version, so an apply that carries it makes an object and never changes one: to an existing name the
# API server answers 409.
NOT_EXISTING = "1"
MAX_SHAPES = 256  # of children and statuses, parsed

NO_ORDER: Mapping[str, str] = MappingProxyType({})

# What an operator alone sets of an object: its owner.
OPERATORS_MARK = ("metadata", "ownerReferences")

# Seconds between two tries to apply what admission changes every time.
FIRST_PAUSE, MAX_PAUSE = 1.0, 300.0


class Writer(Protocol):
    """The calls of `client.Client` that writing needs; each answers with the object's JSON."""

    async def get(self, resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes: ...

    async def apply(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes: ...

    async def apply_status(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes: ...

    async def patch(
        self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> bytes: ...

    async def delete(self, resource: Resource, key: Key, *, uid: str, resource_version: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Child:
    """What became of one child.

    `changed` says what made a write necessary, `foreign` that somebody else did; `problem` why the child is not as
    wanted: a condition's reason and message. `error` is set where the API server refused, so that the caller backs
    off; `again` where it is to be looked at again in so many seconds.
    """

    kind: str
    name: str
    result: Literal["created", "updated", "deleted", "unchanged", "contested", "conflict", "rejected"]
    changed: str = ""
    foreign: bool = False
    problem: tuple[str, str] | None = None
    error: ApiError | None = None
    again: float | None = None


@dataclass(frozen=True, slots=True)
class _Brake:
    """Keeps a child that admission changes, and that so never is as applied, from being applied again and again."""

    wish: int  # hash of what was applied
    pause: float
    until: float


def own_name(_kind: str, owner: str) -> Iterable[str]:
    """Children that are all named after their owner."""
    return (owner,)


class Applier:
    """Writes the children and the status of the CRs of one kind, under one field manager."""

    def __init__(
        self,
        client: Writer,
        *,
        resource: Resource,
        manager: str,
        owners: Informer[Live],
        children: Mapping[Resource, Informer[Live]],
        clock: Clock,
        metrics: OperatorMetrics,
        optional: Collection[Resource] = (),
        names: Callable[[str, str], Iterable[str]] = own_name,
    ) -> None:
        """`optional`: the kinds of children that a cluster may not serve.

        `names`: all that a child of a kind, of an owner of that name, may be called; what is no longer wanted is sought
        there.
        """
        self._client = client
        self._resource = resource
        self._manager = manager
        self._decode = decoder(manager)
        self._owners = owners
        self._children = {child.kind: (child, informer) for child, informer in children.items()}
        self._optional = {kind.kind: children[kind] for kind in optional}
        self._names = names
        self._clock = clock
        self._metrics = metrics
        self._field_set = lru_cache(MAX_SHAPES)(_field_set)
        self._brakes: dict[Key, dict[tuple[str, str], _Brake]] = {}  # owner -> (kind, name) of the child
        self._strangers: dict[Key, set[tuple[str, str]]] = {}  # owner -> (kind, name) of others' objects in the way

    def unserved(self, namespace: str) -> Mapping[str, str]:
        """The optional kinds that the cluster lacks or forbids there, and why; no child of these must be wanted."""
        refusals = ((kind, informer.refusal(namespace)) for kind, informer in self._optional.items())
        return {kind: refusal for kind, refusal in refusals if refusal}

    async def children(
        self,
        owner: Live,
        wanted: Sequence[Json],
        *,
        first: bool,
        keep: Collection[str] = (),
        in_turn: Collection[str] = (),
        before: Mapping[str, str] = NO_ORDER,
    ) -> list[Child]:
        """Bring the children of `owner` to `wanted` (apply bodies without owner reference), and delete its others.

        Only what is ours is touched, and only where it differs. The cache holds what carries our labels, so an object
        that it does not know may still exist: it is made by an apply that refuses to change one, and looked at where it
        is there. The uid that was seen travels in every later apply: a forced one must never take over a stranger's.
        Before anything is made again or adopted, the owner itself is looked up (`first`: it never had children): its
        watch may lag, and what is made for an owner that is gone is garbage, adopted objects included.

        Of those wanted, what is named in `keep` is left as it is, and of `in_turn` no more than one is changed. By
        `before` a kind waits until those of another kind, which come earlier, are in place.

        Raises: ApiError that is no verdict on an object (unreachable, throttled, conflict): try again later;
        NamespaceTerminating.
        """
        held = [self._children[body["kind"]][1].reader.get(_key(owner, body)) for body in wanted]
        if any(not first if live is None else _controller(live) != owner.uid for live in held):
            await self._confirm(owner)
        children: list[Child] = []
        try:
            async for child in self._each(owner, wanted, keep=set(keep), in_turn=in_turn, before=before):
                children.append(child)  # noqa: PERF401 - what was done before an error is told of too
        finally:
            self._tell(children)
        return children

    async def _each(
        self,
        owner: Live,
        wanted: Sequence[Json],
        *,
        keep: set[str],
        in_turn: Collection[str],
        before: Mapping[str, str],
    ) -> AsyncIterator[Child]:
        waiting: set[str] = set()  # kinds
        for desired in wanted:
            name = desired["metadata"]["name"]
            if name in keep or desired["kind"] in waiting:
                continue
            self._check_current()
            child = await self._attempt(owner, desired)
            if name in in_turn and child.result != "unchanged":
                keep.update(in_turn)
            if child.kind in before and not self._in_place(owner, child):
                waiting.add(before[child.kind])
            yield child
        names = {(desired["kind"], desired["metadata"]["name"]) for desired in wanted}
        for kind, (resource, informer) in self._children.items():
            for name in self._names(kind, owner.key.name):
                live = informer.reader.get(Key(owner.key.namespace, name))
                if live is None or live.deleting or (kind, name) in names:
                    continue
                if _controller(live) == owner.uid:
                    self._check_current()
                    yield await self._delete(kind, resource, informer, live)

    def _in_place(self, owner: Live, child: Child) -> bool:
        """Whether the child was not refused, and stays."""
        live = self._children[child.kind][1].reader.get(Key(owner.key.namespace, child.name))
        return child.problem is None and live is not None and not live.deleting

    def _check_current(self) -> None:
        """Raises: Conflict while the watch of the CRs is broken: the server may have been set back in history."""
        if not self._owners.current:
            raise Conflict(f"the watch of {self._resource} broke; what is cached may not be so any more")

    async def _confirm(self, owner: Live) -> None:
        """Raises: Conflict where the owner is gone or going, and then the cache knows."""
        try:
            live = self._seen(self._owners, await self._client.get(self._resource, owner.key))
        except NotFound:
            self._owners.deleted(owner.key, owner.uid)
            live = None
        if live is None or live.uid != owner.uid or live.deleting:
            raise Conflict(f"{self._resource.kind} {owner.key} is not the one any more that is known")

    def _seen(self, informer: Informer[Live], answer: bytes) -> Live:
        """The object that the API server answers with, which the cache now knows too."""
        live = informer.wrote(answer)
        if live is None:
            raise BadResponse(f"not {informer.name}: {answer[:100]!r}")
        return live

    def _tell(self, children: Sequence[Child]) -> None:
        """One line for all: a line each was 6 % of the CPU of a start over new CRs."""
        changes: dict[str, list[str]] = {}
        for child in children:
            self._metrics.resources.labels(child.kind, child.result).inc()
            if child.changed:
                changes.setdefault(child.result, []).append(f"{child.kind} {child.name}: {child.changed}")
        if changes:
            log.info("children", **changes)

    async def find(self, kind: str, key: Key) -> Live | None:
        """A child as the API server has it, whatever its labels: one without ours is in no cache."""
        try:
            return self._decode(await self._client.get(self._children[kind][0], key))
        except NotFound:
            return None

    def forget(self, owner: Key) -> None:
        """A CR is gone."""
        self._brakes.pop(owner, None)
        self._strangers.pop(owner, None)

    async def _attempt(self, owner: Live, desired: Json) -> Child:
        """One child that the API server refuses, to be written or only to be read, keeps no other waiting."""
        try:
            return await self._child(owner, desired)
        except NamespaceTerminating:
            raise
        except Rejected as error:
            return _rejected(desired["kind"], _key(owner, desired), error)

    async def _child(self, owner: Live, desired: Json) -> Child:
        kind, key = desired["kind"], _key(owner, desired)
        body = controlled(desired, owner.key, CONTROLLER, self._resource)
        informer = self._children[kind][1]
        live = informer.reader.get(key)
        # A cache that was never filled says nothing, and where a stranger was the last time, he probably is still.
        if live is None and (not informer.synced or (kind, key.name) in self._strangers.get(owner.key, ())):
            live = await self.find(kind, key)
        if live is None:
            try:
                return await self._write(owner, key, body, None, Difference("is missing", foreign=True).below(kind))
            except Conflict:
                live = await self.find(kind, key)
                if live is None:
                    raise
        verdict = claim(live, desired, owner=owner, resource=self._resource)
        if verdict is Claim.STRANGER:
            self._strangers.setdefault(owner.key, set()).add((kind, key.name))
            return Child(kind, key.name, "conflict", problem=("ObjectConflict", _conflict(kind, live)))
        self._strangers.get(owner.key, set()).discard((kind, key.name))
        if live.deleting:  # made again once it is gone
            return Child(kind, key.name, "unchanged")
        if not live.claimed:
            live = await self._take_over(kind, live)
        if verdict is Claim.ADOPTABLE and live.owner is not None:
            live = await self._release(kind, live)
        found = self._difference(body, live)
        if found is None:
            self._brakes.get(owner.key, {}).pop((kind, key.name), None)
            return Child(kind, key.name, "unchanged")
        return await self._write(owner, key, body, live, found)

    async def _write(self, owner: Live, key: Key, body: Json, live: Live | None, found: Difference) -> Child:
        kind = body["kind"]
        resource, informer = self._children[kind]
        brakes = self._brakes.get(owner.key, {})
        brake, now = brakes.get((kind, key.name)), self._clock.monotonic()
        if brake is not None and brake.wish != _wish(body):
            brake = None
        if brake is not None and now < brake.until:
            return Child(kind, key.name, "contested", again=brake.until - now)
        sent = controlled(body, owner.key, owner.uid, self._resource)
        sent["metadata"] |= {"resourceVersion": NOT_EXISTING} if live is None else {"uid": live.uid}
        if live is not None and _gives_up_replicas(body, live):
            await self._hand_over_replicas(resource, live)
        raw = await self._client.apply(resource, key, sent, manager=self._manager)
        left = self._difference(body, self._seen(informer, raw))
        if left is not None:
            pause = min(brake.pause * 2, MAX_PAUSE) if brake is not None else FIRST_PAUSE
            self._brakes.setdefault(owner.key, {})[kind, key.name] = _Brake(_wish(body), pause, now + pause)
            return Child(kind, key.name, "contested", left.message, again=pause)
        brakes.pop((kind, key.name), None)
        return Child(kind, key.name, "updated" if live is not None else "created", found.message, found.foreign)

    async def _delete(self, kind: str, resource: Resource, informer: Informer[Live], live: Live) -> Child:
        """Delete a child of ours that is no longer wanted, as it was seen."""
        name, why = live.key.name, f"{kind} is no longer wanted"
        try:
            lingering = await self._client.delete(
                resource, live.key, uid=live.uid, resource_version=str(live.resource_version)
            )
        except NotFound:
            lingering = None
        except Rejected as error:
            return _rejected(kind, live.key, error)
        if lingering is None:
            informer.deleted(live.key, live.uid)
        else:
            informer.wrote(lingering)
        return Child(kind, name, "deleted", why)

    def _difference(self, body: Json, live: Live) -> Difference | None:
        return difference(body, live.fields(), self._field_set(live.owned))

    async def _release(self, kind: str, live: Live) -> Live:
        """Drop the controller that is gone: an object has room for one, and an apply cannot remove another's entry."""
        kept = [owner for owner in live.owners if not owner.controller]
        seen = {"uid": live.uid, "resourceVersion": str(live.resource_version)}
        body = {"metadata": {**seen, "ownerReferences": kept}}
        return self._decode(await self._client.patch(self._children[kind][0], live.key, body, manager=self._manager))

    async def _take_over(self, kind: str, live: Live) -> Live:
        """What another operator set is ours from now on, and goes when it is not wanted: see `takeover`."""
        resource = self._children[kind][0]
        try:
            metadata = msgspec.json.decode(await self._client.get(resource, live.key))["metadata"]
        except NotFound as error:
            raise Conflict(f"{kind} {live.key} is gone, and the watch has yet to tell") from error
        before = metadata.get("managedFields", [])
        after = taken_over(before, OPERATORS_MARK, manager=self._manager)
        if after is before:
            return live
        seen = {"uid": live.uid, "resourceVersion": metadata["resourceVersion"]}
        body = {"metadata": {**seen, "managedFields": after}}
        log.info("another operator's fields are taken over", kind=kind, child=live.key.name)
        return self._decode(await self._client.patch(resource, live.key, body, manager=self._manager))

    async def _hand_over_replicas(self, resource: Resource, live: Live) -> None:
        """Before memop gives up `spec.replicas`, let another field manager hold the number as it is.

        A field that its only owner drops falls back to its default, which is one pod. The autoscaler, or whoever
        scales, takes it from there.
        """
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": live.key.name,
                "namespace": live.key.namespace,
                "uid": live.uid,
                "resourceVersion": str(live.resource_version),
            },
            "spec": {"replicas": live.fields()["spec"]["replicas"]},
        }
        await self._client.apply(resource, live.key, body, manager=f"{self._manager}-replicas")

    async def status(self, owner: Live, status: Json) -> bool:
        """Apply the status where it differs from the live one; True when a write was made.

        A CR that is gone is none of this writer's business any more.
        """
        try:
            return await self._apply_status(owner, status)
        except NotFound:
            self._owners.deleted(owner.key, owner.uid)
            return False

    async def _apply_status(self, owner: Live, status: Json) -> bool:
        if not owner.claimed and owner.status != NOTHING:
            # Another operator told it, and an apply would leave what memop does not tell. Its record cannot be
            # rewritten as a child's can: the status endpoint keeps managedFields as they are. So for a moment, once in
            # its life, the CR has no status.
            withdrawn: Json = {"metadata": {"uid": owner.uid}, "status": None}
            raw = await self._client.patch(
                self._resource, owner.key, withdrawn, manager=self._manager, subresource="status"
            )
            owner = self._seen(self._owners, raw)
        live = {"status": msgspec.json.decode(owner.status)}
        found = difference({"status": status}, live, self._field_set(owner.owned))
        if found is None:
            return False
        body = {
            "apiVersion": self._resource.api_version,
            "kind": self._resource.kind,
            "metadata": {"name": owner.key.name, "namespace": owner.key.namespace, "uid": owner.uid},
            "status": status,
        }
        raw = await self._client.apply_status(self._resource, owner.key, body, manager=self._manager)
        log.debug("status", field=found)
        self._seen(self._owners, raw)
        return True


def _key(owner: Live, body: Json) -> Key:
    return Key(owner.key.namespace, body["metadata"]["name"])


def _controller(live: Live) -> str | None:
    """The uid of the object's controller."""
    return live.owner.uid if live.owner is not None else None


def _rejected(kind: str, key: Key, error: Rejected) -> Child:
    return Child(kind, key.name, "rejected", problem=("Rejected", f"{kind} {key}: {error.message}"), error=error)


def _wish(body: Json) -> int:
    return hash(msgspec.json.encode(body))


def _field_set(owned: bytes) -> FieldSet:
    return FieldSet(msgspec.json.decode(owned))


def _gives_up_replicas(body: Json, live: Live) -> bool:
    """Whether there is a size to keep. Of none at all an autoscaler makes nothing, so it begins with the default."""
    if "replicas" in body.get("spec", {}) or "f:replicas" not in msgspec.json.decode(live.owned).get("f:spec", {}):
        return False
    return bool(live.fields()["spec"]["replicas"])


def _conflict(kind: str, live: Live) -> str:
    controller = live.owner
    whose = f"controlled by {controller.kind} {controller.name}" if controller else "not made by this operator"
    return (
        f"{kind} {live.key} exists and is {whose}; it is left alone. "
        f"Delete or rename it, or rename this CR, and the {kind} will be made."
    )
