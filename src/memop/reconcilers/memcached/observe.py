"""What a reconcile of one `Memcached` goes by: its spec and its workload, read from the caches in one go.

The spec is defaulted and judged here as admission does it, so that a cluster without webhooks is no different: what
must not be is left out, what can be built is built, and the status tells of all that is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec
from pydantic import ValidationError

from memop.api.memcached import MemcachedSpec
from memop.informers.store import StoreReader
from memop.reconcilers.live import LiveCondition, Rollout, read_status
from memop.reconcilers.memcached.instance import SECRET_HASH, Instance, Options, own_replicas
from memop.reconcilers.objects import PAUSED, RESTART_TRIGGER, Live
from memop.refs import Key, Resource
from memop.webhooks.validation import Policy, effective

MAX_SPECS = 256  # that are kept read: most pools are of few shapes


@dataclass(frozen=True, slots=True)
class Observed:
    """One `Memcached` and what the caches know of it.

    `instance` is None where the spec cannot be read. `invalid` says what is wrong with the spec, read or not.
    `conditions` and `told_generation` are what the CR's status says now.
    """

    cr: Live
    conditions: list[LiveCondition]
    told_generation: int
    instance: Instance | None
    invalid: str
    paused: bool
    workload: Live | None
    rollout: Rollout

    @property
    def desired(self) -> int:
        """How many pods there are to be: what another decides is read from the workload."""
        if self.instance is None:
            return 0
        return self.rollout.replicas if self.instance.replicas is None else self.instance.replicas

    @property
    def secret_hash(self) -> str | None:
        """The one that the pods have now."""
        if self.workload is None:
            return None
        return msgspec.json.decode(self.workload.spec, type=_Workload).template.metadata.annotations.get(SECRET_HASH)


class _Annotated(msgspec.Struct, frozen=True):
    annotations: dict[str, str] = {}


class _Template(msgspec.Struct, frozen=True):
    metadata: _Annotated = _Annotated()


class _Workload(msgspec.Struct, frozen=True):
    template: _Template = _Template()


def observe(
    key: Key,
    *,
    memcacheds: StoreReader[Live],
    workloads: Mapping[Resource, StoreReader[Live]],
    options: Options,
    found: Live | None = None,
    before: Observed | None = None,
) -> Observed | None:
    """None where there is no such CR, or it is being deleted: garbage collection does the rest.

    `found` is a workload of this name that was looked up because the cache, which knows only our labels, has none.
    `before` is what was observed a moment ago: what has not changed since is not read again.
    """
    cr = memcacheds.get(key)
    if cr is None or cr.deleting:
        return None
    if before is not None and (before.cr.spec, before.cr.annotations) == (cr.spec, cr.annotations):
        instance, invalid, paused = before.instance, before.invalid, before.paused
    else:
        annotations: Mapping[str, str] = msgspec.json.decode(cr.annotations)
        spec, invalid = _read_spec(cr.spec, options.allow_privileged_pods)
        instance = None if spec is None else _instance(key, spec, options, annotations.get(RESTART_TRIGGER))
        paused = annotations.get(PAUSED) == "true"
    kinds = workloads if instance is None else (instance.workload,)
    workload = next((live for kind in kinds if (live := workloads[kind].get(key)) is not None), found)
    if workload is not None and (workload.owner is None or workload.owner.uid != cr.uid):
        workload = None
    if before is not None and (before.cr, before.workload) == (cr, workload):
        return before
    told = read_status(cr.status)
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


@lru_cache(MAX_SPECS)
def _read_spec(stored: bytes, allow_privileged_pods: bool) -> tuple[MemcachedSpec | None, str]:
    """The spec that counts, None where it cannot be read, and all that is wrong with it."""
    judged = effective(msgspec.json.decode(stored), policy=Policy(allow_privileged_pods=allow_privileged_pods))
    wrong = "; ".join(map(str, judged.errors))
    try:
        return MemcachedSpec.model_validate(judged.spec), wrong
    except ValidationError as error:
        return None, wrong or "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())


def _instance(key: Key, spec: MemcachedSpec, options: Options, restart_trigger: str | None) -> Instance:
    """The CR as builders take it; its Secrets are another's to read."""
    monitoring = spec.enabled_monitoring
    return Instance(
        key=key,
        spec=spec,
        image=spec.image or options.image,
        exporter_image=(monitoring and monitoring.exporter_image) or options.exporter_image,
        replicas=own_replicas(spec),
        restart_trigger=restart_trigger,
        default_uid=options.default_uid,
        cluster_domain=options.cluster_domain,
    )
