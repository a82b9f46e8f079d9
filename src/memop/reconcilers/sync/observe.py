"""What a reconcile goes by: a `Memcached` and the workloads that it may follow, read from the caches in one go."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from memop.api.memcached import MAX_REPLICAS
from memop.informers.store import StoreReader
from memop.reconcilers.objects import PAUSED, Live
from memop.reconcilers.sync.source import Source
from memop.refs import DEPLOYMENTS, MEMCACHED_CLUSTERS, Key

CONDITION = "ReplicasSynced"


class NotYet(Exception):
    """A cache cannot be acted on for now: it was never filled, or its watch is broken."""


class Unreadable(Exception):
    """The API server does not let memop list the workloads; its words."""


class Workloads(Protocol):
    """Where sizes are read; both raise NotYet and Unreadable."""

    def labelled(self, pool: Key) -> Sequence[Source]:
        """The Deployments whose label names the pool."""

    def named(self, kind: str, key: Key) -> Source | None:
        """The workload of this kind and name."""


class Follow(msgspec.Struct, frozen=True):
    """`spec.replicasFrom`."""

    kind: Literal["Deployment", "StatefulSet"]
    name: str
    min: int = 0
    max: int = MAX_REPLICAS


class _Autoscaling(msgspec.Struct, frozen=True):
    enabled: bool = False


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    replicas: int | None = None
    replicas_from: Follow | None = None
    autoscaling: _Autoscaling | None = None


class Told(msgspec.Struct, frozen=True, rename="camel"):
    """Our condition, as the status has it."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""


class _Status(msgspec.Struct, frozen=True):
    conditions: list[Told] = []


@dataclass(frozen=True, slots=True)
class Observed:
    """One `Memcached`, and what may give it its size.

    `sources` are those that count, by name: of `replicasFrom` at most one, else all that are labelled; what is being
    deleted is gone. `unreadable` says why they cannot be told. `circle` are the pools, from the source's to this one,
    each of which takes its size from the next. `cluster` is the MemcachedCluster that the pool is part of.
    """

    cr: Live
    replicas: int | None
    follow: Follow | None
    sources: tuple[Source, ...]
    unreadable: str
    circle: tuple[str, ...]
    autoscaled: bool
    paused: bool
    cluster: str
    told: Told | None

    @property
    def kind(self) -> str:
        """Of the sources."""
        return DEPLOYMENTS.kind if self.follow is None else self.follow.kind


def observe(key: Key, *, memcacheds: StoreReader[Live], workloads: Workloads) -> Observed | None:
    """None where there is no such CR, it is being deleted, or its spec cannot be read. Raises: NotYet."""
    cr = memcacheds.get(key)
    spec = None if cr is None or cr.deleting else read_spec(cr)
    if cr is None or spec is None:
        return None
    unreadable, sources = _read(key, spec, workloads)
    annotations: dict[str, str] = msgspec.json.decode(cr.annotations)
    return Observed(
        cr=cr,
        replicas=spec.replicas,
        follow=spec.replicas_from,
        sources=sources,
        unreadable=unreadable,
        circle=_circle(key, sources, lambda pool: _follows(pool, memcacheds, workloads)),
        autoscaled=_autoscaled(spec),
        paused=annotations.get(PAUSED) == "true",
        cluster=_cluster(cr),
        told=told(cr.status),
    )


def read_spec(cr: Live) -> _Spec | None:
    """None for what the schema does not admit."""
    try:
        return msgspec.json.decode(cr.spec, type=_Spec)
    except msgspec.ValidationError:
        return None


def told(status: bytes) -> Told | None:
    """Our condition in the status of a `Memcached`."""
    if f'"{CONDITION}"'.encode() not in status:
        return None
    try:
        conditions = msgspec.json.decode(status, type=_Status).conditions
    except msgspec.ValidationError:
        return None
    return next((condition for condition in conditions if condition.type == CONDITION), None)


def _autoscaled(spec: _Spec) -> bool:
    return spec.autoscaling is not None and spec.autoscaling.enabled


def _cluster(cr: Live) -> str:
    owner = cr.owner
    if owner is None or (owner.group, owner.kind) != (MEMCACHED_CLUSTERS.group, MEMCACHED_CLUSTERS.kind):
        return ""
    return owner.name


def _read(pool: Key, spec: _Spec, workloads: Workloads) -> tuple[str, tuple[Source, ...]]:
    """Why the sources cannot be told, and which they are."""
    follow = spec.replicas_from
    try:
        if follow is None:
            found = sorted(workloads.labelled(pool), key=lambda source: source.key)
        else:
            named = workloads.named(follow.kind, Key(pool.namespace, follow.name))
            found = [] if named is None else [named]
    except Unreadable as error:
        return str(error), ()
    return "", tuple(source for source in found if not source.deleting)


def _follows(pool: Key, memcacheds: StoreReader[Live], workloads: Workloads) -> Source | None:
    """What gives the pool its size."""
    cr = memcacheds.get(pool)
    spec = None if cr is None or cr.deleting else read_spec(cr)
    if cr is None or spec is None or _autoscaled(spec) or _cluster(cr):
        return None
    _, sources = _read(pool, spec, workloads)
    return sources[0] if len(sources) == 1 else None


def _circle(pool: Key, sources: Sequence[Source], follows: Callable[[Key], Source | None]) -> tuple[str, ...]:
    """The way from the source back to the pool; empty where it leads elsewhere."""
    way: list[str] = []
    source = sources[0] if sources else None
    while source is not None and source.made_for and source.made_for not in way:
        way.append(source.made_for)
        if source.made_for == pool.name:
            return tuple(way)
        source = follows(Key(pool.namespace, source.made_for))
    return ()


def followed(cr: Live) -> Iterable[str]:
    """For an index: what `spec.replicasFrom` names, as `kind` and as `kind/namespace/name`."""
    if b'"replicasFrom"' not in cr.spec:
        return
    spec = read_spec(cr)
    if spec is not None and (follow := spec.replicas_from) is not None:
        yield follow.kind
        yield f"{follow.kind}/{Key(cr.key.namespace, follow.name)}"


def matters(old: Live, new: Live) -> bool:
    """Whether an update of a CR is worth a look: that its pods come and go is not."""
    return (
        old.generation != new.generation
        or old.deleting != new.deleting
        or old.annotations != new.annotations
        or old.owners != new.owners
        or old.claimed != new.claimed
        or told(old.status) != told(new.status)
    )
