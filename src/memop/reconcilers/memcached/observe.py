"""What a reconcile of one `Memcached` goes by: its spec and its workload, read from the caches in one go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ValidationError

from memop.api.conditions import Condition
from memop.api.memcached import MemcachedSpec
from memop.informers.store import StoreReader
from memop.reconcilers.memcached.instance import RESTART_TRIGGER, Instance
from memop.reconcilers.objects import Live
from memop.refs import Key

PAUSED = "memcached.c5c3.io/paused"


class Rollout(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a Deployment's status that says how far it is; counts of pods."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0


class _LiveStatus(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: int = 0
    conditions: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class Observed:
    """One `Memcached` and what the caches know of it.

    `instance` is None where the spec cannot be read, and `invalid` says why. `conditions` and `told_generation` are
    what the CR's status says now.
    """

    cr: Live
    conditions: list[Condition]
    told_generation: int
    instance: Instance | None
    invalid: str
    paused: bool
    workload: Live | None
    rollout: Rollout


def observe(
    key: Key, *, memcacheds: StoreReader[Live], deployments: StoreReader[Live], default_image: str
) -> Observed | None:
    """None where there is no such CR, or it is being deleted: garbage collection does the rest."""
    cr = memcacheds.get(key)
    if cr is None or cr.deleting:
        return None
    annotations: Mapping[str, str] = msgspec.json.decode(cr.annotations)
    instance, invalid = None, ""
    try:
        spec = MemcachedSpec.model_validate_json(cr.spec)
        instance = Instance(key, spec, spec.image or default_image, annotations.get(RESTART_TRIGGER))
    except ValidationError as error:
        invalid = "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    told = msgspec.json.decode(cr.status, type=_LiveStatus)
    workload = deployments.get(key)
    if workload is not None and (workload.owner is None or workload.owner.uid != cr.uid):
        workload = None
    return Observed(
        cr=cr,
        conditions=[Condition.model_validate(condition) for condition in told.conditions],
        told_generation=told.observed_generation,
        instance=instance,
        invalid=invalid,
        paused=annotations.get(PAUSED) == "true",
        workload=workload,
        rollout=msgspec.json.decode(workload.status, type=Rollout) if workload is not None else Rollout(),
    )
