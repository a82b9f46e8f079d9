"""Who decides the size, and which it is: observed → verdict, and the condition and the events that tell of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from memop.api.conditions import ConditionStatus, DesiredCondition, merge_conditions
from memop.api.memcached import MAX_REPLICAS
from memop.reconcilers.objects import Json, Live
from memop.reconcilers.sync.observe import CONDITION, Observed, told
from memop.reconcilers.sync.source import Source
from memop.refs import DEPLOYMENTS, MEMCACHEDS, ObjectReference

CONTESTED = "Contested"
STAYS = "the size stays as it is"
# While these were told the pool followed no label that could be missed now.
_NOT_FOLLOWING = ("Autoscaled", "ClusterDecides", "FollowsItself")
# What a user asked for is no news.
_QUIET = ("Autoscaled", "Paused")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The condition, whose `reason` is "" where there is none, and the size to write, None where it stays as it is."""

    reason: str = ""
    message: str = ""
    size: int | None = None


def decide(observed: Observed) -> Verdict:
    """Autoscaling wins over `replicasFrom`, and that over labels; a pool without any of these is left alone."""
    if observed.follow is None and not observed.sources:
        return _without_source(observed)
    if observed.cluster:
        shards = f"the shards of MemcachedCluster {observed.cluster} are the size"
        return Verdict("ClusterDecides", f"{shards}, not {_named(observed)}")
    if observed.autoscaled:
        return Verdict("Autoscaled", f"the autoscaler decides the size, not {_named(observed)}")
    if len(observed.sources) == 1:
        return _of(observed, observed.sources[0])
    return _not_one(observed)


def _without_source(observed: Observed) -> Verdict:
    """No label names the pool: one that followed a label says so until its spec is changed by somebody else.

    Taking `replicasFrom` out is such a change, and so is a size given by hand.
    """
    before = observed.told
    if before is None or before.reason in _NOT_FOLLOWING or before.observed_generation != observed.cr.generation:
        return Verdict()
    if observed.unreadable:
        return Verdict("SourceUnreadable", f"{STAYS}, as Deployments cannot be read: {observed.unreadable}")
    return Verdict("SourceNotFound", f"{STAYS}, as no Deployment has the label any more")


def _not_one(observed: Observed) -> Verdict:
    """What `replicasFrom` names cannot be told, or several Deployments are labelled."""
    if observed.sources:
        return Verdict("ConflictingSources", f"{STAYS}, until only one of {_named(observed)} has the label")
    if observed.unreadable:
        return Verdict("SourceUnreadable", f"{STAYS}, as {_named(observed)} cannot be read: {observed.unreadable}")
    return Verdict("SourceNotFound", f"{STAYS}, as there is no {_named(observed)}")


def _of(observed: Observed, source: Source) -> Verdict:
    """The one source's size, as far as it can be taken."""
    if observed.circle:
        way = " → ".join((observed.cr.key.name, *observed.circle))
        return Verdict("FollowsItself", f"{STAYS}, as each of these pools is to be of the next one's: {way}")
    least, most = (observed.follow.min, observed.follow.max) if observed.follow else (0, MAX_REPLICAS)
    size = max(least, min(source.replicas, most))
    has = f"{_named(observed)} has {source.replicas} replicas"
    if observed.paused and size != observed.replicas:
        return Verdict("Paused", f"{STAYS} while the paused annotation is set; {has}")
    if size != source.replicas:
        return Verdict("Clamped", f"{size} pods, as {least} to {most} are allowed; {has}", size)
    return Verdict("Synced", has, size)


def _named(observed: Observed) -> str:
    names = [source.key.name for source in observed.sources] if observed.follow is None else [observed.follow.name]
    return f"{observed.kind}{'s' if len(names) > 1 else ''} {', '.join(names)}"


def rejected(verdict: Verdict, why: str) -> Verdict:
    """The API server did not take the size."""
    return Verdict("Rejected", f"{STAYS}: {verdict.size} is refused: {why}")


def contested(verdict: Verdict) -> Verdict:
    """The API server answered with another size than it was sent."""
    return Verdict(CONTESTED, f"{verdict.message}, but an admission webhook or policy changes what memop applies")


def condition(verdict: Verdict, cr: Live, now: str) -> Json | None:
    """Our condition, to be applied to `cr`; None where it is told already. `now` is RFC 3339."""
    before = told(cr.status)
    holds: ConditionStatus = "True" if verdict.reason in ("Synced", "Clamped") else "False"
    desired = DesiredCondition(CONDITION, holds, verdict.reason, verdict.message, cr.generation)
    [merged] = merge_conditions([before] if before is not None else [], [desired], now)
    same = before is not None and merged == {
        "type": before.type,
        "status": before.status,
        "reason": before.reason,
        "message": before.message,
        "observedGeneration": before.observed_generation,
        "lastTransitionTime": before.last_transition_time,
    }
    return None if same else merged


@dataclass(frozen=True, slots=True)
class Event:
    about: ObjectReference
    type: str  # Normal | Warning
    reason: str
    message: str


def events(observed: Observed, verdict: Verdict) -> Iterator[Event]:
    """What people want to be told of, once the condition is told: trouble, when it is new."""
    before = observed.told
    news = before is None or (before.reason, before.message) != (verdict.reason, verdict.message)
    if not news or verdict.reason in ("", "Synced", "Clamped", *_QUIET):
        return
    yield Event(about(observed.cr), "Warning", verdict.reason, verdict.message)
    if verdict.reason == "ConflictingSources":
        for source in observed.sources:
            yield Event(_deployment(source), "Warning", verdict.reason, f"{observed.cr.key.name}: {verdict.message}")


def about(cr: Live) -> ObjectReference:
    return ObjectReference(
        MEMCACHEDS.api_version, MEMCACHEDS.kind, cr.key.namespace, cr.key.name, cr.uid, str(cr.resource_version)
    )


def _deployment(source: Source) -> ObjectReference:
    return ObjectReference(
        DEPLOYMENTS.api_version,
        DEPLOYMENTS.kind,
        source.key.namespace,
        source.key.name,
        source.uid,
        str(source.resource_version),
    )
