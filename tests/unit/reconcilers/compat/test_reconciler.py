"""What one reconcile of a foreign CR asks of the API server, and what it tells."""

import asyncio
from typing import Any

import msgspec
import pytest

from memop.controller import Done
from memop.errors import Forbidden, NamespaceTerminating, Rejected
from memop.reconcilers.compat.kinds import FOREIGN_KINDS, ForeignKind
from memop.refs import Key
from tests.unit.reconcilers.compat.world import IANLEWIS, KEY, MCROUTER, MEMSHACK, Json, World
from tests.unit.virtual_time import VirtualClock

CLUSTER = "MemcachedCluster"


@pytest.fixture
async def world(clock: VirtualClock) -> World:
    return await made(MCROUTER, clock)


async def made(kind: ForeignKind, clock: VirtualClock) -> World:
    world = World(kind, clock)
    await world.sync()
    return world


def created(kind: ForeignKind) -> list[tuple[str, str]]:
    return [("apply", CLUSTER), ("status", kind.resource.kind)]


def conditions(generation: int = 1, **states: tuple[str, str, str]) -> Json:
    """A child's status."""
    told = {
        "Available": ("True", "Available", "2 of 2 proxies ready"),
        "Progressing": ("False", "ProgressingComplete", "rolled out"),
        "Degraded": ("False", "NotDegraded", "5 of 5 pods ready"),
        "Ready": ("True", "ClusterReady", "all pods ready"),
        "PoolReady": ("True", "PoolReady", "5 of 5 pods ready"),
        **states,
    }
    return {
        "observedGeneration": generation,
        "conditions": [
            {
                "type": type_,
                "status": holds,
                "reason": reason,
                "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for type_, (holds, reason, message) in told.items()
        ],
        "endpoint": "cache.default:5000",
        "shards": 5,
        "replicasPerShard": 1,
    }


@pytest.mark.parametrize("kind", FOREIGN_KINDS, ids=lambda kind: kind.resource.plural)
async def test_a_new_cr_gets_its_child_and_is_told_of(kind: ForeignKind, clock: VirtualClock) -> None:
    world = await made(kind, clock)
    world.give({}, labels={"app.kubernetes.io/instance": "of-another-tool"}, annotations={"other": "tool"})
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == created(kind)
    child = world.client.bodies[0]
    assert child["metadata"] == {
        "name": "cache-memshack" if kind is MEMSHACK else "cache",
        "namespace": "default",
        "resourceVersion": "1",
        "labels": {
            "app.kubernetes.io/name": str(kind.resource),
            "app.kubernetes.io/instance": "cache",
            "app.kubernetes.io/managed-by": "memcached-operator",
            "app.kubernetes.io/component": "compat",
        },
        "ownerReferences": [
            {
                "apiVersion": kind.resource.api_version,
                "kind": kind.resource.kind,
                "name": "cache",
                "uid": "cr-uid",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    whole = {"kind": kind.resource.kind, "metadata": {"name": "cache"}, "spec": {}}
    assert child["spec"] == kind.translate(whole).native["spec"]
    assert world.client.managers == ["memop-compat", "memop-compat"]
    assert world.condition("Ready") == (
        "False",
        "Progressing",
        "the MemcachedCluster's newest generation is not observed yet",
    )


async def test_a_cr_without_a_spec_is_one_of_defaults(world: World) -> None:
    world.give()
    await world.reconciler.reconcile(KEY)
    assert world.child["spec"]["replicasPerShard"] == 2


async def test_the_second_reconcile_asks_for_nothing(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.tell(**conditions())
    await world.reconciler.reconcile(KEY)
    world.asked()
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == []


async def test_a_changed_spec_changes_the_child_that_was_seen(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.asked()
    world.give({"memcached_pool_size": 3, "pool_setup": "sharded"}, generation=2)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == created(MCROUTER)
    child = world.client.bodies[-2]
    assert (child["metadata"]["uid"], child["metadata"].get("resourceVersion")) == (f"{CLUSTER}-uid", None)
    assert (child["spec"]["shards"], child["spec"]["replicasPerShard"]) == (3, 1)
    assert "readPolicy" not in child["spec"]["proxy"]
    assert world.status["observedGeneration"] == 2


async def test_the_childs_status_is_mirrored(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.tell(**conditions(Degraded=("Unknown", "Odd", "not known")))
    await world.reconciler.reconcile(KEY)
    assert world.condition("Available") == ("True", "Available", "2 of 2 proxies ready")
    assert world.condition("Progressing") == ("False", "ProgressingComplete", "rolled out")
    assert world.condition("Degraded") == ("Unknown", "Odd", "not known")
    assert world.condition("Ready") == ("True", "ClusterReady", "all pods ready")
    assert world.condition("Translated") == ("True", "Translated", "every field has its equivalent")
    assert world.condition("Running") == ("True", "Successful", "Awaiting next reconciliation")
    assert world.status["endpoint"] == "cache.default:5000"
    assert {one["type"] for one in world.status["conditions"]} == {
        "Available",
        "Progressing",
        "Degraded",
        "Ready",
        "Translated",
        "Running",
    }
    assert world.events.told == [("Normal", "ClusterReady", "all pods ready")]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (IANLEWIS, {"replicas": 5, "serviceName": "cache"}),
        (MEMSHACK, {"phase": "Running", "message": "all pods ready"}),
    ],
)
async def test_the_other_operators_fields_are_told_too(kind: ForeignKind, fields: Json, clock: VirtualClock) -> None:
    world = await made(kind, clock)
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.tell(**conditions())
    await world.reconciler.reconcile(KEY)
    assert {name: world.status[name] for name in fields} == fields
    assert world.condition("Running") == ("", "", "")


async def test_what_the_child_has_not_taken_in_yet_is_not_ready(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.tell(generation=2, **conditions(generation=1))
    await world.reconciler.reconcile(KEY)
    behind = "the MemcachedCluster's newest generation is not observed yet"
    assert world.condition("Progressing") == ("True", "Progressing", behind)
    assert world.condition("Ready") == ("False", "Progressing", behind)
    assert world.condition("Available")[0] == "True"
    assert world.condition("Running")[1] == "Running"


async def test_what_has_no_equivalent_is_told_once_and_the_rest_is_served(world: World) -> None:
    world.give({"memcached_port": 11311, "extra": {"a": 1}})
    await world.reconciler.reconcile(KEY)
    notes = (
        "spec.extra: unknown, and so without effect; "
        "spec.memcached_port: memcached listens on 11211 instead, where mcrouter alone asks it"
    )
    assert world.condition("Translated") == ("False", "NoEquivalent", notes)
    assert world.child["spec"]["proxy"]["port"] == 5000
    world.tell(**conditions())
    await world.reconciler.reconcile(KEY)
    assert world.condition("Degraded")[0] == "False"
    assert [reason for _, reason, _ in world.events.told] == ["NoEquivalent", "ClusterReady"]
    assert world.events.told[0] == ("Warning", "NoEquivalent", notes)


async def test_a_spec_that_makes_no_sense_leaves_the_child_as_it_is(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.tell(**conditions())
    await world.reconciler.reconcile(KEY)
    world.asked()
    world.give({"memcached_pool_size": 9}, generation=2)
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == [("status", "Mcrouter")]
    why = (
        "Mcrouter default/cache: spec.memcached_pool_size: 9 is more than 8 copies of each key: lower it, or set "
        "pool_setup to sharded"
    )
    assert world.condition("Translated") == ("False", "InvalidSpec", why)
    assert world.condition("Degraded") == ("True", "InvalidSpec", why)
    assert world.condition("Ready") == ("False", "InvalidSpec", why)
    assert world.condition("Running") == ("False", "Failed", why)
    assert world.condition("Available")[0] == "True"
    assert world.condition("Progressing")[0] == "False"
    assert world.status["endpoint"] == "cache.default:5000"
    assert world.events.told[-1] == ("Warning", "InvalidSpec", why)


async def test_a_spec_that_never_made_sense_gets_no_child(world: World) -> None:
    world.give({"pool_setup": 7})
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", CLUSTER), ("status", "Mcrouter")]
    assert world.condition("Progressing") == ("False", "InvalidSpec", "nothing is made of this spec")
    assert world.condition("Available") == ("False", "Unavailable", "no MemcachedCluster yet")
    world.give({"pool_setup": "sharded"}, generation=2)
    await world.reconciler.reconcile(KEY)
    assert world.asked()[-2:] == created(MCROUTER)


PAUSED = {"memcached.c5c3.io/paused": "true"}


async def test_the_child_of_a_paused_cr_is_not_touched(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.tell(**conditions())
    world.asked()
    world.give({"memcached_pool_size": 3}, generation=2, annotations=PAUSED)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("status", "Mcrouter")]
    assert world.condition("Paused")[:2] == ("True", "Paused")
    assert world.condition("Ready")[0] == "True"
    world.give({"memcached_pool_size": 3}, generation=2)
    await world.reconciler.reconcile(KEY)
    assert world.asked() == created(MCROUTER)
    assert world.child["spec"]["replicasPerShard"] == 3
    assert world.condition("Paused") == ("", "", "")


async def test_the_child_of_a_paused_cr_is_looked_up_where_it_lost_its_labels(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    stripped = msgspec.json.decode(world.client.last[CLUSTER]) | {"status": conditions()}
    world.client.found[CLUSTER] = msgspec.json.encode(stripped)
    world.clusters.deleted(KEY, f"{CLUSTER}-uid")
    world.give({}, annotations=PAUSED)
    world.asked()
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("get", CLUSTER), ("status", "Mcrouter")]
    assert world.condition("Ready")[0] == "True"


async def test_another_cluster_of_that_name_is_left_alone_and_named(world: World) -> None:
    owner = {"apiVersion": "ianlewis.org/v1alpha1", "kind": CLUSTER, "name": "cache", "uid": "u", "controller": True}
    metadata = {"name": "cache", "namespace": "default", "uid": "theirs", "resourceVersion": "3", "generation": 1}
    metadata |= {"labels": IANLEWIS.labels(KEY), "ownerReferences": [owner]}
    theirs = msgspec.json.encode({"kind": CLUSTER, "metadata": metadata, "status": conditions()})
    world.client.found[CLUSTER] = theirs
    world.clusters.wrote(theirs)
    world.give({})
    assert await world.reconciler.reconcile(KEY) == Done(after=15)
    assert [verb for verb, kind in world.asked() if kind == CLUSTER] == []
    status, reason, message = world.condition("Degraded")
    assert (status, reason) == ("True", "ObjectConflict")
    assert "controlled by MemcachedCluster cache" in message
    assert world.condition("Ready")[0] == "False"
    assert "endpoint" not in world.status
    assert world.condition("Running") == ("False", "Failed", message)


async def test_a_child_that_is_refused_is_told_of_and_tried_again(world: World) -> None:
    world.client.failing[CLUSTER] = Rejected("spec.shards: Invalid value", status=422)
    world.give({})
    with pytest.raises(Rejected):
        await world.reconciler.reconcile(KEY)
    assert world.condition("Degraded") == (
        "True",
        "Rejected",
        "MemcachedCluster default/cache: spec.shards: Invalid value",
    )
    world.client.failing.clear()
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.condition("Degraded")[0] == "False"
    assert [reason for _, reason, _ in world.events.told] == ["Rejected"]


async def test_drift_is_repaired_and_told(world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    world.tell(**conditions())
    await world.reconciler.reconcile(KEY)
    changed = msgspec.json.decode(world.client.last[CLUSTER])
    changed["metadata"] |= {"resourceVersion": "5000", "generation": 2}
    changed["spec"]["replicasPerShard"] = 7
    del changed["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:replicasPerShard"]
    world.clusters.wrote(msgspec.json.encode(changed))
    world.client.version = 5000
    await world.reconciler.reconcile(KEY)
    assert world.child["spec"]["replicasPerShard"] == 2
    assert [reason for _, reason, _ in world.events.told] == ["ClusterReady", "DriftRepaired"]


async def test_what_admission_changes_every_time_is_told_and_applied_ever_more_rarely(world: World) -> None:
    world.client.admission = lambda body: body["spec"].update(shards=9)
    world.give({})
    assert await world.reconciler.reconcile(KEY) == Done(after=1)
    await asyncio.sleep(1)
    assert await world.reconciler.reconcile(KEY) == Done(after=2)
    assert {reason for _, reason, _ in world.events.told} == {"Contested"}


@pytest.mark.parametrize("going", [None, {"deletionTimestamp": "2026-01-01T00:00:00Z"}])
async def test_of_a_cr_that_is_gone_or_going_nothing_is_asked(going: Json | None, world: World) -> None:
    if going is not None:
        world.give({}, **going)
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == []


async def test_nothing_is_told_of_a_namespace_that_is_going(world: World) -> None:
    world.client.failing[CLUSTER] = NamespaceTerminating("is being terminated", status=403)
    world.give({})
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == [("apply", CLUSTER)]


async def test_a_status_that_may_not_be_written_is_an_error(world: World) -> None:
    world.client.failing["Mcrouter"] = Forbidden("mcrouters/status is forbidden", status=403)
    world.give({})
    with pytest.raises(Forbidden):
        await world.reconciler.reconcile(KEY)
    assert world.events.told == []


async def test_without_our_own_definition_it_is_said_and_made_as_soon_as_the_cluster_serves_it(world: World) -> None:
    scope = world.clusters._scopes[0]
    scope.refused("the server could not find the requested resource")
    world.give({})
    assert await world.reconciler.reconcile(KEY) == Done()
    assert world.asked() == [("get", CLUSTER), ("status", "Mcrouter")]
    assert world.condition("Degraded") == (
        "True",
        "MemcachedClusterUnavailable",
        "no MemcachedCluster is made until the cluster serves them: the server could not find the requested resource",
    )
    scope.complete(5)
    await world.reconciler.reconcile(KEY)
    assert ("apply", CLUSTER) in world.asked()


ODD_STATUSES: list[Any] = [
    "odd",
    {"conditions": "odd"},
    {"conditions": [{"type": "Ready"}]},
    {"observedGeneration": "1", "conditions": []},
]


@pytest.mark.parametrize("odd", ODD_STATUSES)
async def test_a_child_whose_status_cannot_be_read_is_not_ready(odd: Any, world: World) -> None:
    world.give({})
    await world.reconciler.reconcile(KEY)
    child = msgspec.json.decode(world.client.last[CLUSTER])
    child["metadata"]["resourceVersion"] = "5000"
    world.clusters.wrote(msgspec.json.encode({**child, "status": odd}))
    await world.reconciler.reconcile(KEY)
    assert world.condition("Ready")[0] == "False"


async def test_the_status_of_the_other_operator_is_replaced(world: World) -> None:
    world.give({})
    held = world.client.cr
    held["status"] = {"conditions": [{"type": "Running", "status": "True", "reason": "Running", "ansibleResult": {}}]}
    held["metadata"]["resourceVersion"] = "5000"
    world.client.version = 5000
    world.client.found["Mcrouter"] = msgspec.json.encode({**held, "status": {}})
    world.foreign.wrote(msgspec.json.encode(held))
    await world.reconciler.reconcile(KEY)
    assert world.asked() == [("apply", CLUSTER), ("patch", "Mcrouter"), ("status", "Mcrouter")]
    assert world.condition("Running")[1] == "Running"
    assert all(one["lastTransitionTime"] for one in world.status["conditions"])


def test_kinds_have_names_and_labels_of_their_own() -> None:
    key = Key("ns", "n" * 49)
    labels = [kind.labels(key) for kind in FOREIGN_KINDS]
    assert len({one["app.kubernetes.io/name"] for one in labels}) == len(FOREIGN_KINDS)
    assert all(len(value) <= 63 for one in labels for value in one.values())
