"""The status of a `Memcached`: observed → fields and conditions, and the events that tell of their changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memop.api.conditions import DesiredCondition, merge_conditions
from memop.reconcilers.memcached.labels import selector
from memop.reconcilers.memcached.observe import Observed
from memop.reconcilers.memcached.workload import CLIENT_PORT
from memop.reconcilers.objects import Json

Problem = tuple[str, str]
"""A condition's reason and message."""


def status(observed: Observed, problems: Sequence[Problem], *, now: str) -> Json:
    """The status to apply; `now` (RFC 3339) is the time of conditions that change."""
    cr, rollout = observed.cr, observed.rollout
    desired = observed.instance.replicas if observed.instance else 0
    ready = desired > 0 and rollout.ready_replicas == desired
    conditions = [
        DesiredCondition(type_, "True" if holds else "False", reason, message, cr.generation)
        for type_, holds, reason, message in _conditions(observed, problems, desired=desired, ready=ready)
    ]
    result: Json = {
        "conditions": merge_conditions(observed.conditions, conditions, now),
        "observedGeneration": cr.generation,
        "replicas": rollout.replicas,
        "readyReplicas": rollout.ready_replicas,
        "selector": ",".join(f"{name}={value}" for name, value in sorted(selector(cr.key).items())),
    }
    if ready:
        result["serverList"] = [f"{cr.key.name}.{cr.key.namespace}:{CLIENT_PORT}"]
    return result


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


def _progress(observed: Observed, desired: int) -> str:
    """What the rollout waits for; empty when it is complete."""
    workload, rollout = observed.workload, observed.rollout
    if workload is None:
        return "no Deployment yet"
    if rollout.observed_generation < workload.generation:
        return "the Deployment's newest generation is not observed yet"
    if rollout.updated_replicas < desired or rollout.replicas != desired:
        return f"{rollout.updated_replicas} of {desired} pods updated, {rollout.replicas} in all"
    return ""


@dataclass(frozen=True, slots=True)
class Event:
    type: str  # Normal | Warning
    reason: str
    message: str


def events(observed: Observed, after: Json) -> list[Event]:
    """What the new status changes and people want to be told of: trouble, readiness, pausing."""
    before = {condition.type: (condition.status, condition.reason) for condition in observed.conditions}
    told = []
    for condition in after["conditions"]:
        type_, holds, reason = condition["type"], condition["status"], condition["reason"]
        if holds != "True" or before.get(type_) == (holds, reason):
            continue
        if type_ == "Degraded" and reason != "Degraded":
            told.append(Event("Warning", reason, condition["message"]))
        elif type_ in ("Ready", "Paused"):
            told.append(Event("Normal", reason, condition["message"]))
    return told
