"""The caches of workloads that pools may follow, and which pools a change of one concerns."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from memop.informers.handlers import enqueue
from memop.informers.informer import Informer
from memop.informers.store import Cause, StoreReader
from memop.reconcilers.objects import Live
from memop.reconcilers.sync import observe, source
from memop.reconcilers.sync.observe import CONDITION, NotYet, Unreadable
from memop.reconcilers.sync.source import LABEL, Source
from memop.refs import DEPLOYMENTS, STATEFUL_SETS, Key
from memop.workqueue import INITIAL, WorkQueue

KINDS = {resource.kind: resource for resource in (DEPLOYMENTS, STATEFUL_SETS)}
# The indexes that the cache of CRs must have.
INDEXES = {"followed": observe.followed}


class Sources:
    """Deployments with the label, always; all Deployments or StatefulSets from when the first CR names such a kind."""

    def __init__(
        self,
        memcacheds: Informer[Live],
        *,
        informer: Callable[..., Informer[Source]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`informer` makes one like all others but for what it is given: resource, decode, and keywords.

        `spawn` runs it in a task. To run `deployments`, those with the label, is the caller's.
        """
        self._memcacheds = memcacheds
        self._informer = informer
        self._spawn = spawn
        self._all: dict[str, Informer[Source]] = {}
        self.deployments = informer(
            DEPLOYMENTS,
            source.decode,
            label_selector=LABEL,
            indexes={"fed": source.fed},
            name=f"{DEPLOYMENTS}:labelled",
        )

    def feed(self, queue: WorkQueue[Key]) -> None:
        """From now on, put into `queue` the pools that a change concerns: of those that follow nothing, none."""
        self._memcacheds.subscribe(partial(self._begin, queue))
        self._memcacheds.subscribe(enqueue(queue, self._concerned, changed=observe.matters))
        self.deployments.subscribe(enqueue(queue, self._fed, changed=source.matters))
        self.deployments.when_listed(partial(self._look_again, queue))

    def health(self) -> str | None:
        """None when every cache that was begun for `replicasFrom` fares well, else what is wrong."""
        return "; ".join(filter(None, (informer.health() for informer in self._all.values()))) or None

    def labelled(self, pool: Key) -> Sequence[Source]:
        """The Deployments whose label names the pool. Raises: NotYet, Unreadable."""
        return _usable(self.deployments, pool.namespace).by_index("fed", str(pool))

    def named(self, kind: str, key: Key) -> Source | None:
        """The workload of this kind and name. Raises: NotYet, Unreadable."""
        return _usable(self._all[kind], key.namespace).get(key)

    def _begin(self, queue: WorkQueue[Key], _old: Live | None, new: Live | None, _cause: Cause) -> None:
        """Handler of CRs: what `spec.replicasFrom` names is known from now on."""
        named = set() if new is None else KINDS.keys() & observe.followed(new)
        for kind in named - self._all.keys():
            informer = self._all[kind] = self._informer(KINDS[kind], source.decode, name=f"{KINDS[kind]}:all")
            informer.subscribe(enqueue(queue, partial(self._followers, kind), changed=source.matters))
            informer.when_listed(partial(self._look_for, kind, queue))  # of what is not there no handler tells
            self._spawn(informer.run())

    def _concerned(self, cr: Live) -> Iterable[Key]:
        """The CR, where it follows something or says so, and those that follow its workload in turn.

        What they say of a circle depends on it; theirs do so on them.
        """
        if (
            b'"replicasFrom"' in cr.spec
            or CONDITION.encode() in cr.status
            or self.deployments.reader.by_index("fed", str(cr.key))
        ):
            yield cr.key
            for kind in KINDS:
                yield from self._naming(kind, cr.key)
            if (deployment := self.deployments.reader.get(cr.key)) is not None:
                yield from self._fed(deployment)

    def _fed(self, deployment: Source) -> Iterable[Key]:
        yield Key(deployment.key.namespace, deployment.feeds)

    def _followers(self, kind: str, workload: Source) -> Iterable[Key]:
        return self._naming(kind, workload.key)

    def _naming(self, kind: str, workload: Key) -> Iterable[Key]:
        """The CRs whose `spec.replicasFrom` names it."""
        return (cr.key for cr in self._memcacheds.reader.by_index("followed", f"{kind}/{workload}"))

    def _look_for(self, kind: str, queue: WorkQueue[Key]) -> None:
        for cr in self._memcacheds.reader.by_index("followed", kind):
            queue.add(cr.key, priority=INITIAL)

    def _look_again(self, queue: WorkQueue[Key]) -> None:
        """A label that is not there any more is no object of the list."""
        for cr in self._memcacheds.reader.values():
            if CONDITION.encode() in cr.status:
                queue.add(cr.key, priority=INITIAL)


def _usable(informer: Informer[Source], namespace: str) -> StoreReader[Source]:
    if refusal := informer.refusal(namespace):
        raise Unreadable(refusal)
    if not informer.current:
        raise NotYet
    return informer.reader
