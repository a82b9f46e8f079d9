"""Whatever a pool was before, its children are those of a pool that is made like this today.

Server-side apply keeps a record of who set what, and a field goes when its owner drops it. What nobody owns stays: a
default that the server derived from another field, say. So an object may depend on the path that led to it, and only
two objects, one fresh and one with a past, show it.

What is compared are whole objects, as the API server has them. Left out is

* what it assigns: uid, resourceVersion, creationTimestamp, generation, the times of managedFields, the owner's uid;
* the pool's name, which all the pools share after it is replaced by one word;
* a workload's `spec.replicas` where memop does not set it, since an autoscaler or another workload decides: a fresh
  one has the server's default, and one with a past must keep the size that it had, which is asserted;
* null for a block of a security context, where a fresh one has {}: the server makes that of a block that was emptied;
* the entries of other field managers, which may hold `spec.replicas` and nothing else: memop hands it over to one.

`MEMOP_PATHS_SEED=7` draws the pools of a failure again.
"""

import asyncio
import itertools
import json
import os
import random
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from memop.client import Client
from memop.clock import Clock
from memop.informers.informer import Informer
from memop.metrics import InformerMetrics, OperatorMetrics
from memop.reconcilers.apply import Applier, Child
from memop.reconcilers.memcached.children import KINDS, OPTIONAL_KINDS, children
from memop.reconcilers.memcached.reconciler import FIELD_MANAGER
from memop.reconcilers.objects import MANAGED_BY, MANAGED_BY_LABEL, Live, decoder
from memop.refs import DEPLOYMENTS, MEMCACHEDS, STATEFUL_SETS, Key, Resource
from tests.support import specs
from tests.support.apiserver import writes
from tests.support.kubectl import Kubectl
from tests.support.specs import Json, Wish
from tests.unit.reconcilers.memcached.instances import instance

EPHEMERAL, STABLE = 100, 52  # pools; each walks two sequences of three wishes
SEED = int(os.environ.get("MEMOP_PATHS_SEED") or random.randrange(1 << 32))  # noqa: S311 - not a secret
ALL_KINDS = (*KINDS, *OPTIONAL_KINDS)
WORKLOADS = (DEPLOYMENTS, STATEFUL_SETS)
ASSIGNED = ("uid", "resourceVersion", "creationTimestamp", "generation")
EMPTIED = re.compile(r"\.securityContext\.\w+$")
SOUND = {"created", "updated", "deleted", "unchanged"}
SHOWN = 5  # pools, of those that fail

Children = dict[str, Json]  # by kind


@dataclass
class Pool:
    """A CR that becomes one wish after the other."""

    key: Key
    ring: list[Wish]  # every pool of a ring begins with another wish
    start: int

    @property
    def path(self) -> list[int]:
        """A, B, C, B: both A→B→C and B→C→B."""
        return [(self.start + step) % len(self.ring) for step in (0, 1, 2, 1)]


class Operator:
    """The part of memop that is put to the test: the builders and the Applier, over informers that watch."""

    def __init__(self, client: Client, namespace: str) -> None:
        registry = CollectorRegistry()
        metrics, clock = InformerMetrics(registry), Clock()

        def informer(resource: Resource, label_selector: str = "", subresource: str = "") -> Informer[Live]:
            return Informer(
                client,
                resource,
                decoder(FIELD_MANAGER, subresource=subresource),
                label_selector=label_selector,
                namespaces=(namespace,),
                clock=clock,
                metrics=metrics,
                rng=random.Random(1),  # noqa: S311 - jitter
            )

        self.owners = informer(MEMCACHEDS, subresource="status")
        self.informers = {kind: informer(kind, f"{MANAGED_BY_LABEL}={MANAGED_BY}") for kind in ALL_KINDS}
        self.applier = Applier(
            client,
            resource=MEMCACHEDS,
            manager=FIELD_MANAGER,
            owners=self.owners,
            children=self.informers,
            clock=clock,
            metrics=OperatorMetrics(registry),
        )

    async def apply(self, owner: Live, wish: Wish, *, first: bool) -> list[Child]:
        wanted = children(instance(wish.spec, key=owner.key, **wish.around))
        return await self.applier.children(owner, wanted, first=first)


@asynccontextmanager
async def running(client: Client, namespace: str) -> AsyncIterator[Operator]:
    operator = Operator(client, namespace)
    informers = [operator.owners, *operator.informers.values()]
    tasks = [asyncio.create_task(informer.run()) for informer in informers]
    try:
        for informer in informers:
            await informer.wait_settled()
            assert informer.synced, informer.health()
        with capture_logs():  # a line a child
            yield operator
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """Without its hundreds of objects afterwards: without controllers nothing else would remove them."""
    yield kubectl.namespace
    for kind in (*ALL_KINDS, MEMCACHEDS):
        kubectl("delete", "--raw", kind.path(kubectl.namespace))


@pytest.mark.usefixtures("optional_kinds")
async def test_the_children_are_those_of_a_fresh_pool_whatever_it_was_before(
    client: Client, kubectl: Kubectl, namespace: str
) -> None:
    print(f"\nMEMOP_PATHS_SEED={SEED}")  # noqa: T201 - shown with a failure, or by pytest -s
    pools = drawn(namespace, random.Random(SEED))  # noqa: S311 - not a secret
    fresh: dict[tuple[str, int], Children] = {}
    problems: dict[str, list[str]] = {}
    started = time.monotonic()
    async with running(client, namespace) as operator:
        sizes: dict[Key, dict[str, int]] = {}
        for step in range(4):
            told = await asyncio.gather(*(become(client, operator, pool, step) for pool in pools))
            live = snapshot(kubectl, namespace)
            if step == 0:
                fresh = {(pool.ring[0].identity, pool.start): comparable(live[pool.key.name]) for pool in pools}
            for pool, results in zip(pools, told, strict=True):
                found = live[pool.key.name]
                problem = [
                    *(f"{child.kind} is {child.result}: {child.problem or child.changed}" for child in results),
                    *differences(fresh[pool.ring[0].identity, pool.path[step]], comparable(found)),
                    *resized(sizes.get(pool.key, {}), found),
                ]
                if problem:
                    problems.setdefault(pool.key.name, [f"in step {step}:", *problem])
            scaled = await asyncio.gather(*(scale(client, pool, live[pool.key.name], step) for pool in pools))
            sizes = {pool.key: sizes for pool, sizes in zip(pools, scaled, strict=True)}
    assert not problems, failure(pools, problems)
    async with running(client, namespace) as restarted:
        written = writes(kubectl)
        again = await asyncio.gather(*(remain(restarted, pool) for pool in pools))
        assert [child for results in again for child in results if child.result != "unchanged"] == []
        assert +(writes(kubectl) - written) == {}
    print(f"{2 * len(pools)} sequences, {time.monotonic() - started:.1f} s")  # noqa: T201


def drawn(namespace: str, rng: random.Random) -> list[Pool]:
    """Pools in two rings, in which neighbours are alike or not; `podIdentity` is immutable."""
    serial = itertools.count()
    pools = []
    for identity, count in (("Ephemeral", EPHEMERAL), ("Stable", STABLE)):
        ring = [specs.wish(rng, identity)]
        while len(ring) < count:
            ring.append(specs.variation(rng, ring[-1]) if rng.random() < 0.6 else specs.wish(rng, identity))
        pools += [Pool(Key(namespace, f"qz{next(serial):04}"), ring, start) for start in range(count)]
    return pools


async def become(client: Client, operator: Operator, pool: Pool, step: int) -> list[Child]:
    """Have the user edit the CR into the next wish and memop act on it; returns what went wrong."""
    wish = pool.ring[pool.path[step]]
    metadata = {"name": pool.key.name, "namespace": pool.key.namespace}
    body = {"apiVersion": MEMCACHEDS.api_version, "kind": MEMCACHEDS.kind, "metadata": metadata, "spec": wish.spec}
    if step == 0:
        stored = await client.create(MEMCACHEDS, pool.key.namespace, body)
    else:
        metadata["resourceVersion"] = str(_known(operator.owners.reader.get(pool.key)).resource_version)
        stored = await client.replace(MEMCACHEDS, pool.key, body)
    owner = _known(operator.owners.wrote(stored))
    assert json.loads(owner.spec) == wish.spec
    results = await operator.apply(owner, wish, first=step == 0)
    return [child for child in results if child.result not in SOUND]


async def remain(operator: Operator, pool: Pool) -> list[Child]:
    """Have memop act on the last wish once more."""
    return await operator.apply(_known(operator.owners.reader.get(pool.key)), pool.ring[pool.path[-1]], first=False)


def _known(owner: Live | None) -> Live:
    assert owner is not None
    return owner


def snapshot(kubectl: Kubectl, namespace: str) -> dict[str, Children]:
    """All children as they are, by pool and kind."""
    found: dict[str, Children] = {}
    for kind in ALL_KINDS:
        for item in json.loads(kubectl("get", "--raw", kind.path(namespace)).stdout)["items"]:
            found.setdefault(item["metadata"]["name"], {})[kind.kind] = item
    return found


def comparable(live: Children) -> Children:
    return {kind: _comparable(child) for kind, child in live.items()}


def _comparable(child: Json) -> Json:
    """The object without what may be different: see above."""
    metadata = child["metadata"]
    (owner,) = metadata["ownerReferences"]
    text = json.dumps(child).replace(metadata["name"], "cache").replace(owner["uid"], "owner")
    child = json.loads(text)
    metadata = child["metadata"]
    for name in ASSIGNED:
        metadata.pop(name, None)
    metadata["managedFields"] = {
        entry["manager"]: {name: value for name, value in entry.items() if name != "time"}
        for entry in metadata["managedFields"]
        if entry["fieldsV1"] != {"f:spec": {"f:replicas": {}}} or entry["manager"] == FIELD_MANAGER
    }
    if "f:replicas" not in metadata["managedFields"].get(FIELD_MANAGER, {}).get("fieldsV1", {}).get("f:spec", {}):
        child["spec"].pop("replicas", None)
    return child


async def scale(client: Client, pool: Pool, live: Children, step: int) -> dict[str, int]:
    """Have an autoscaler act, in one of two pools that memop does not size; returns the sizes that are to stay."""
    sizes = {}
    for kind in WORKLOADS:
        workload = live.get(kind.kind)
        if workload is not None:
            sizes[kind.kind] = workload["spec"]["replicas"]
            if "replicas" not in _comparable(workload)["spec"] and pool.start % 2:
                sizes[kind.kind] = 7 + step
                body = {"spec": {"replicas": sizes[kind.kind]}}
                await client.patch(kind, pool.key, body, subresource="scale", manager="autoscaler")
    return sizes


def resized(before: dict[str, int], live: Children) -> list[str]:
    """A workload whose size memop has just given up, or never had, keeps it; of none it may begin with one."""
    return [
        f"{kind} spec.replicas went from {size} to {live[kind]['spec']['replicas']}, and is not memop's to set"
        for kind, size in before.items()
        if "replicas" not in _comparable(live[kind])["spec"] and live[kind]["spec"]["replicas"] not in (size, size or 1)
    ]


def differences(fresh: Any, live: Any, path: str = "") -> list[str]:
    """Where the object with a past differs from the fresh one."""
    if isinstance(fresh, dict) and isinstance(live, dict):
        names = sorted(fresh.keys() | live.keys())
        return [line for name in names for line in differences(fresh.get(name), live.get(name), f"{path}.{name}")]
    if isinstance(fresh, list) and isinstance(live, list) and len(fresh) == len(live):
        return [
            line
            for at, pair in enumerate(zip(fresh, live, strict=True))
            for line in differences(*pair, f"{path}[{at}]")
        ]
    if fresh == live or (EMPTIED.search(path) and not fresh and not live):
        return []
    return [f"{path.removeprefix('.')} is {json.dumps(live)[:200]}, of a fresh pool {json.dumps(fresh)[:200]}"]


def failure(pools: list[Pool], problems: dict[str, list[str]]) -> str:
    """The first few pools that failed, with what they were."""
    lines = [f"MEMOP_PATHS_SEED={SEED}: {len(problems)} of {len(pools)} pools are not as a fresh one"]
    for pool in [pool for pool in pools if pool.key.name in problems][:SHOWN]:
        lines += [pool.key.name, *(f"  {line}" for line in problems[pool.key.name])]
        lines += [f"  wish {at}: {json.dumps(pool.ring[at].spec)}" for at in pool.path[:3]]
    return "\n".join(lines)
