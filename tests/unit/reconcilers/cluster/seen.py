"""A cluster as the caches know it, for tests of what is observed and told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memop.informers.store import StoreReader
from memop.reconcilers.cluster.children import KINDS, OPTIONAL_KINDS
from memop.reconcilers.cluster.config import config_map
from memop.reconcilers.cluster.instance import Options
from memop.reconcilers.cluster.observe import Observed, observe
from memop.reconcilers.cluster.pool import pools
from memop.reconcilers.cluster.workload import deployment
from memop.reconcilers.objects import Live, decoder
from memop.refs import Key
from tests.unit.reconcilers.cluster.instances import KEY, OPTIONS, cluster, instance, live

Json = dict[str, Any]
NOW = "2026-01-01T00:10:00Z"

_decode = decoder("memop-cluster")


@dataclass(frozen=True)
class Around:
    """What is there; by default all that a spec of 3x2 asks for, done.

    `made` is the spec that it was made for, `ready` the servers that are in each copy; `config`, `pool` and `workload`
    are metadata that differ, None for an object that is not there. `rollout` is the Deployment's status.
    """

    made: Json = field(default_factory=lambda: {"shards": 3, "replicasPerShard": 2})
    since: str = ""
    ready: Mapping[int, int] = field(default_factory=lambda: {0: 3, 1: 3})
    config: Json | None = field(default_factory=dict)
    pool: Json | None = field(default_factory=dict)
    pool_status: Json = field(default_factory=dict)
    workload: Json | None = field(default_factory=dict)
    rollout: Json = field(default_factory=dict)

    def objects(self) -> list[tuple[str, bytes]]:
        before = instance(self.made, since=self.since)
        count = before.spec.proxy.replicas
        rolled = {"observedGeneration": 1, "replicas": count, "updatedReplicas": count, "readyReplicas": count}
        found = []
        if self.pool is not None:
            for copy, body in enumerate(pools(before)):
                told = {"observedGeneration": 1, "replicas": 3, "readyReplicas": self.ready[copy], **self.pool_status}
                found.append(("Memcached", live(body, status=told, **self.pool)))
        if self.config is not None:
            body = config_map(before)
            noted = {**body["metadata"]["annotations"], **self.config.get("annotations", {})}
            metadata = {**self.config, "annotations": noted}
            found.append(("ConfigMap", live({**body, "metadata": {**body["metadata"], **metadata}})))
        if self.workload is not None:
            found.append(("Deployment", live(deployment(before), status={**rolled, **self.rollout}, **self.workload)))
        return found


NOTHING = Around(config=None, pool=None, workload=None)


def seen(cr: bytes, around: Around = NOTHING, *, now: str = NOW, options: Options = OPTIONS) -> Observed:
    found = observe(
        KEY,
        clusters=_clusters(cr),
        children=_children(around),
        pool_workloads=StoreReader({}, {}, lambda _: 0),
        options=options,
        now=now,
    )
    assert found is not None
    return found


def see(spec: Json, around: Around = NOTHING, *, now: str = NOW, **cr: Any) -> Observed:
    """The same, of a CR with that spec."""
    return seen(cluster(spec, **cr), around, now=now)


def _clusters(cr: bytes) -> StoreReader[Live]:
    found = decoder("memop-cluster", subresource="status")(cr)
    return StoreReader({found.key: found}, {}, lambda _: 0)


def _children(around: Around) -> dict[Any, StoreReader[Live]]:
    objects: dict[str, dict[Key, Live]] = {kind.kind: {} for kind in (*KINDS, *OPTIONAL_KINDS)}
    for kind, raw in around.objects():
        found = _decode(raw)
        objects[kind][found.key] = found
    return {kind: StoreReader(objects[kind.kind], {}, lambda _: 0) for kind in (*KINDS, *OPTIONAL_KINDS)}
