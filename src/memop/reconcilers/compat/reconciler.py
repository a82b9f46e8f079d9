"""A foreign CR: observe, which is to translate, apply the child, mirror its status, say when to look again."""

from collections.abc import Mapping, Sequence

from memop.api.conditions import Problem
from memop.clock import Clock, rfc3339
from memop.controller import Done
from memop.errors import NamespaceTerminating
from memop.events import Recorder
from memop.informers.informer import Informer
from memop.reconcilers.apply import Applier, Child
from memop.reconcilers.compat.kinds import ForeignKind
from memop.reconcilers.compat.observe import Observed, observe
from memop.reconcilers.compat.status import losses, status
from memop.reconcilers.objects import Json, Live
from memop.reconcilers.report import contests, done, record, repairs, turns
from memop.refs import MEMCACHED_CLUSTERS, Key

FIELD_MANAGER = "memop-compat"


class CompatReconciler:
    """Keeps the child and the status of every CR of one foreign kind as its spec says."""

    def __init__(
        self,
        kind: ForeignKind,
        *,
        foreign: Informer[Live],
        clusters: Informer[Live],
        applier: Applier,
        events: Recorder,
        clock: Clock,
    ) -> None:
        """`clusters`: the children of all foreign kinds."""
        self._kind = kind
        self._foreign = foreign.reader
        self._clusters = clusters.reader
        self._applier = applier
        self._events = events
        self._clock = clock

    async def reconcile(self, key: Key) -> Done:
        """One pass over one CR. Raises what the API server refused, once the status tells of it, to back off."""
        observed = self._observe(key)
        if observed is None:
            self._applier.forget(key)
            return Done()
        wanted, problems = decide(self._kind, observed, self._applier.unserved(key.namespace))
        children: list[Child] = []
        found = None
        try:
            if wanted is not None:
                first = not observed.told_generation
                children = await self._applier.children(observed.cr, wanted, first=first)
            elif observed.child is None:  # nobody puts our labels back now, and the cache needs them
                child = Key(key.namespace, self._kind.child(key.name))
                found = await self._applier.find(MEMCACHED_CLUSTERS.kind, child)
        except NamespaceTerminating:
            return Done()
        await self._tell(observed, children, problems, found)
        return done(children)

    def _observe(self, key: Key, *, found: Live | None = None) -> Observed | None:
        return observe(key, self._kind, foreign=self._foreign, clusters=self._clusters, found=found)

    async def _tell(
        self, acted_on: Observed, children: Sequence[Child], problems: Sequence[Problem], found: Live | None
    ) -> None:
        """Status and events of what the caches, our own writes included, show now.

        Where the CR moved on meanwhile its key is queued again already, and that pass tells.
        """
        observed = self._observe(acted_on.cr.key, found=found)
        if observed is None or (observed.cr.uid, observed.cr.generation) != (acted_on.cr.uid, acted_on.cr.generation):
            return
        problems = [*problems, *(child.problem for child in children if child.problem)]
        after = status(self._kind, observed, problems, now=rfc3339(self._clock.now()))
        news = contests(children)
        if observed.told_generation == observed.cr.generation:
            news += repairs(observed.conditions, children)
        if await self._applier.status(observed.cr, after):
            news += [*turns(observed.conditions, after), *losses(observed.conditions, after)]
        record(news, self._events, observed.cr, self._kind.resource)


def decide(
    kind: ForeignKind, observed: Observed, unserved: Mapping[str, str]
) -> tuple[list[Json] | None, list[Problem]]:
    """The child wanted now, or None where it is to be left as it is, and what keeps memop from more.

    `unserved` says of kinds that the cluster lacks or forbids why.
    """
    if observed.spec is None:
        return None, [("InvalidSpec", observed.invalid)]
    if why := unserved.get(MEMCACHED_CLUSTERS.kind):
        what = f"no MemcachedCluster is made until the cluster serves them: {why}"
        return None, [("MemcachedClusterUnavailable", what)]
    if observed.paused:
        return None, []
    key = observed.cr.key
    metadata = {"name": kind.child(key.name), "namespace": key.namespace, "labels": kind.labels(key)}
    child = {"apiVersion": MEMCACHED_CLUSTERS.api_version, "kind": MEMCACHED_CLUSTERS.kind, "metadata": metadata}
    return [{**child, "spec": observed.spec}], []
