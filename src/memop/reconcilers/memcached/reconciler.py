"""`Memcached`: observe, decide, apply children, apply status, say when to look again."""

from collections.abc import Sequence

from memop.clock import Clock, rfc3339
from memop.controller import Done
from memop.errors import NamespaceTerminating
from memop.events import ObjectReference, Recorder
from memop.informers.informer import Informer
from memop.metrics import OperatorMetrics
from memop.reconcilers.apply import Applier, Child
from memop.reconcilers.memcached.disruption import pod_disruption_budget
from memop.reconcilers.memcached.labels import selector
from memop.reconcilers.memcached.observe import Observed, observe
from memop.reconcilers.memcached.service import service
from memop.reconcilers.memcached.status import Event, Problem, events, status
from memop.reconcilers.memcached.unbuilt import unbuilt
from memop.reconcilers.memcached.workload import deployment
from memop.reconcilers.objects import Json, Live
from memop.refs import MEMCACHEDS, Key

FIELD_MANAGER = "memop-memcached"
# A stranger's object carries no label of ours, so no watch tells when it goes.
CONFLICT_RECHECK_SECONDS = 15.0


class MemcachedReconciler:
    """Keeps the children and the status of every `Memcached` as its spec says."""

    def __init__(
        self,
        *,
        memcacheds: Informer[Live],
        deployments: Informer[Live],
        applier: Applier,
        events: Recorder,
        clock: Clock,
        metrics: OperatorMetrics,
        default_image: str,
    ) -> None:
        self._memcacheds = memcacheds.reader
        self._deployments = deployments.reader
        self._applier = applier
        self._events = events
        self._clock = clock
        self._metrics = metrics
        self._default_image = default_image

    async def reconcile(self, key: Key) -> Done:
        """One pass over one CR. Raises what the API server refused, once the status tells of it, to back off."""
        observed = self._observe(key)
        if observed is None:
            self._metrics.forget(key)
            self._applier.forget(key)
            return Done()
        with self._metrics.reconciling(key):
            wanted, problems = decide(observed)
            children: list[Child] = []
            found = None
            try:
                if wanted is not None:
                    first = not observed.told_generation
                    children = await self._applier.children(observed.cr, wanted, selector(key), first=first)
                elif observed.workload is None:  # nobody puts our labels back now, and the cache needs them
                    found = await self._applier.find("Deployment", key)
            except NamespaceTerminating:
                return Done()
            await self._tell(observed, children, problems, found)
            return _next(children)

    def _observe(self, key: Key, *, found: Live | None = None, before: Observed | None = None) -> Observed | None:
        return observe(
            key,
            memcacheds=self._memcacheds,
            deployments=self._deployments,
            default_image=self._default_image,
            found=found,
            before=before,
        )

    async def _tell(
        self, acted_on: Observed, children: Sequence[Child], problems: Sequence[Problem], found: Live | None
    ) -> None:
        """Status and events of what the caches, our own writes included, show now.

        Where the CR moved on meanwhile its key is queued again already, and that pass tells.
        """
        observed = self._observe(acted_on.cr.key, found=found, before=acted_on)
        if observed is None or (observed.cr.uid, observed.cr.generation) != (acted_on.cr.uid, acted_on.cr.generation):
            return
        problems = [*problems, *(child.problem for child in children if child.problem)]
        after = status(observed, problems, now=rfc3339(self._clock.now()))
        news = [*repairs(observed, children), *contests(children)]
        if await self._applier.status(observed.cr, after):
            news += events(observed, after)
        cr = observed.cr
        about = ObjectReference(
            MEMCACHEDS.api_version, MEMCACHEDS.kind, cr.key.namespace, cr.key.name, cr.uid, str(cr.resource_version)
        )
        for event in news:
            self._events.record(about, event.type, event.reason, event.message)


def decide(observed: Observed) -> tuple[list[Json] | None, list[Problem]]:
    """All the children wanted now, or None where they are to be left as they are, and what keeps memop from more."""
    if observed.instance is None:
        return None, [("InvalidSpec", observed.invalid)]
    missing = unbuilt(observed.instance.spec)
    if missing:
        message = f"this version of memop does not build {', '.join(missing)} yet, and leaves the pool as it is"
        return None, [("NotBuilt", message)]
    if observed.paused:
        return None, []
    children = (service(observed.instance), deployment(observed.instance), pod_disruption_budget(observed.instance))
    return [child for child in children if child is not None], []


def repairs(observed: Observed, children: Sequence[Child]) -> list[Event]:
    """What was put back although neither the spec had changed since the status last told of it, nor trouble ended."""
    told = {condition.type: condition.reason for condition in observed.conditions}
    sound = told.get("Degraded") in ("Degraded", "NotDegraded") and "Paused" not in told
    if observed.told_generation != observed.cr.generation or not sound:
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


def _next(children: Sequence[Child]) -> Done:
    pauses = [child.again for child in children if child.again is not None]
    if any(child.result == "conflict" for child in children):
        pauses.append(CONFLICT_RECHECK_SECONDS)
    if not pauses:
        for child in children:
            if child.error is not None:
                raise child.error
    return Done(after=min(pauses, default=None))
