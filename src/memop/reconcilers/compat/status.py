"""The status of a foreign CR: the child's conditions, what has no equivalent, and what the other operator told."""

from collections.abc import Iterable, Sequence

from memop.api.conditions import ConditionStatus, DesiredCondition, Problem, merge_conditions
from memop.reconcilers.compat.kinds import ForeignKind
from memop.reconcilers.compat.observe import ChildCondition, Observed
from memop.reconcilers.live import LiveCondition
from memop.reconcilers.objects import Event, Json
from memop.translate import Served

_STATUSES: dict[str, ConditionStatus] = {"True": "True", "False": "False"}


def status(kind: ForeignKind, observed: Observed, problems: Sequence[Problem], *, now: str) -> Json:
    """The status to apply; `now` (RFC 3339) is the time of conditions that change."""
    cr = observed.cr
    mirrored = list(_mirrored(observed, problems))
    ready = mirrored[-1]
    told = kind.status(
        Served(
            name=kind.child(cr.key.name),
            shards=observed.served.shards,
            ready=ready.status == "True",
            error="; ".join(message for _, message in problems),
            message=ready.message,
        )
    )
    conditions = [*mirrored, _translated(observed)]
    if observed.paused:
        why = "the paused annotation is set: memop changes nothing of the MemcachedCluster until it goes"
        conditions.append(ChildCondition("Paused", "True", "Paused", why))
    if told.condition is not None:
        type_, holds, reason, message = told.condition
        conditions.append(ChildCondition(type_, str(holds), reason, message))
    desired = [
        DesiredCondition(one.type, _STATUSES.get(one.status, "Unknown"), one.reason, one.message, cr.generation)
        for one in conditions
    ]
    result: Json = {
        **told.fields,
        "conditions": merge_conditions(observed.conditions, desired, now),
        "observedGeneration": cr.generation,
    }
    if observed.served.endpoint:
        result["endpoint"] = observed.served.endpoint
    return result


def _mirrored(observed: Observed, problems: Sequence[Problem]) -> Iterable[ChildCondition]:
    """Available, Progressing, Degraded, and last Ready, which it is only as its spec says now."""
    child, served = observed.child, observed.served
    waiting = ""
    if child is None:
        waiting = "no MemcachedCluster yet"
    elif served.observed_generation < child.generation:
        waiting = "the MemcachedCluster's newest generation is not observed yet"
    nothing = waiting or "the MemcachedCluster does not tell"

    yield served.condition("Available") or ChildCondition("Available", "False", "Unavailable", nothing)
    progressing = served.condition("Progressing")
    if observed.invalid and child is None:
        yield ChildCondition("Progressing", "False", "InvalidSpec", "nothing is made of this spec")
    elif waiting or progressing is None:
        yield ChildCondition("Progressing", "True", "Progressing", nothing)
    else:
        yield progressing
    if problems:
        yield ChildCondition("Degraded", "True", problems[0][0], "; ".join(message for _, message in problems))
    else:
        yield served.condition("Degraded") or ChildCondition("Degraded", "False", "NotDegraded", nothing)
    ready = served.condition("Ready")
    if observed.invalid:
        yield ChildCondition("Ready", "False", "InvalidSpec", observed.invalid)
    elif waiting or ready is None:
        yield ChildCondition("Ready", "False", "Progressing", nothing)
    else:
        yield ready


def _translated(observed: Observed) -> ChildCondition:
    if observed.invalid:
        return ChildCondition("Translated", "False", "InvalidSpec", observed.invalid)
    if observed.notes:
        return ChildCondition("Translated", "False", "NoEquivalent", "; ".join(observed.notes))
    return ChildCondition("Translated", "True", "Translated", "every field has its equivalent")


def losses(before: Sequence[LiveCondition], after: Json) -> list[Event]:
    """What has newly been found to have no equivalent; of a spec that makes no sense the condition Degraded tells."""
    told = {condition.type: condition.reason for condition in before}
    return [
        Event("Warning", condition["reason"], condition["message"])
        for condition in after["conditions"]
        if condition["reason"] == "NoEquivalent" and told.get(condition["type"]) != "NoEquivalent"
    ]
