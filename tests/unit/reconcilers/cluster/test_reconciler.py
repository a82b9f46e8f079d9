"""What one reconcile asks of the API server."""

import asyncio
import copy
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from memop.client import Page
from memop.controller import Done
from memop.errors import Conflict, Forbidden, NamespaceTerminating, NotFound, Unreachable
from memop.informers.informer import Informer
from memop.metrics import InformerMetrics, OperatorMetrics
from memop.reconcilers.apply import Applier
from memop.reconcilers.cluster.children import KINDS, OPTIONAL_KINDS, names
from memop.reconcilers.cluster.instance import Options
from memop.reconcilers.cluster.observe import RELOAD_SECONDS
from memop.reconcilers.cluster.reconciler import FIELD_MANAGER, ClusterReconciler
from memop.reconcilers.objects import Live, decoder
from memop.refs import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    MEMCACHED_CLUSTERS,
    MEMCACHEDS,
    SERVICE_MONITORS,
    STATEFUL_SETS,
    Key,
    ObjectReference,
    Resource,
)
from tests.unit.reconcilers.cluster.instances import KEY, OWNER, cluster, live
from tests.unit.reconcilers.fields_v1 import fields_v1
from tests.unit.virtual_time import VirtualClock

PROXY = Key(KEY.namespace, "cache-proxy")
SPEC: dict[str, Any] = {"shards": 2, "replicasPerShard": 2}
PAUSED = {"memcached.c5c3.io/paused": "true"}


class Script:
    """Keeps what it was asked and, by kind and name, what was applied; both grow as a real API server's would."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []  # verb, "Kind name"
        self.bodies: list[Mapping[str, Any]] = []
        self.managers: set[str] = set()
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.failing: dict[str, Exception] = {}
        self.admission: Callable[[dict[str, Any]], None] | None = None
        self.version = 100

    async def list(self, resource: Resource, namespace: str = "", **_: Any) -> Page:
        return Page([], "0", "", None)

    @asynccontextmanager
    async def watch(self, resource: Resource, namespace: str = "", **_: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        await asyncio.Event().wait()
        yield _nothing()

    async def get(self, resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes:
        self.asked.append(("get", f"{resource.kind} {key.name}"))
        if (resource.kind, key.name) not in self.objects:
            raise NotFound(f"{resource} {key} not found", status=404)
        return msgspec.json.encode(self.objects[resource.kind, key.name])

    async def apply(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes:
        self.asked.append(("apply", f"{resource.kind} {key.name}"))
        if resource.kind in self.failing:
            raise self.failing[resource.kind]
        before = self.objects.get((resource.kind, key.name))
        sent = copy.deepcopy(dict(body))
        if sent["metadata"].pop("resourceVersion", None) == "1" and before is not None:
            raise Conflict("the object has been modified", status=409)
        self.bodies.append(body)
        self.managers.add(manager)
        if self.admission is not None:
            self.admission(sent)
        changed = before is not None and before.get("spec") != sent.get("spec")
        generation = before["metadata"]["generation"] + changed if before is not None else 1
        stored = {
            **sent,
            "metadata": {"uid": f"{resource.kind}-{key.name}", **sent["metadata"], "generation": generation},
            "status": before["status"] if before is not None else {},
        }
        return self.store(stored, fields_v1(sent), "")

    async def apply_status(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes:
        self.asked.append(("status", f"{resource.kind} {key.name}"))
        self.bodies.append(body)
        self.managers.add(manager)
        stored = self.objects[resource.kind, key.name]
        return self.store({**stored, "status": body["status"]}, fields_v1({"status": body["status"]}), "status")

    async def patch(
        self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> bytes:
        self.asked.append(("patch", f"{resource.kind} {key.name}"))
        return msgspec.json.encode(self.objects[resource.kind, key.name])

    async def delete(self, resource: Resource, key: Key, *, uid: str, resource_version: str) -> bytes | None:
        self.asked.append(("delete", f"{resource.kind} {key.name}"))
        self.bodies.append({"uid": uid, "resourceVersion": resource_version})
        if resource.kind in self.failing:
            raise self.failing[resource.kind]
        del self.objects[resource.kind, key.name]
        return None

    def store(self, stored: dict[str, Any], owned: dict[str, Any], subresource: str) -> bytes:
        self.version += 1
        entry = {"manager": FIELD_MANAGER, "operation": "Apply", "subresource": subresource, "fieldsV1": owned}
        stored["metadata"] |= {"resourceVersion": str(self.version), "managedFields": [entry]}
        self.objects[stored["kind"], stored["metadata"]["name"]] = stored
        return msgspec.json.encode(stored)


async def _nothing() -> AsyncIterator[bytes]:
    lines: list[bytes] = []
    for line in lines:
        yield line


class Told:
    """Events, as told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def record(self, regarding: ObjectReference, type: str, reason: str, note: str) -> None:  # noqa: A002
        assert (regarding.kind, regarding.name) == ("MemcachedCluster", "cache")
        self.told.append((type, reason, note))


class World:
    """A reconciler with its caches, a scripted API server behind it."""

    def __init__(self, clock: VirtualClock, client: Script | None = None) -> None:
        registry = CollectorRegistry()
        self.client, self.events = client or Script(), Told()
        informer_metrics = InformerMetrics(registry)

        def informer(resource: Resource, subresource: str = "") -> Informer[Live]:
            return Informer(
                self.client,
                resource,
                decoder(FIELD_MANAGER, subresource=subresource),
                clock=clock,
                metrics=informer_metrics,
                rng=random.Random(1),  # noqa: S311
            )

        self.clusters = informer(MEMCACHED_CLUSTERS, "status")
        self.children = {kind: informer(kind) for kind in (*KINDS, *OPTIONAL_KINDS)}
        self.stateful_sets = informer(STATEFUL_SETS)
        applier = Applier(
            self.client,
            resource=MEMCACHED_CLUSTERS,
            manager=FIELD_MANAGER,
            owners=self.clusters,
            children=self.children,
            optional=OPTIONAL_KINDS,
            names=names,
            clock=clock,
            metrics=OperatorMetrics(registry),
        )
        self.reconciler = ClusterReconciler(
            clusters=self.clusters,
            children=self.children,
            pool_workloads=self.stateful_sets,
            applier=applier,
            events=self.events,
            clock=clock,
            options=Options(),
        )

    async def sync(self) -> None:
        """List: nothing is there. The watches are not needed, as the tests put into the caches what those would."""
        async with asyncio.TaskGroup() as group:
            for informer in (self.clusters, *self.children.values()):
                task = group.create_task(informer.run())
                await informer.wait_settled()
                task.cancel()

    def give(self, spec: dict[str, Any] | None, **metadata: Any) -> None:
        """The CR as its user changes it."""
        made = msgspec.json.decode(cluster(spec, **metadata))
        before = self.client.objects.get(("MemcachedCluster", "cache"))
        if before is not None:
            made["status"] = before["status"]
            made["metadata"]["generation"] = before["metadata"]["generation"] + (spec != before["spec"])
            made["metadata"]["managedFields"] = before["metadata"]["managedFields"]
        self.client.version += 1
        made["metadata"]["resourceVersion"] = str(self.client.version)
        self.client.objects["MemcachedCluster", "cache"] = made
        self.clusters.wrote(msgspec.json.encode(made))

    def happen(self, resource: Resource, name: str, **status: Any) -> None:
        """Another controller tells how far it is, of the newest generation."""
        stored = self.client.objects[resource.kind, name]
        self.client.version += 1
        stored["metadata"]["resourceVersion"] = str(self.client.version)
        stored["status"] = {"observedGeneration": stored["metadata"]["generation"], **status}
        self.children[resource].wrote(msgspec.json.encode(stored))

    def ready(self, *, proxies: int = 2) -> None:
        """All pods are there and ready."""
        for kind, name in list(self.client.objects):
            count = self.client.objects[kind, name].get("spec", {}).get("replicas")
            if kind == "Memcached":
                self.happen(MEMCACHEDS, name, replicas=count, readyReplicas=count)
        self.happen(DEPLOYMENTS, "cache-proxy", replicas=proxies, updatedReplicas=proxies, readyReplicas=proxies)

    def gone(self, resource: Resource, name: str) -> None:
        """Somebody deletes it."""
        stored = self.client.objects.pop((resource.kind, name))
        self.children[resource].deleted(Key(KEY.namespace, name), stored["metadata"]["uid"])

    async def made(self, spec: dict[str, Any] | None = None) -> None:
        """A cluster in which all is done."""
        self.give(SPEC if spec is None else spec)
        await self.reconciler.reconcile(KEY)
        self.ready()
        await self.reconciler.reconcile(KEY)
        self.asked()
        self.client.bodies.clear()
        self.events.told.clear()

    def asked(self) -> list[tuple[str, str]]:
        asked, self.client.asked = self.client.asked, []
        return asked

    def servers(self) -> dict[str, int]:
        """Pools, and how many servers each is to have."""
        found = {name: body["spec"] for (kind, name), body in self.client.objects.items() if kind == "Memcached"}
        return {name: spec["replicas"] for name, spec in found.items()}

    def degraded(self) -> tuple[str, str]:
        [found] = [c for c in self.client.bodies[-1]["status"]["conditions"] if c["type"] == "Degraded"]
        return found["reason"], found["message"]


@pytest.fixture
async def world(clock: VirtualClock) -> World:
    world = World(clock)
    await world.sync()
    return world


APPLIED = ["Memcached cache-r0", "Memcached cache-r1"]
APPLIED += [f"Service cache-r{copy}-{shard}" for copy in (0, 1) for shard in (0, 1)] + ["Service cache"]
APPLIED += [f"{kind} cache-proxy" for kind in ("ConfigMap", "Deployment", "PodDisruptionBudget")]
STATUS = ("status", "MemcachedCluster cache")
CREATED = [*(("apply", child) for child in APPLIED), STATUS]


async def test_a_new_cluster_is_made_and_told_of(world: World) -> None:
    world.give(SPEC)
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == CREATED
    assert world.client.managers == {"memop-cluster"}
    for body in world.client.bodies[:-1]:
        assert (body["metadata"].get("uid"), body["metadata"]["resourceVersion"]) == (None, "1")
        assert body["metadata"]["ownerReferences"] == [OWNER]


async def test_the_second_reconcile_asks_for_nothing(world: World) -> None:
    world.give(SPEC)
    await world.reconciler.reconcile(KEY)
    world.asked()
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == []


async def test_a_cluster_that_becomes_ready_is_only_told_of(world: World) -> None:
    world.give(SPEC)
    await world.reconciler.reconcile(KEY)
    world.ready()
    world.asked()
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == [STATUS]
    assert [(type_, reason) for type_, reason, _ in world.events.told] == [("Normal", "MemcachedClusterReady")]


async def test_a_restart_over_a_converged_cluster_writes_nothing(world: World, clock: VirtualClock) -> None:
    await world.made()
    again = World(clock, world.client)
    await again.sync()
    for (kind, _), stored in world.client.objects.items():
        informer = {resource.kind: informer for resource, informer in again.children.items()}.get(kind, again.clusters)
        informer.wrote(msgspec.json.encode(stored))
    assert await again.reconciler.reconcile(KEY) == Done()
    assert again.asked() == []
    assert again.events.told == []


async def test_what_shrinks_goes_when_time_has_told_every_proxy(world: World) -> None:
    await world.made()
    world.give({"shards": 1, "replicasPerShard": 1})
    assert await world.reconciler.reconcile(KEY) == Done(after=RELOAD_SECONDS)
    assert world.asked() == [("apply", "ConfigMap cache-proxy"), STATUS]
    assert world.servers() == {"cache-r0": 2, "cache-r1": 2}
    await asyncio.sleep(RELOAD_SECONDS / 2)
    assert await world.reconciler.reconcile(KEY) == Done(after=RELOAD_SECONDS / 2)
    assert world.asked() == []
    await asyncio.sleep(RELOAD_SECONDS / 2)
    dropped = world.client.objects["Memcached", "cache-r1"]["metadata"]
    assert await world.reconciler.reconcile(KEY) == Done()
    gone = ["Memcached cache-r1", "Service cache-r0-1", "Service cache-r1-0", "Service cache-r1-1"]
    assert world.asked() == [("apply", "Memcached cache-r0"), *(("delete", child) for child in gone), STATUS]
    assert {"uid": dropped["uid"], "resourceVersion": dropped["resourceVersion"]} in world.client.bodies
    assert world.servers() == {"cache-r0": 1}
    world.ready()
    await world.reconciler.reconcile(KEY)
    world.asked()
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == []


async def test_what_grows_is_named_when_it_is_ready(world: World) -> None:
    await world.made()
    world.give({"shards": 3, "replicasPerShard": 2})
    await world.reconciler.reconcile(KEY)
    made = ["Memcached cache-r0", "Memcached cache-r1", "Service cache-r0-2", "Service cache-r1-2"]
    assert world.asked() == [("get", "MemcachedCluster cache"), *(("apply", child) for child in made), STATUS]
    world.ready()
    assert await world.reconciler.reconcile(KEY) == Done(after=RELOAD_SECONDS)
    assert world.asked() == [("apply", "ConfigMap cache-proxy"), STATUS]
    assert world.client.bodies[-1]["status"]["shards"] == 3


async def test_a_copy_is_only_deleted_when_no_proxy_may_ask_it(world: World) -> None:
    await world.made({**SPEC, "proxy": {"mcrouter": {}}})
    world.give({"shards": 2, "proxy": {"mcrouter": {}}})
    world.client.failing["ConfigMap"] = Forbidden("exceeded quota: none", status=403)
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    await asyncio.sleep(10 * RELOAD_SECONDS)
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    assert ("delete", "Memcached cache-r1") not in world.asked()
    world.client.failing.clear()
    assert await world.reconciler.reconcile(KEY) == Done(after=RELOAD_SECONDS)
    await asyncio.sleep(RELOAD_SECONDS)
    await world.reconciler.reconcile(KEY)
    assert ("delete", "Memcached cache-r1") in world.asked()


@pytest.mark.parametrize("resource", [DEPLOYMENTS, CONFIG_MAPS])
async def test_drift_that_is_repaired_is_told_of(world: World, resource: Resource) -> None:
    await world.made()
    world.gone(resource, "cache-proxy")
    await world.reconciler.reconcile(KEY)
    assert ("apply", f"{resource.kind} cache-proxy") in world.asked()
    kind = resource.kind
    assert world.events.told == [("Normal", "DriftRepaired", f"{kind} cache-proxy: {kind} is missing; put back")]


@pytest.mark.parametrize("spec", [{"shards": 1}, {"shards": 3, "replicasPerShard": 3}])
async def test_what_memop_changes_step_by_step_is_no_drift(world: World, spec: dict[str, Any]) -> None:
    await world.made()
    world.give(spec)
    for _ in range(3):
        await world.reconciler.reconcile(KEY)
        world.ready()
        await asyncio.sleep(RELOAD_SECONDS)
    assert world.client.bodies[-1]["status"]["shards"] == spec["shards"]
    assert {reason for _, reason, _ in world.events.told} <= {"MemcachedClusterReady"}


async def test_a_strangers_object_is_not_written_and_looked_at_again_later(world: World) -> None:
    theirs = {"name": "cache-proxy", "namespace": "default", "uid": "s", "resourceVersion": "3"}
    world.client.objects["ConfigMap", "cache-proxy"] = {"kind": "ConfigMap", "metadata": theirs, "data": {"a": "b"}}
    world.give(SPEC)
    assert await world.reconciler.reconcile(KEY) == Done(after=15)
    assert world.degraded()[0] == "ObjectConflict"
    assert "ConfigMap default/cache-proxy exists" in world.degraded()[1]
    assert [body["kind"] for body in world.client.bodies if body["kind"] == "ConfigMap"] == []
    assert ("apply", "Deployment cache-proxy") not in world.asked()  # it would run by a stranger's configuration
    del world.client.objects["ConfigMap", "cache-proxy"]
    assert await world.reconciler.reconcile(KEY) == Done()
    assert {("apply", "ConfigMap cache-proxy"), ("apply", "Deployment cache-proxy")} <= set(world.asked())


async def test_proxies_wait_while_their_config_is_going(world: World) -> None:
    await world.made()
    stored = world.client.objects["ConfigMap", "cache-proxy"]
    world.client.version += 1
    version = str(world.client.version)
    stored["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": version}
    world.children[CONFIG_MAPS].wrote(msgspec.json.encode(stored))
    world.give({**SPEC, "proxy": {"replicas": 3}})
    await world.reconciler.reconcile(KEY)
    assert ("apply", "Deployment cache-proxy") not in world.asked()


@pytest.mark.parametrize("kind", ["Memcached", "ConfigMap", "Deployment", "Service"])
async def test_a_child_that_is_refused_is_told_and_keeps_none_waiting_but_proxies_for_their_config(
    world: World, kind: str
) -> None:
    world.client.failing[kind] = Forbidden("exceeded quota: none", status=403)
    world.give(SPEC)
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    held = [("apply", "Deployment cache-proxy")] if kind == "ConfigMap" else []
    assert world.asked() == [one for one in CREATED if one not in held]
    reason, message = world.degraded()
    assert reason == "Rejected"
    assert "exceeded quota: none" in message
    world.client.failing.clear()
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.degraded()[0] == "Degraded"


async def test_an_unreachable_server_is_no_verdict_on_the_object(world: World) -> None:
    world.client.failing["Service"] = Unreachable("connection reset")
    world.give(SPEC)
    with pytest.raises(Unreachable):
        await world.reconciler.reconcile(KEY)
    assert STATUS not in world.asked()


async def test_nothing_is_told_of_a_namespace_that_is_going(world: World) -> None:
    world.client.failing["Memcached"] = NamespaceTerminating("is being terminated", status=403)
    world.give(SPEC)
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == [("apply", "Memcached cache-r0")]
    assert world.events.told == []


async def test_a_paused_cluster_has_its_status_told_and_its_children_left(world: World) -> None:
    await world.made()
    world.give({"shards": 1}, annotations=PAUSED)
    await world.reconciler.reconcile(KEY)
    await asyncio.sleep(RELOAD_SECONDS)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [STATUS]
    assert world.client.bodies[-1]["status"]["shards"] == 2
    assert "Paused" in [reason for _, reason, _ in world.events.told]
    world.give({"shards": 1})
    await world.reconciler.reconcile(KEY)
    assert ("apply", "ConfigMap cache-proxy") in world.asked()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"shards": "many"}, "spec.shards"),
        ({"shards": 2, "proxy": {"twemproxy": {}}}, "spec.proxy.twemproxy.image"),
        ({**SPEC, "proxy": {"twemproxy": {"image": "x"}}}, "spec.replicasPerShard"),
    ],
)
async def test_of_a_spec_of_which_nothing_can_be_built_all_is_left_and_told(
    world: World, spec: dict[str, Any], words: str
) -> None:
    await world.made()
    world.give(spec)
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == [STATUS]
    assert world.degraded()[0] == "InvalidSpec"
    assert words in world.degraded()[1]


async def test_what_is_wrong_with_a_spec_is_told_and_what_can_be_is_built(world: World) -> None:
    world.give({**SPEC, "proxy": {"security": {"podSecurityContext": {"runAsUser": 0, "fsGroup": 7}}}})
    await world.reconciler.reconcile(KEY)
    assert world.asked() == CREATED
    context = world.client.objects["Deployment", "cache-proxy"]["spec"]["template"]["spec"]["securityContext"]
    assert (context["runAsUser"], context["fsGroup"]) == (11211, 7)
    assert world.degraded()[0] == "InvalidSpec"


@pytest.mark.parametrize("deleting", [True, False])
async def test_a_cr_that_is_gone_or_going_is_left_to_garbage_collection(world: World, deleting: bool) -> None:
    if deleting:
        world.give(SPEC, deletionTimestamp="2026-01-01T00:00:00Z")
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == []


async def test_why_no_proxy_can_be_made_is_told(world: World) -> None:
    await world.made()
    refusal = {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}
    world.happen(DEPLOYMENTS, "cache-proxy", replicas=0, conditions=[refusal])
    await world.reconciler.reconcile(KEY)
    assert world.degraded() == ("Rejected", "violates PodSecurity")


SCRAPED = {**SPEC, "memcached": {"monitoring": {"enabled": True, "serviceMonitor": {}}}}


async def test_a_service_monitor_is_made_as_soon_as_the_cluster_serves_them(world: World) -> None:
    scope = world.children[SERVICE_MONITORS]._scopes[0]
    scope.refused("the server could not find the requested resource")
    world.give(SCRAPED)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == CREATED
    assert [reason for _, reason, _ in world.events.told] == ["ServiceMonitorUnavailable"]
    scope.complete(5)
    await world.reconciler.reconcile(KEY)
    assert ("apply", "ServiceMonitor cache-proxy") in world.asked()


async def test_a_config_map_that_somebody_edits_is_put_back(world: World) -> None:
    await world.made()
    stored = copy.deepcopy(world.client.objects["ConfigMap", "cache-proxy"])
    whole = stored["data"]
    stored["data"] = dict.fromkeys(whole, "mine")
    world.client.version += 1
    stored["metadata"]["resourceVersion"] = str(world.client.version)
    world.client.objects["ConfigMap", "cache-proxy"] = stored
    world.children[CONFIG_MAPS].wrote(msgspec.json.encode(stored))
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("apply", "ConfigMap cache-proxy")]
    assert world.client.objects["ConfigMap", "cache-proxy"]["data"] == whole


def roll(world: World, pool: str) -> None:
    """The pool's own reconciler and its StatefulSet have done all that the pool asks for."""
    count = world.client.objects["Memcached", pool]["spec"]["replicas"]
    world.happen(MEMCACHEDS, pool, replicas=count, readyReplicas=count)
    world.client.version += 1
    metadata = {"name": pool, "namespace": "default", "uid": pool, "resourceVersion": str(world.client.version)}
    rolled = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), count)
    body = {"metadata": metadata, "spec": {"template": {"metadata": {}}}, "status": rolled}
    world.stateful_sets.wrote(msgspec.json.encode(body))


async def test_of_several_copies_one_is_changed_after_the_other(world: World) -> None:
    await world.made()
    for pool in ("cache-r0", "cache-r1"):
        roll(world, pool)
    world.give({**SPEC, "memcached": {"image": "memcached:2"}})
    await world.reconciler.reconcile(KEY)
    assert [asked for verb, asked in world.asked() if verb == "apply"] == ["Memcached cache-r0"]
    await world.reconciler.reconcile(KEY)
    assert world.asked() == []
    roll(world, "cache-r0")
    await world.reconciler.reconcile(KEY)
    assert [asked for verb, asked in world.asked() if verb == "apply"] == ["Memcached cache-r1"]


def rolled_out(number: int) -> bytes:
    name = f"cache-r{number}"
    body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": "default"}}
    status = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
    return live({**body, "spec": {"template": {"metadata": {}}}}, status=status)


async def test_a_change_of_the_pool_goes_from_copy_to_copy(world: World) -> None:
    await world.made()
    for number in (0, 1):
        world.stateful_sets.wrote(rolled_out(number))
    world.give({**SPEC, "memcached": {"memcached": {"maxMemoryMB": 128}}})
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("apply", "Memcached cache-r0"), STATUS]
    await world.reconciler.reconcile(KEY)
    assert world.asked() == []
    world.ready()
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("apply", "Memcached cache-r1"), STATUS]
