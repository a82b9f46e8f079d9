"""What a reconcile of one `Memcached` goes by: its spec and its workload, read from the caches in one go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from pydantic import ValidationError

from memop.api.memcached import MemcachedSpec
from memop.informers.store import StoreReader
from memop.reconcilers.memcached.instance import RESTART_TRIGGER, Instance
from memop.reconcilers.objects import Live
from memop.refs import Key

PAUSED = "memcached.c5c3.io/paused"

T = TypeVar("T")
D = TypeVar("D")


class Rollout(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a Deployment's status that says how far it is; counts of pods."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0


class LiveCondition(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What is read of a condition in a CR's status; whoever wrote it, nothing is asked of its words."""

    type: str = ""
    status: str = ""
    reason: str = ""
    last_transition_time: str = ""


class _LiveStatus(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: int = 0
    conditions: list[LiveCondition] = []


class _OddStatus(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: msgspec.Raw = msgspec.Raw(b"0")
    conditions: msgspec.Raw = msgspec.Raw(b"[]")


@dataclass(frozen=True, slots=True)
class Observed:
    """One `Memcached` and what the caches know of it.

    `instance` is None where the spec cannot be read, and `invalid` says why. `conditions` and `told_generation` are
    what the CR's status says now.
    """

    cr: Live
    conditions: list[LiveCondition]
    told_generation: int
    instance: Instance | None
    invalid: str
    paused: bool
    workload: Live | None
    rollout: Rollout


def observe(
    key: Key,
    *,
    memcacheds: StoreReader[Live],
    deployments: StoreReader[Live],
    default_image: str,
    found: Live | None = None,
    before: Observed | None = None,
) -> Observed | None:
    """None where there is no such CR, or it is being deleted: garbage collection does the rest.

    `found` is a Deployment of this name that was looked up because the cache, which knows only our labels, has none.
    `before` is what was observed a moment ago: what has not changed since is not read again.
    """
    cr = memcacheds.get(key)
    if cr is None or cr.deleting:
        return None
    workload = deployments.get(key) or found
    if workload is not None and (workload.owner is None or workload.owner.uid != cr.uid):
        workload = None
    if before is not None and (before.cr, before.workload) == (cr, workload):
        return before
    told = _told(cr.status)
    if before is not None and (before.cr.spec, before.cr.annotations) == (cr.spec, cr.annotations):
        instance, invalid, paused = before.instance, before.invalid, before.paused
    else:
        annotations: Mapping[str, str] = msgspec.json.decode(cr.annotations)
        instance, invalid = _instance(cr, default_image, annotations.get(RESTART_TRIGGER))
        paused = annotations.get(PAUSED) == "true"
    return Observed(
        cr=cr,
        conditions=told.conditions,
        told_generation=told.observed_generation,
        instance=instance,
        invalid=invalid,
        paused=paused,
        workload=workload,
        rollout=msgspec.json.decode(workload.status, type=Rollout) if workload is not None else Rollout(),
    )


def _instance(cr: Live, default_image: str, restart_trigger: str | None) -> tuple[Instance | None, str]:
    """The CR as builders take it, or None and why its spec cannot be read."""
    try:
        spec = MemcachedSpec.model_validate_json(cr.spec)
    except ValidationError as error:
        return None, "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return Instance(cr.key, spec, spec.image or default_image, restart_trigger), ""


def _told(status: bytes) -> _LiveStatus:
    """What the status says, without what cannot be read of it: memop writes it anew, and must get as far as that."""
    try:
        return msgspec.json.decode(status, type=_LiveStatus)
    except msgspec.ValidationError:
        odd = _read(status, _OddStatus, _OddStatus())
    conditions = (_read(raw, LiveCondition, None) for raw in _read(odd.conditions, list[msgspec.Raw], []))
    return _LiveStatus(
        observed_generation=_read(odd.observed_generation, int, 0),
        conditions=[condition for condition in conditions if condition is not None],
    )


def _read(raw: bytes | msgspec.Raw, type_: type[T], otherwise: D) -> T | D:
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError:
        return otherwise
