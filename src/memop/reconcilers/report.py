"""What a pass over a CR leads to beside its status: events, and when to look again."""

from collections.abc import Sequence

from memop.controller import Done
from memop.events import Recorder
from memop.reconcilers.apply import Child
from memop.reconcilers.live import LiveCondition
from memop.reconcilers.objects import Event, Json, Live
from memop.refs import ObjectReference, Resource

# A stranger's object carries no label of ours, so no watch tells when it goes.
CONFLICT_RECHECK_SECONDS = 15.0


def record(events: Sequence[Event], recorder: Recorder, cr: Live, resource: Resource) -> None:
    """Tell of the CR `cr` of kind `resource`."""
    about = ObjectReference(
        resource.api_version, resource.kind, cr.key.namespace, cr.key.name, cr.uid, str(cr.resource_version)
    )
    for event in events:
        recorder.record(about, event.type, event.reason, event.message)


def turns(before: Sequence[LiveCondition], after: Json) -> list[Event]:
    """What the new status changes and people want to be told of: trouble, readiness, pausing."""
    told = {condition.type: (condition.status, condition.reason) for condition in before}
    events = []
    for condition in after["conditions"]:
        type_, holds, reason = condition["type"], condition["status"], condition["reason"]
        if told.get(type_) == (holds, reason):
            continue
        if type_ == "MonitoringReady" and holds == "False":
            events.append(Event("Warning", reason, condition["message"]))
        if holds != "True":
            continue
        if type_ == "Degraded" and reason != "Degraded":
            events.append(Event("Warning", reason, condition["message"]))
        elif type_ in ("Ready", "Paused"):
            events.append(Event("Normal", reason, condition["message"]))
    return events


def repairs(before: Sequence[LiveCondition], children: Sequence[Child]) -> list[Event]:
    """What was put back although no trouble had ended; `children` of a CR whose spec the status had told of already."""
    told = {condition.type: condition.reason for condition in before}
    if told.get("Degraded") not in ("Degraded", "NotDegraded") or "Paused" in told:
        return []
    return [
        Event("Normal", "DriftRepaired", f"{child.kind} {child.name}: {child.changed}; put back")
        for child in children
        if child.result in ("created", "updated") and child.foreign
    ]


def contests(children: Sequence[Child]) -> list[Event]:
    """What was applied and did not stay so."""
    why = "an admission webhook or policy changes it as it is applied; memop tries again ever more rarely"
    return [
        Event("Warning", "Contested", f"{child.kind} {child.name}: {child.changed}; {why}")
        for child in children
        if child.result == "contested" and child.changed
    ]


def done(children: Sequence[Child], due: float | None = None) -> Done:
    """When to look again: `due`, in seconds, or earlier where a child asks for it; else an event will tell.

    Raises: the ApiError with which a child was refused, where no child asks to be looked at again: to back off.
    """
    pauses = [child.again for child in children if child.again is not None]
    if any(child.result == "conflict" for child in children):
        pauses.append(CONFLICT_RECHECK_SECONDS)
    if not pauses:
        for child in children:
            if child.error is not None:
                raise child.error
    if due is not None:
        pauses.append(due)
    return Done(after=min(pauses, default=None))
