"""The status of a `Memcached`: observed → fields and conditions."""

from collections.abc import Iterable, Mapping, Sequence

from memop.api.conditions import DesiredCondition, Problem, merge_conditions
from memop.reconcilers.memcached.labels import selector
from memop.reconcilers.memcached.observe import Observed
from memop.reconcilers.memcached.ports import CLIENT_PORT
from memop.reconcilers.monitoring import ready_condition
from memop.reconcilers.objects import Json
from memop.refs import STATEFUL_SETS


def status(observed: Observed, problems: Sequence[Problem], *, unserved: Mapping[str, str], now: str) -> Json:
    """The status to apply.

    `unserved` says of kinds that the cluster lacks or forbids why; `now` (RFC 3339) is the time of conditions that
    change.
    """
    cr, rollout, desired = observed.cr, observed.rollout, observed.desired
    ready = desired > 0 and rollout.ready_replicas == desired
    conditions = [
        DesiredCondition(type_, "True" if holds else "False", reason, message, cr.generation)
        for type_, holds, reason, message in (
            *_conditions(observed, problems, desired=desired, ready=ready),
            *_monitoring(observed, unserved),
        )
    ]
    result: Json = {
        "conditions": merge_conditions(observed.conditions, conditions, now),
        "observedGeneration": cr.generation,
        "replicas": rollout.replicas,
        "readyReplicas": rollout.ready_replicas,
        "selector": ",".join(f"{name}={value}" for name, value in sorted(selector(cr.key).items())),
    }
    if ready:
        result["serverList"] = _servers(observed)
    return result


def _servers(observed: Observed) -> list[str]:
    """What clients are to be given: each pod where pods keep their names, else the name that all of them share."""
    key, instance = observed.cr.key, observed.instance
    service = f"{key.name}.{key.namespace}:{CLIENT_PORT}"
    if instance is None or instance.workload is not STATEFUL_SETS:
        return [service]
    return [f"{key.name}-{number}.{service}" for number in range(observed.desired)]


def _conditions(
    observed: Observed, problems: Sequence[Problem], *, desired: int, ready: bool
) -> Iterable[tuple[str, bool, str, str]]:
    rollout = observed.rollout
    count = f"{rollout.ready_replicas} of {desired} pods ready"
    available = rollout.ready_replicas > 0
    yield "Available", available, "Available" if available else "Unavailable", count
    waiting = _progress(observed, desired)
    yield "Progressing", bool(waiting), "Progressing" if waiting else "ProgressingComplete", waiting or "rolled out"
    if problems:
        yield "Degraded", True, problems[0][0], "; ".join(message for _, message in problems)
    elif rollout.ready_replicas < desired:
        yield "Degraded", True, "Degraded", count
    else:
        yield "Degraded", False, "NotDegraded", count
    yield "Ready", ready, "MemcachedReady" if ready else "MemcachedNotReady", count
    if observed.paused:
        yield "Paused", True, "Paused", "the paused annotation is set: memop changes nothing of this pool until it goes"


def _monitoring(observed: Observed, unserved: Mapping[str, str]) -> Iterable[tuple[str, bool, str, str]]:
    """Nothing where Prometheus is not meant to see anything."""
    spec = observed.instance and observed.instance.spec
    if not spec or spec.enabled_monitoring is None:
        return
    obstacle = None
    if spec.enabled_sasl is not None:
        message = "memcached asks for a password, which the exporter cannot give: its memcached_up is 0"
        obstacle = "ExporterCannotAuthenticate", message
    yield ready_condition(spec.enabled_monitoring, obstacle, unserved)


def _progress(observed: Observed, desired: int) -> str:
    """What the rollout waits for; empty when it is complete."""
    workload, rollout = observed.workload, observed.rollout
    kind = observed.instance.workload.kind if observed.instance else "workload"
    if workload is None:
        return f"no {kind} yet"
    if rollout.observed_generation < workload.generation:
        return f"the {kind}'s newest generation is not observed yet"
    if rollout.updated_replicas < desired or rollout.replicas != desired:
        return f"{rollout.updated_replicas} of {desired} pods updated, {rollout.replicas} in all"
    return ""
