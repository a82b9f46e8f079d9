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
from memop.errors import BadResponse, Conflict, Forbidden, NamespaceTerminating, NotFound, Unreachable
from memop.informers.informer import Informer
from memop.metrics import InformerMetrics, OperatorMetrics
from memop.reconcilers.apply import Applier
from memop.reconcilers.memcached.children import KINDS, OPTIONAL_KINDS
from memop.reconcilers.memcached.instance import Options
from memop.reconcilers.memcached.labels import selector
from memop.reconcilers.memcached.reconciler import FIELD_MANAGER, MemcachedReconciler
from memop.reconcilers.objects import Live, decoder
from memop.reconcilers.secrets import SecretReader
from memop.refs import (
    CERTIFICATES,
    DEPLOYMENTS,
    MEMCACHEDS,
    POD_DISRUPTION_BUDGETS,
    SERVICE_MONITORS,
    SERVICES,
    STATEFUL_SETS,
    Key,
    ObjectReference,
    Resource,
)
from tests.unit.reconcilers.fields_v1 import fields_v1
from tests.unit.reconcilers.memcached.instances import KEY, memcached
from tests.unit.virtual_time import VirtualClock


class Script:
    """Answers as told and keeps what it was asked; an apply is answered with the object as it was sent.

    `found` is what exists beside that, by kind. Lists are empty, and watches quiet.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[Mapping[str, Any]] = []
        self.managers: list[str] = []  # of applies
        self.last: dict[str, bytes] = {}  # kind -> as it was applied
        self.found: dict[str, bytes] = {}
        self.failing: dict[str, Exception] = {}
        self.cr: dict[str, Any] = {}
        self.lingering: bytes | None = None  # what a delete leaves
        self.odd: set[str] = set()  # kinds whose writes are answered with a Status
        self.gone = False  # whether the CR is
        self.admission: Callable[[dict[str, Any]], None] | None = None
        self.version = 100

    async def list(self, resource: Resource, namespace: str = "", **_: Any) -> Page:
        return Page([], "0", "", None)

    @asynccontextmanager
    async def watch(self, resource: Resource, namespace: str = "", **_: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        await asyncio.Event().wait()
        yield _nothing()

    async def get(self, resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes:
        self.asked.append(("get", resource.kind))
        if resource is MEMCACHEDS and not self.gone:
            return msgspec.json.encode(self.cr)
        if resource.kind not in self.found:
            raise NotFound(f"{resource} {key} not found", status=404)
        return self.found[resource.kind]

    async def apply(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes:
        self.asked.append(("apply", resource.kind))
        if resource.kind in self.failing:
            raise self.failing[resource.kind]
        stored = copy.deepcopy(dict(body))
        if stored["metadata"].pop("resourceVersion", None) == "1" and resource.kind in self.found:
            raise Conflict("the object has been modified", status=409)
        self.bodies.append(body)
        self.managers.append(manager)
        if self.admission is not None:
            self.admission(stored)
        self.last[resource.kind] = answer = self._stored(stored, manager, "")
        return answer

    async def apply_status(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes:
        self.asked.append(("status", resource.kind))
        if resource.kind in self.failing:
            raise self.failing[resource.kind]
        self.bodies.append(body)
        self.managers.append(manager)
        return self._stored(
            {**self.cr, **body, "metadata": {**self.cr["metadata"], **body["metadata"]}}, manager, "status"
        )

    async def patch(
        self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> bytes:
        self.asked.append(("patch", resource.kind))
        self.bodies.append(body)
        found = msgspec.json.decode(self.found[resource.kind])
        return msgspec.json.encode({**found, "metadata": {**found["metadata"], **body["metadata"]}})

    async def delete(self, resource: Resource, key: Key, *, uid: str, resource_version: str) -> bytes | None:
        self.asked.append(("delete", resource.kind))
        self.bodies.append({"uid": uid, "resourceVersion": resource_version})
        if resource.kind in self.failing:
            raise self.failing[resource.kind]
        return self.lingering

    def _stored(self, body: Mapping[str, Any], manager: str, subresource: str) -> bytes:
        self.version += 1
        if body["kind"] in self.odd:
            return b'{"kind":"Status","metadata":{},"status":"Success"}'
        owned = fields_v1({"status": body["status"]} if subresource else dict(body))
        entry = {"manager": manager, "operation": "Apply", "subresource": subresource, "fieldsV1": owned}
        metadata = {"uid": f"{body['kind']}-uid", "generation": 1, **body["metadata"]}
        return msgspec.json.encode(
            {**body, "metadata": {**metadata, "resourceVersion": str(self.version), "managedFields": [entry]}}
        )


async def _nothing() -> AsyncIterator[bytes]:
    lines: list[bytes] = []
    for line in lines:
        yield line


class Told:
    """Events, as told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def record(self, regarding: ObjectReference, type: str, reason: str, note: str) -> None:  # noqa: A002
        self.told.append((type, reason, note))


class World:
    """A reconciler with its caches, a scripted API server behind it."""

    def __init__(self, clock: VirtualClock) -> None:
        registry = CollectorRegistry()
        self.client, self.events = Script(), Told()
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

        self.memcacheds = informer(MEMCACHEDS, "status")
        self.children = {kind: informer(kind) for kind in (*KINDS, *OPTIONAL_KINDS)}
        self.deployments = self.children[DEPLOYMENTS]
        self.services = self.children[SERVICES]
        self.budgets = self.children[POD_DISRUPTION_BUDGETS]
        metrics = OperatorMetrics(registry)
        applier = Applier(
            self.client,
            resource=MEMCACHEDS,
            manager=FIELD_MANAGER,
            owners=self.memcacheds,
            children=self.children,
            optional=OPTIONAL_KINDS,
            clock=clock,
            metrics=metrics,
        )
        self.reconciler = MemcachedReconciler(
            memcacheds=self.memcacheds,
            workloads={kind: self.children[kind] for kind in (DEPLOYMENTS, STATEFUL_SETS)},
            secrets=SecretReader(self.client, interval=60.0, clock=clock, rng=random.Random(1)),  # noqa: S311
            applier=applier,
            events=self.events,
            clock=clock,
            metrics=metrics,
            options=Options(),
        )
        self.memcacheds.subscribe(self.reconciler.noticed)

    def give(self, cr: bytes) -> None:
        """A CR as the watch brings it."""
        self.client.cr = msgspec.json.decode(cr)
        self.client.version = max(self.client.version, int(self.client.cr["metadata"]["resourceVersion"]))
        self.memcacheds.wrote(cr)

    async def sync(self, *informers: Informer[Live]) -> None:
        """List: nothing is there. The watches are not needed, as the tests put into the caches what those would."""
        async with asyncio.TaskGroup() as group:
            for informer in informers or (self.memcacheds, *self.children.values()):
                task = group.create_task(informer.run())
                await informer.wait_settled()
                task.cancel()

    def asked(self) -> list[tuple[str, str]]:
        asked, self.client.asked = self.client.asked, []
        return asked


@pytest.fixture
async def world(clock: VirtualClock) -> World:
    world = World(clock)
    await world.sync()
    return world


CREATED = [("apply", "Service"), ("apply", "Deployment"), ("status", "Memcached")]


async def test_a_new_cr_is_made_and_told_of(world: World) -> None:
    world.give(memcached({"replicas": 2}))
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == CREATED
    [service, deployment, _] = world.client.bodies
    assert (service["metadata"].get("uid"), service["metadata"]["resourceVersion"]) == (None, "1")
    assert deployment["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "memcached.c5c3.io/v1beta1",
            "kind": "Memcached",
            "name": "cache",
            "uid": "cr-uid",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


async def test_the_second_reconcile_asks_for_nothing(world: World) -> None:
    world.give(memcached({"replicas": 2}))
    await world.reconciler.reconcile(KEY)
    world.asked()
    await world.reconciler.reconcile(KEY)
    assert world.asked() == []


async def test_only_what_differs_is_written_with_the_uid_that_was_seen(world: World) -> None:
    world.give(memcached({"replicas": 2}))
    await world.reconciler.reconcile(KEY)
    world.asked()
    held = world.memcacheds.reader.get(KEY)
    assert held is not None
    told = msgspec.json.decode(held.status)
    entry = {
        "manager": FIELD_MANAGER,
        "operation": "Apply",
        "subresource": "status",
        "fieldsV1": msgspec.Raw(held.owned),
    }
    world.give(memcached({"replicas": 3}, version=200, generation=2, status=told, managed_fields=[entry]))
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("apply", "Deployment"), ("status", "Memcached")]
    metadata = world.client.bodies[-2]["metadata"]
    assert (metadata["uid"], metadata.get("resourceVersion")) == ("Deployment-uid", None)
    assert world.client.bodies[-2]["spec"]["replicas"] == 3


async def test_a_strangers_object_is_not_written_and_looked_at_again_later(world: World) -> None:
    world.client.found["Service"] = msgspec.json.encode(
        {"metadata": {"name": "cache", "namespace": "default", "uid": "s", "resourceVersion": "3"}}
    )
    world.give(memcached())
    assert await world.reconciler.reconcile(KEY) == Done(after=15)
    assert world.asked() == [("apply", "Service"), ("get", "Service"), *CREATED[1:]]
    assert [body["kind"] for body in world.client.bodies] == ["Deployment", "Memcached"]
    assert await world.reconciler.reconcile(KEY) == Done(after=15)
    # He is known now: no write is tried while he is there.
    assert world.asked() == [("get", "Memcached"), ("get", "Service")]
    del world.client.found["Service"]
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked()[1:] == [("get", "Service"), ("apply", "Service"), ("status", "Memcached")]
    assert [(type_, reason) for type_, reason, _ in world.events.told] == [("Warning", "ObjectConflict")]


async def test_a_restored_object_loses_the_controller_that_is_gone_before_it_is_applied(world: World) -> None:
    gone = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": "cache", "uid": "gone"}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "beside", "uid": "beside"}
    metadata = {"name": "cache", "namespace": "default", "uid": "s", "resourceVersion": "3", "labels": selector(KEY)}
    owners = [{**gone, "controller": True}, other]
    world.client.found["Service"] = msgspec.json.encode({"metadata": {**metadata, "ownerReferences": owners}})
    world.give(memcached())
    await world.reconciler.reconcile(KEY)
    asked = [verb for verb, kind in world.asked() if kind == "Service"]
    assert asked == ["apply", "get", "get", "patch", "apply"]  # the second: who set its fields?
    patched, applied = (body["metadata"] for body in world.client.bodies[:2])
    assert (patched["uid"], patched["resourceVersion"]) == ("s", "3")
    assert [owner["uid"] for owner in msgspec.to_builtins(patched["ownerReferences"])] == ["beside"]
    assert (applied["uid"], [owner["uid"] for owner in applied["ownerReferences"]]) == ("s", ["cr-uid"])


async def test_drift_that_is_repaired_is_told_of(world: World) -> None:
    world.give(memcached())
    await world.reconciler.reconcile(KEY)
    world.deployments.deleted(KEY, "Deployment-uid")
    await world.reconciler.reconcile(KEY)
    assert world.events.told == [("Normal", "DriftRepaired", "Deployment cache: Deployment is missing; put back")]


async def test_what_is_made_when_trouble_ends_is_no_repair(world: World) -> None:
    world.client.failing["Deployment"] = Forbidden("exceeded quota: none", status=403)
    world.give(memcached())
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    world.client.failing.clear()
    await world.reconciler.reconcile(KEY)
    assert world.asked()[-2:] == [("apply", "Deployment"), ("status", "Memcached")]
    assert [reason for _, reason, _ in world.events.told] == ["Rejected"]


async def test_what_admission_changes_every_time_is_applied_ever_more_rarely_and_told(world: World) -> None:
    world.client.admission = lambda body: (
        body["spec"].update(clusterIP="10.0.0.1") if body["kind"] == "Service" else None
    )
    world.give(memcached())
    pauses = [(await world.reconciler.reconcile(KEY)).after]
    assert world.asked() == CREATED
    assert (await world.reconciler.reconcile(KEY)).after == 1  # woken by our own write: no time has passed
    assert world.asked() == []
    for _ in range(10):
        assert pauses[-1] is not None
        await asyncio.sleep(pauses[-1])
        pauses.append((await world.reconciler.reconcile(KEY)).after)
        assert world.asked() == [("apply", "Service")]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert {(type_, reason) for type_, reason, _ in world.events.told} == {("Warning", "Contested")}
    world.client.admission = None
    await asyncio.sleep(300)
    assert await world.reconciler.reconcile(KEY) == Done()


async def test_nothing_is_told_of_a_namespace_that_is_going(world: World) -> None:
    world.client.failing["Service"] = NamespaceTerminating("is being terminated", status=403)
    world.give(memcached())
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == [("apply", "Service")]
    assert world.events.told == []


async def test_a_paused_pool_whose_labels_were_stripped_is_still_seen(world: World) -> None:
    owner = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": "cache", "uid": "cr-uid"}
    metadata = {"name": "cache", "namespace": "default", "uid": "d", "resourceVersion": "3"}
    world.client.found["Deployment"] = msgspec.json.encode(
        {
            "metadata": {**metadata, "ownerReferences": [{**owner, "controller": True}]},
            "status": {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
        }
    )
    world.give(memcached(annotations={"memcached.c5c3.io/paused": "true"}))
    await world.reconciler.reconcile(KEY)
    assert world.client.bodies[-1]["status"]["readyReplicas"] == 1


async def test_a_refusal_is_told_in_the_status_and_then_raised_for_backoff(world: World) -> None:
    world.client.failing["Service"] = Forbidden("exceeded quota: none", status=403)
    world.give(memcached())
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    assert world.asked()[-2:] == [("apply", "Deployment"), ("status", "Memcached")]
    [degraded] = [c for c in world.client.bodies[-1]["status"]["conditions"] if c["type"] == "Degraded"]
    assert (degraded["reason"], degraded["message"]) == (
        "Rejected",
        "Service default/cache: exceeded quota: none",
    )


async def test_an_unreachable_server_is_no_verdict_on_the_object(world: World) -> None:
    world.client.failing["Service"] = Unreachable("connection reset")
    world.give(memcached())
    with pytest.raises(Unreachable):
        await world.reconciler.reconcile(KEY)
    assert ("status", "Memcached") not in world.client.asked
    assert world.events.told == []


@pytest.mark.parametrize("deleting", [True, False])
async def test_a_cr_that_is_gone_or_going_is_left_to_garbage_collection(world: World, deleting: bool) -> None:
    if deleting:
        world.give(memcached(deletionTimestamp="2026-01-01T00:00:00Z"))
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == []


async def test_a_paused_cr_has_its_status_told_and_its_children_left(world: World) -> None:
    world.give(memcached(annotations={"memcached.c5c3.io/paused": "true"}))
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Deployment"), ("status", "Memcached")]
    assert [reason for _, reason, _ in world.events.told] == ["Paused"]


async def test_where_no_list_was_ever_answered_a_child_is_looked_for_before_it_is_made(clock: VirtualClock) -> None:
    world = World(clock)
    await world.sync(world.memcacheds)
    world.give(memcached())
    await world.reconciler.reconcile(KEY)
    assert world.asked()[:2] == [("get", "Service"), ("apply", "Service")]


async def test_nothing_more_is_written_once_the_watch_of_the_crs_broke(world: World) -> None:
    world.give(memcached())
    write = world.client.apply

    async def no_answer(resource: Resource, namespace: str = "", **_: Any) -> Page:
        raise Unreachable("down")

    async def apply(resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes:
        answer = await write(resource, key, body, manager=manager)
        world.client.list = no_answer  # type: ignore[method-assign]
        watching = asyncio.create_task(world.memcacheds.run())
        await asyncio.sleep(0.1)
        watching.cancel()
        return answer

    world.client.apply = apply  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="the watch of memcacheds"):
        await world.reconciler.reconcile(KEY)
    assert world.asked() == [("apply", "Service")]


BUDGET = {"replicas": 2, "highAvailability": {"podDisruptionBudget": {"enabled": True, "minAvailable": 1}}}


async def with_budget(world: World) -> None:
    """A pool with its PodDisruptionBudget, and then a spec that asks for none."""
    world.give(memcached(BUDGET))
    await world.reconciler.reconcile(KEY)
    assert ("apply", "PodDisruptionBudget") in world.asked()
    world.give(memcached(version=200, generation=2))
    world.client.bodies.clear()


async def test_what_is_no_longer_wanted_is_deleted_as_it_was_seen(world: World) -> None:
    await with_budget(world)
    held = world.budgets.reader.get(KEY)
    assert held is not None
    await world.reconciler.reconcile(KEY)
    assert ("delete", "PodDisruptionBudget") in world.asked()
    assert {"uid": "PodDisruptionBudget-uid", "resourceVersion": str(held.resource_version)} in world.client.bodies
    await world.reconciler.reconcile(KEY)
    assert world.asked() == []


async def test_what_a_finalizer_holds_is_deleted_once(world: World) -> None:
    await with_budget(world)
    metadata = {"name": "cache", "namespace": "default", "uid": "PodDisruptionBudget-uid", "resourceVersion": "900"}
    world.client.lingering = msgspec.json.encode(
        {"metadata": {**metadata, "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    )
    await world.reconciler.reconcile(KEY)
    assert ("delete", "PodDisruptionBudget") in world.asked()
    await world.reconciler.reconcile(KEY)
    assert world.asked() == []


async def test_what_is_gone_already_counts_as_deleted(world: World) -> None:
    await with_budget(world)
    world.client.failing["PodDisruptionBudget"] = NotFound("not found", status=404)
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.budgets.reader.get(KEY) is None


async def test_a_delete_that_is_refused_is_told_and_tried_again(world: World) -> None:
    await with_budget(world)
    world.client.failing["PodDisruptionBudget"] = Forbidden("no", status=403)
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    assert [reason for _, reason, _ in world.events.told] == ["Rejected"]


async def test_a_strangers_object_that_nobody_wants_is_left_alone(world: World) -> None:
    owner = {"apiVersion": "apps/v1", "kind": "Other", "name": "cache", "uid": "other", "controller": True}
    metadata = {"name": "cache", "namespace": "default", "uid": "b", "resourceVersion": "3", "labels": selector(KEY)}
    world.budgets.wrote(msgspec.json.encode({"metadata": {**metadata, "ownerReferences": [owner]}}))
    world.give(memcached())
    await world.reconciler.reconcile(KEY)
    assert world.asked() == CREATED


async def test_a_paused_pool_keeps_what_it_no_longer_wants(world: World) -> None:
    await with_budget(world)
    world.give(memcached(version=201, generation=2, annotations={"memcached.c5c3.io/paused": "true"}))
    await world.reconciler.reconcile(KEY)
    assert ("delete", "PodDisruptionBudget") not in world.asked()


def orphan() -> bytes:
    """A Service that the CR of this name would adopt."""
    metadata = {"name": "cache", "namespace": "default", "uid": "s", "resourceVersion": "3", "labels": selector(KEY)}
    return msgspec.json.encode({"metadata": metadata})


async def test_nothing_is_made_again_for_a_cr_that_is_gone(world: World) -> None:
    """Its watch may lag behind those of its children, which garbage collection has deleted."""
    world.give(memcached())
    await world.reconciler.reconcile(KEY)
    world.asked()
    world.client.gone = True
    world.services.deleted(KEY, "Service-uid")
    with pytest.raises(Conflict, match="not the one any more"):
        await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Memcached")]
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == []


@pytest.mark.parametrize(
    "change", [{"uid": "next"}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}], ids=["recreated", "deleting"]
)
async def test_nothing_is_adopted_for_a_cr_that_is_not_the_one_any_more(world: World, change: dict[str, str]) -> None:
    world.give(memcached())
    world.services.wrote(orphan())
    metadata = {**world.client.cr["metadata"], **change, "resourceVersion": "50"}
    world.client.cr = {**world.client.cr, "metadata": metadata}
    with pytest.raises(Conflict):
        await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Memcached")]
    held = world.memcacheds.reader.get(KEY)
    assert held is not None
    assert (held.uid, held.deleting) == (metadata["uid"], "deletionTimestamp" in change)


async def test_what_is_adopted_is_adopted_by_a_cr_that_is_there(world: World) -> None:
    world.give(memcached())
    world.services.wrote(orphan())
    world.client.found["Service"] = orphan()
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Memcached"), ("get", "Service"), *CREATED]


async def test_a_cr_that_is_found_gone_when_its_status_is_told_is_forgotten(world: World) -> None:
    world.give(memcached())
    world.client.failing["Memcached"] = NotFound("not found", status=404)
    await world.reconciler.reconcile(KEY)
    assert world.memcacheds.reader.get(KEY) is None


@pytest.mark.parametrize("kind", ["Deployment", "Memcached"])
async def test_an_answer_that_is_another_object_is_no_success(world: World, kind: str) -> None:
    world.client.odd.add(kind)
    world.give(memcached())
    with pytest.raises(BadResponse, match="Success"):
        await world.reconciler.reconcile(KEY)
    world.client.odd.clear()
    await world.reconciler.reconcile(KEY)
    assert world.asked()[-1] == ("status", "Memcached")


def secret(version: int) -> bytes:
    return msgspec.json.encode(
        {"metadata": {"name": "p", "namespace": "default", "uid": "s", "resourceVersion": f"{version}"}}
    )


SASL = {"security": {"sasl": {"enabled": True, "credentialsSecretRef": {"name": "passwords"}}}}


def hashes(world: World) -> list[str | None]:
    """What the applied pod templates said of Secrets, in turn."""
    return [
        body["spec"]["template"]["metadata"].get("annotations", {}).get("memcached.c5c3.io/secret-hash")
        for body in world.client.bodies
        if body.get("kind") == "Deployment"
    ]


async def test_a_secret_that_changes_rolls_the_pods_and_one_that_goes_does_not(
    world: World, clock: VirtualClock
) -> None:
    world.client.found["Secret"] = secret(1)
    world.give(memcached(SASL))
    first = await world.reconciler.reconcile(KEY)
    assert first.after is not None
    assert 50 < first.after < 70
    assert world.asked() == [("get", "Secret"), *CREATED]
    await world.reconciler.reconcile(KEY)
    assert world.asked() == []
    await asyncio.sleep(first.after)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Secret")]
    world.client.found["Secret"] = secret(2)
    await asyncio.sleep(70)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Secret"), ("apply", "Deployment")]
    del world.client.found["Secret"]
    await asyncio.sleep(70)
    missing = await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Secret"), ("status", "Memcached")]
    assert missing.after is not None
    assert missing.after < 12
    assert world.events.told[-1][:2] == ("Warning", "SecretNotFound")
    assert "default/passwords" in world.events.told[-1][2]
    world.client.found["Secret"] = secret(3)
    await asyncio.sleep(12)
    await world.reconciler.reconcile(KEY)
    one, two, three = hashes(world)
    assert one
    assert len({one, two, three}) == 3


async def test_a_missing_secret_keeps_the_hash_through_other_changes(world: World) -> None:
    world.client.found["Secret"] = secret(1)
    world.give(memcached(SASL))
    await world.reconciler.reconcile(KEY)
    del world.client.found["Secret"]
    world.give(memcached({**SASL, "memcached": {"threads": 2}}, version=200, generation=2))
    await world.reconciler.reconcile(KEY)
    one, two = hashes(world)
    assert one == two is not None


async def test_a_secret_that_memop_may_not_read_is_told_of_with_the_servers_words(world: World) -> None:
    async def refuse(*_: Any, **__: Any) -> bytes:
        raise Forbidden("secrets is forbidden", status=403)

    world.client.get = refuse  # type: ignore[method-assign]
    world.give(memcached(SASL))
    await world.reconciler.reconcile(KEY)
    assert ("Warning", "Rejected", "Secret passwords: secrets is forbidden") in world.events.told


async def test_what_is_wrong_with_a_spec_is_told_and_what_can_be_is_built(world: World) -> None:
    pod = {"hostUsers": True, "runAsUser": 0, "fsGroup": 7}
    world.give(memcached({"memcached": {"extraArgs": ["-p", "1"]}, "security": {"podSecurityContext": pod}}))
    await world.reconciler.reconcile(KEY)
    assert world.asked() == CREATED
    template = world.client.bodies[1]["spec"]["template"]["spec"]
    assert (template["securityContext"]["runAsUser"], template["securityContext"]["fsGroup"]) == (11211, 7)
    assert "-p" not in template["containers"][0]["args"]
    [(type_, reason, note)] = world.events.told
    assert (type_, reason) == ("Warning", "InvalidSpec")
    assert "spec.memcached.extraArgs" in note
    assert "spec.security.podSecurityContext.runAsUser" in note


SCRAPED = {"monitoring": {"enabled": True, "serviceMonitor": {}}}


async def test_a_service_monitor_is_made_as_soon_as_the_cluster_serves_them(world: World) -> None:
    monitors = world.children[SERVICE_MONITORS]
    scope = monitors._scopes[0]
    scope.refused("the server could not find the requested resource")
    world.give(memcached(SCRAPED))
    await world.reconciler.reconcile(KEY)
    assert world.asked() == CREATED
    assert world.events.told == [
        (
            "Warning",
            "ServiceMonitorUnavailable",
            "no ServiceMonitor is made until the cluster serves them: the server could not find the requested resource",
        )
    ]
    scope.complete(5)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", "Memcached"), ("apply", "ServiceMonitor"), ("status", "Memcached")]


AUTOSCALED = {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 9}}


async def test_replicas_are_handed_over_before_they_are_given_up(world: World) -> None:
    world.give(memcached({"replicas": 5}))
    await world.reconciler.reconcile(KEY)
    world.give(memcached(AUTOSCALED, version=200, generation=2))
    world.asked()
    await world.reconciler.reconcile(KEY)
    applies = [kind for verb, kind in world.asked() if verb == "apply"]
    assert applies == ["Deployment", "Deployment", "HorizontalPodAutoscaler"]
    handed, given_up = (body for body in world.client.bodies[3:] if body["kind"] == "Deployment")
    assert handed["spec"] == {"replicas": 5}
    assert handed["metadata"]["resourceVersion"]
    assert world.client.managers[3:5] == ["memop-memcached-replicas", "memop-memcached"]
    assert "replicas" not in given_up["spec"]


def theirs(**labels: str) -> dict[str, Any]:
    """A Service of this CR as another operator made it, with a port that memop does not want."""
    owner = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": "cache", "uid": "cr-uid"}
    body = {
        "spec": {"ports": [{"port": 1, "protocol": "TCP", "name": "odd"}]},
        "metadata": {"ownerReferences": [owner]},
    }
    entry = {"manager": "manager", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields_v1(body)}
    user = {
        "manager": "kubectl-edit",
        "operation": "Update",
        "fieldsV1": fields_v1({"metadata": {"labels": {"x": "y"}}}),
    }
    metadata = {"name": "cache", "namespace": "default", "uid": "s", "resourceVersion": "3", "labels": selector(KEY)}
    owners = [{**owner, "controller": True}]
    return {**body, "metadata": {**metadata, "ownerReferences": owners, "managedFields": [entry, user]}}


async def test_what_another_operator_set_is_taken_over_before_the_first_apply(world: World) -> None:
    world.client.found["Service"] = msgspec.json.encode(theirs())
    world.services.wrote(world.client.found["Service"])
    world.give(memcached())
    await world.reconciler.reconcile(KEY)
    assert [verb for verb, kind in world.asked() if kind == "Service"] == ["get", "patch", "apply"]
    patched = world.client.bodies[0]["metadata"]
    assert (patched["uid"], patched["resourceVersion"]) == ("s", "3")
    user, ours = patched["managedFields"]
    assert user["manager"] == "kubectl-edit"
    assert (ours["manager"], ours["operation"]) == (FIELD_MANAGER, "Apply")
    assert "f:ports" in ours["fieldsV1"]["f:spec"]


async def test_a_kind_that_memop_may_not_even_read_keeps_no_other_waiting(clock: VirtualClock) -> None:
    world = World(clock)
    await world.sync(world.memcacheds)
    world.give(memcached({"security": {"networkPolicy": {"enabled": True}}}))
    ask = world.client.get

    async def get(resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes:
        if resource.kind == "NetworkPolicy":
            raise Forbidden("networkpolicies is forbidden", status=403)
        return await ask(resource, key)

    world.client.get = get  # type: ignore[method-assign]
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    assert [kind for verb, kind in world.asked() if verb != "get"] == ["Service", "Deployment", "Memcached"]
    assert ("Warning", "Rejected", "NetworkPolicy default/cache: networkpolicies is forbidden") in world.events.told


async def test_pods_that_the_api_server_refuses_are_told_of_with_its_words(world: World) -> None:
    world.give(memcached())
    await world.reconciler.reconcile(KEY)
    made = msgspec.json.decode(world.client.last["Deployment"])
    words = 'pods "cache-x" is forbidden: exceeded quota: few'
    made["status"] = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": words}]}
    made["metadata"]["resourceVersion"] = "300"
    world.deployments.wrote(msgspec.json.encode(made))
    await world.reconciler.reconcile(KEY)
    assert world.events.told == [("Warning", "Rejected", words)]


ISSUED = {"security": {"tls": {"enabled": True, "issuerRef": {"name": "ours"}}}}


async def test_a_certificate_that_cannot_be_asked_for_is_the_first_thing_told(world: World) -> None:
    world.children[CERTIFICATES]._scopes[0].refused("no such kind")
    world.give(memcached(ISSUED))
    await world.reconciler.reconcile(KEY)
    [(_, reason, note)] = world.events.told
    assert reason == "CertificateUnavailable"
    assert "no such kind" in note
    assert "default/cache-memcached-tls (cert-manager is to make it)" in note


def test_what_one_namespace_forbids_is_served_in_others(clock: VirtualClock) -> None:
    def informer(*namespaces: str) -> Informer[Live]:
        return Informer(
            Script(),
            SERVICE_MONITORS,
            decoder(FIELD_MANAGER),
            namespaces=namespaces,
            clock=clock,
            metrics=InformerMetrics(CollectorRegistry()),
            rng=random.Random(1),  # noqa: S311
        )

    some = informer("a", "b")
    some._scopes[0].refused("forbidden")
    assert (some.refusal("a"), some.refusal("b")) == ("forbidden", None)
    every = informer("")
    every._scopes[0].refused("no such kind")
    assert every.refusal("a") == "no such kind"
