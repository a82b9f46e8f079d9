"""`MemcachedCluster`: observe, decide, apply children, apply status, say when to look again."""

from collections.abc import Mapping, Sequence

from memop.api.conditions import Problem
from memop.clock import Clock, rfc3339
from memop.controller import Done
from memop.errors import NamespaceTerminating
from memop.events import Recorder
from memop.informers.informer import Informer
from memop.reconcilers.apply import Applier, Child
from memop.reconcilers.cluster import children as builders
from memop.reconcilers.cluster.instance import Options, pool_name
from memop.reconcilers.cluster.observe import Observed, observe
from memop.reconcilers.cluster.status import status
from memop.reconcilers.objects import Json, Live
from memop.reconcilers.report import contests, done, record, repairs, turns
from memop.refs import MEMCACHED_CLUSTERS, Key, Resource

FIELD_MANAGER = "memop-cluster"


class ClusterReconciler:
    """Keeps pools, proxies and status of every `MemcachedCluster` as its spec says."""

    def __init__(
        self,
        *,
        clusters: Informer[Live],
        children: Mapping[Resource, Informer[Live]],
        pool_workloads: Informer[Live],
        applier: Applier,
        events: Recorder,
        clock: Clock,
        options: Options,
    ) -> None:
        self._clusters = clusters.reader
        self._children = {kind: informer.reader for kind, informer in children.items()}
        self._pool_workloads = pool_workloads.reader
        self._applier = applier
        self._events = events
        self._clock = clock
        self._options = options

    async def reconcile(self, key: Key) -> Done:
        """One pass over one CR. Raises what the API server refused, once the status tells of it, to back off."""
        observed = self._observe(key)
        if observed is None:
            self._applier.forget(key)
            return Done()
        wanted, problems = decide(observed, self._applier.unserved(key.namespace))
        children: list[Child] = []
        try:
            if wanted is not None:
                first = not observed.told_generation
                children = await self._applier.children(
                    observed.cr, wanted, first=first, before=builders.BEFORE, **careful(observed)
                )
        except NamespaceTerminating:
            return Done()
        told = await self._tell(observed, children, problems)
        return done(children, told.reload_due if told else None)

    def _observe(self, key: Key) -> Observed | None:
        return observe(
            key,
            clusters=self._clusters,
            children=self._children,
            pool_workloads=self._pool_workloads,
            options=self._options,
            now=rfc3339(self._clock.now()),
        )

    async def _tell(
        self, acted_on: Observed, children: Sequence[Child], problems: Sequence[Problem]
    ) -> Observed | None:
        """Status and events of what the caches, our own writes included, show now: None where the CR moved on."""
        observed = self._observe(acted_on.cr.key)
        if observed is None or (observed.cr.uid, observed.cr.generation) != (acted_on.cr.uid, acted_on.cr.generation):
            return None
        problems = [*problems, *(child.problem for child in children if child.problem)]
        unserved = self._applier.unserved(acted_on.cr.key.namespace)
        after = status(observed, problems, unserved=unserved, now=rfc3339(self._clock.now()))
        news = contests(children)
        if observed.told_generation == observed.cr.generation:
            news += repairs(observed.conditions, children)
        if await self._applier.status(observed.cr, after):
            news += turns(observed.conditions, after)
        record(news, self._events, observed.cr, MEMCACHED_CLUSTERS)
        return observed


def careful(observed: Observed) -> dict[str, list[str]]:
    """How pools are changed: one that is well only while all others are, so that a shard never loses all its copies."""
    well = {pool_name(observed.cr.key.name, copy): pool.rolled_out for copy, pool in observed.pools.items()}
    if all(well.values()):
        return {"in_turn": list(well)}
    return {"keep": [name for name, is_well in well.items() if is_well]}


def decide(observed: Observed, unserved: Mapping[str, str]) -> tuple[list[Json] | None, list[Problem]]:
    """All the children wanted now, or None where they are to be left as they are, and what keeps memop from more."""
    problems = [("InvalidSpec", observed.invalid)] if observed.invalid else []
    if observed.instance is None:
        return None, problems
    if observed.rollout.refusal:
        problems.append(("Rejected", observed.rollout.refusal))
    # Without an image (see `invalid`) no pod would run: what runs now is left alone.
    if observed.paused or not observed.instance.image:
        return None, problems
    wanted = builders.children(observed.instance)
    return [child for child in wanted if child["kind"] not in unserved], problems
