"""Replica sync and a real API server: what it stores, whom it credits with it, and what it counts."""

import json
import time
from collections import Counter
from functools import partial
from typing import Any

import pytest

from memop.client import Client
from memop.errors import Conflict
from memop.refs import MEMCACHEDS, Key
from tests.support.apiserver import writes
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.operator import Operator

LABEL = "memcached-operator/associated-memcached-deployment-name"
FOLLOW: Json = {"kind": "Deployment", "name": "web"}
CRS = 200


def workload(name: str, replicas: int, feeds: str = "", kind: str = "Deployment") -> Json:
    """A source; its pods would do nothing."""
    labels = {"app": f"source-{name}"}
    pod = {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10"}], "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": {LABEL: feeds} if feeds else {}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            **({"serviceName": name} if kind == "StatefulSet" else {}),
        },
    }


def size(kubectl: Kubectl, name: str = "pool") -> int | None:
    replicas: int | None = kubectl.get("memcached", name)["spec"].get("replicas")
    return replicas


def synced(kubectl: Kubectl, name: str = "pool") -> tuple[str, str]:
    """Status and reason of the condition."""
    told = condition(kubectl.get("memcached", name), "ReplicasSynced")
    return told["status"], told["reason"]


def assert_follows(kubectl: Kubectl, replicas: int, name: str = "pool", reason: str = "Synced") -> None:
    """The size is this, the status says so of the newest spec, and the pool's own workload has it, too."""
    cr = kubectl.get("memcached", name)
    assert cr["spec"].get("replicas") == replicas
    told = condition(cr, "ReplicasSynced")
    assert (told["status"], told["reason"]) == ("True", reason), told
    assert told["observedGeneration"] == cr["metadata"]["generation"]
    kind = "statefulset" if cr["spec"].get("podIdentity") == "Stable" else "deployment"
    assert kubectl.get(kind, name)["spec"]["replicas"] == replicas


def assert_told(kubectl: Kubectl, reason: str, name: str = "pool") -> None:
    assert synced(kubectl, name) == ("False", reason)


def assert_event(kubectl: Kubectl, reason: str, kind: str, *names: str) -> None:
    about = {
        event["regarding"]["name"]
        for event in kubectl.list("events.events.k8s.io")
        if (event["reason"], event["regarding"]["kind"]) == (reason, kind)
    }
    assert about == set(names)


def follows(kubectl: Kubectl, replicas: int, name: str = "pool", reason: str = "Synced") -> None:
    eventually(partial(assert_follows, kubectl, replicas, name, reason), timeout=30)


def told(kubectl: Kubectl, reason: str, name: str = "pool") -> None:
    eventually(partial(assert_told, kubectl, reason, name), timeout=30)


def managers(cr: Json, *path: str) -> set[str]:
    """Who is credited with a field."""
    found = set()
    for entry in cr["metadata"]["managedFields"]:
        tree: Any = entry["fieldsV1"]
        for step in path:
            tree = tree.get(step) if isinstance(tree, dict) else None
        if tree is not None:
            found.add(entry["manager"])
    return found


pytestmark = pytest.mark.usefixtures("operator")


@pytest.mark.parametrize("identity", ["Ephemeral", "Stable"])
@pytest.mark.parametrize("by_label", [True, False])
def test_a_pool_follows_its_source(kubectl: Kubectl, by_label: bool, identity: str) -> None:
    kubectl.apply(workload("web", 3, "pool" if by_label else ""))
    kubectl.apply(memcached("pool", podIdentity=identity, **({} if by_label else {"replicasFrom": FOLLOW})))
    follows(kubectl, 3)
    kubectl("scale", "deployment/web", "--replicas=5")
    follows(kubectl, 5)
    kubectl("scale", "deployment/web", "--replicas=0")
    follows(kubectl, 0)
    cr = kubectl.get("memcached", "pool")
    assert managers(cr, "f:spec", "f:replicas") == {"memop-sync"}
    key = 'k:{"type":"ReplicasSynced"}'
    assert managers(cr, "f:status", "f:conditions", key) == {"memop-sync"}
    assert {item["type"] for item in cr["status"]["conditions"]} > {"ReplicasSynced", "Ready", "Degraded"}
    assert condition(cr, "Degraded")["reason"] == "NotDegraded"


def test_a_stateful_set_and_a_deployment_of_one_name_are_two_sources(kubectl: Kubectl) -> None:
    kubectl.apply(workload("web", 2), workload("web", 4, kind="StatefulSet"))
    kubectl.apply(memcached("pool", replicasFrom=FOLLOW))
    kubectl.apply(memcached("other", replicasFrom={**FOLLOW, "kind": "StatefulSet"}))
    follows(kubectl, 2)
    follows(kubectl, 4, "other")


def test_a_size_given_by_hand_is_put_back(kubectl: Kubectl) -> None:
    kubectl.apply(workload("web", 3, "pool"), memcached("pool"))
    follows(kubectl, 3)
    for change in (
        partial(kubectl, "scale", "memcached/pool", "--replicas=1"),
        partial(kubectl.patch, "memcached", "pool", {"spec": {"replicas": 0}}),
        partial(kubectl.patch, "memcached", "pool", {"spec": {"replicas": None}}),
    ):
        change()
        follows(kubectl, 3)


def test_a_manifest_without_a_size_is_applied_again_and_again(kubectl: Kubectl, operator: Operator) -> None:
    manifest = memcached("pool", replicasFrom=FOLLOW, image="memcached:1.6.38")
    kubectl.apply(workload("web", 3), manifest)
    follows(kubectl, 3)
    before = settled(kubectl, operator)
    kubectl.apply(manifest)
    assert +(settled(kubectl, operator) - before) == {"APPLY memcacheds": 1}
    kubectl.apply({**manifest, "spec": {**manifest["spec"], "image": "memcached:1.6"}})
    follows(kubectl, 3)


def test_a_manifest_with_a_size_meets_a_conflict_that_names_memop(kubectl: Kubectl) -> None:
    kubectl.apply(workload("web", 3, "pool"), memcached("pool"))
    follows(kubectl, 3)
    body = memcached("pool", replicas=7)
    done = kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body), check=False)
    assert 'conflict with "memop-sync"' in done.stderr
    assert size(kubectl) == 3


# --- Conflicts


def test_two_sources_change_nothing_until_one_is_left(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool", replicas=2), workload("web", 3, "pool"))
    follows(kubectl, 3)
    kubectl.apply(workload("api", 5, "pool"))
    told(kubectl, "ConflictingSources")
    message = condition(kubectl.get("memcached", "pool"), "ReplicasSynced")["message"]
    assert "Deployments api, web" in message
    eventually(partial(assert_event, kubectl, "ConflictingSources", "Deployment", "api", "web"))
    eventually(partial(assert_event, kubectl, "ConflictingSources", "Memcached", "pool"))
    before, version = settled(kubectl, operator), kubectl.get("memcached", "pool")["metadata"]["resourceVersion"]
    for replicas in (1, 4, 6):
        for name in ("api", "web"):
            kubectl("scale", f"deployment/{name}", f"--replicas={replicas}")
    assert +(settled(kubectl, operator) - before) == {"PATCH deployments/scale": 6}
    assert kubectl.get("memcached", "pool")["metadata"]["resourceVersion"] == version
    kubectl("label", "deployment/web", f"{LABEL}-")
    follows(kubectl, 6)


# --- Bounds, and who else decides


@pytest.mark.parametrize(
    ("bounds", "replicas", "expected"), [({"max": 4}, 9, 4), ({"min": 2}, 0, 2), ({}, 100, 64), ({"min": 3}, 3, 3)]
)
def test_sizes_stay_within_bounds(kubectl: Kubectl, bounds: Json, replicas: int, expected: int) -> None:
    kubectl.apply(workload("web", replicas), memcached("pool", replicasFrom={**FOLLOW, **bounds}))
    follows(kubectl, expected, reason="Synced" if replicas == expected else "Clamped")


def test_an_autoscaled_pool_is_left_to_its_autoscaler(kubectl: Kubectl) -> None:
    kubectl.apply(workload("web", 3, "pool"))
    on = {"enabled": True, "maxReplicas": 6}
    kubectl.apply(memcached("pool", autoscaling=on))
    told(kubectl, "Autoscaled")
    kubectl("scale", "deployment/web", "--replicas=5")
    time.sleep(2)
    assert (size(kubectl), synced(kubectl)) == (None, ("False", "Autoscaled"))
    kubectl.apply(memcached("pool", autoscaling={**on, "enabled": False}))
    follows(kubectl, 5)


def test_a_paused_pool_keeps_its_size(kubectl: Kubectl) -> None:
    kubectl.apply(workload("web", 3, "pool"), memcached("pool"))
    follows(kubectl, 3)
    kubectl("annotate", "memcached/pool", "memcached.c5c3.io/paused=true")
    kubectl("scale", "deployment/web", "--replicas=5")
    told(kubectl, "Paused")
    assert size(kubectl) == 3
    kubectl("annotate", "memcached/pool", "memcached.c5c3.io/paused-")
    follows(kubectl, 5)


def test_a_size_that_the_spec_does_not_admit_is_told_and_taken_when_it_does(kubectl: Kubectl) -> None:
    budget = {"podDisruptionBudget": {"enabled": True, "minAvailable": 2}}
    kubectl.apply(workload("web", 3, "pool"), memcached("pool", replicas=3, highAvailability=budget))
    follows(kubectl, 3)
    kubectl("scale", "deployment/web", "--replicas=1")
    told(kubectl, "Rejected")
    cr = kubectl.get("memcached", "pool")
    assert cr["spec"]["replicas"] == 3
    assert "must be less than replicas" in condition(cr, "ReplicasSynced")["message"]
    kubectl.patch("memcached", "pool", {"spec": {"highAvailability": None}})
    follows(kubectl, 1)


# --- Sources come and go


def test_a_source_that_goes_leaves_the_size_and_one_that_comes_back_takes_it(kubectl: Kubectl) -> None:
    kubectl.apply(memcached("pool"), workload("web", 3, "pool"))
    kubectl.apply(memcached("other", replicasFrom=FOLLOW))
    for name in ("pool", "other"):
        follows(kubectl, 3, name)
    kubectl.delete("deployment", "web")
    for name in ("pool", "other"):
        told(kubectl, "SourceNotFound", name)
        assert size(kubectl, name) == 3
    kubectl.apply(workload("web", 4, "pool"))
    for name in ("pool", "other"):
        follows(kubectl, 4, name)


def test_a_label_that_moves_takes_the_size_along(kubectl: Kubectl) -> None:
    kubectl.apply(memcached("pool"), workload("web", 3, "pool"), workload("api", 5))
    follows(kubectl, 3)
    kubectl("label", "deployment/web", f"{LABEL}-")
    told(kubectl, "SourceNotFound")
    kubectl("label", "deployment/api", f"{LABEL}=pool")
    follows(kubectl, 5)


def test_who_stops_following_keeps_the_size_and_has_the_say(kubectl: Kubectl) -> None:
    """The condition goes from the status, and with it memop's claim on it."""
    kubectl.apply(workload("web", 3), memcached("pool", replicasFrom=FOLLOW))
    follows(kubectl, 3)
    kubectl.apply(memcached("pool"))

    def assert_free() -> None:
        cr = kubectl.get("memcached", "pool")
        assert "replicasFrom" not in cr["spec"]
        assert condition(cr, "ReplicasSynced")["reason"] == ""
        assert managers(cr, "f:status", "f:conditions", 'k:{"type":"ReplicasSynced"}') == set()

    eventually(assert_free, timeout=30)
    assert size(kubectl) == 3
    kubectl("scale", "memcached/pool", "--replicas=1")
    kubectl("scale", "deployment/web", "--replicas=5")
    time.sleep(2)
    assert size(kubectl) == 1


def test_pools_that_follow_each_other_stay_as_they_are(kubectl: Kubectl, operator: Operator) -> None:
    for name, replicas in (("one", 2), ("two", 3)):
        kubectl.apply(memcached(name, replicas=replicas))
        eventually(partial(kubectl.get, "deployment", name))
    kubectl("label", "deployment/one", f"{LABEL}=two")
    follows(kubectl, 2, "two")
    kubectl("scale", "deployment/one", "--replicas=2")
    kubectl("label", "deployment/two", f"{LABEL}=one")
    for name in ("one", "two"):
        told(kubectl, "FollowsItself", name)
    settled(kubectl, operator, quiet=5)
    assert (size(kubectl, "one"), size(kubectl, "two")) == (2, 2)


# --- What it costs


def settled(kubectl: Kubectl, operator: Operator, quiet: float = 2.0) -> Counter[str]:
    """The writes so far, events aside, once none came for `quiet` seconds."""

    def assert_idle() -> Counter[str]:
        first = without_events(kubectl)
        time.sleep(quiet)
        assert without_events(kubectl) == first, without_events(kubectl) - first
        return first

    operator.assert_ready()
    return eventually(assert_idle, timeout=60)


def without_events(kubectl: Kubectl) -> Counter[str]:
    return Counter({what: count for what, count in writes(kubectl).items() if "events" not in what})


def reconciles(operator: Operator) -> float:
    return sum(
        float(line.split()[-1])
        for line in operator.metrics().splitlines()
        if line.startswith('controller_runtime_reconcile_total{controller="replica-sync"')
    )


@pytest.fixture
def many(kubectl: Kubectl, operator: Operator) -> Operator:
    """Pools that follow nothing, some that follow a label and some by their spec, all converged."""
    kubectl.apply(*(memcached(f"plain-{number}", replicas=1) for number in range(CRS)))
    kubectl.apply(*(memcached(f"labelled-{number}") for number in range(10)))
    kubectl.apply(*(memcached(f"named-{number}", replicasFrom=FOLLOW) for number in range(10)))
    kubectl.apply(workload("web", 3), *(workload(f"web-{number}", 3, f"labelled-{number}") for number in range(10)))
    for number in range(10):
        follows(kubectl, 3, f"labelled-{number}")
        follows(kubectl, 3, f"named-{number}")
    return operator


def test_who_follows_costs_nothing_once_it_is_so_and_who_does_not_never(kubectl: Kubectl, many: Operator) -> None:
    before, looked = settled(kubectl, many), reconciles(many)
    kubectl("annotate", "memcacheds", "--all", "touched=yes")
    kubectl("annotate", "deployments", "--all", "touched=yes")
    expected = Counter({"PATCH memcacheds": CRS + 20, "PATCH deployments": CRS + 20 + 11})
    assert +(settled(kubectl, many) - before) == expected
    assert reconciles(many) - looked <= 2 * 20
    restarted = settled(kubectl, many)
    many.stop()
    many.start()
    eventually(lambda: assert_looked(many, 20))
    assert +(settled(kubectl, many) - restarted) == {}
    assert reconciles(many) <= 2 * 20


def assert_looked(operator: Operator, least: float) -> None:
    assert reconciles(operator) >= least


# --- What guards the writes


@pytest.mark.parametrize("gone", [True, False])
async def test_a_write_that_carries_an_older_uid_or_version_changes_and_makes_nothing(
    kubectl: Kubectl, client: Client, gone: bool
) -> None:
    made = kubectl.create(memcached("pool", replicas=2))["metadata"]
    if gone:
        kubectl.delete("memcached", "pool")
    else:
        kubectl("scale", "memcached/pool", "--replicas=4")
    seen = {"uid": made["uid"], "resourceVersion": made["resourceVersion"]}
    names = {"name": "pool", "namespace": kubectl.namespace}
    body = {
        "apiVersion": MEMCACHEDS.api_version,
        "kind": "Memcached",
        "metadata": {**names, **seen},
        "spec": {"replicas": 9},
    }
    with pytest.raises(Conflict):
        await client.apply(MEMCACHEDS, Key(kubectl.namespace, "pool"), body, manager="memop-sync")
    found = kubectl.find("memcached", "pool")
    assert found is None if gone else found is not None and found["spec"]["replicas"] == 4


def test_a_size_beside_replicas_from_is_refused_at_creation_and_may_be_written_later(kubectl: Kubectl) -> None:
    both = json.dumps(memcached("pool", replicas=3, replicasFrom=FOLLOW))
    done = kubectl("create", "-f", "-", input=both, check=False)
    assert "replicasFrom decides the number of pods: remove replicas or replicasFrom" in done.stderr
    kubectl.apply(memcached("pool", replicasFrom=FOLLOW))
    kubectl.patch("memcached", "pool", {"spec": {"replicas": 3}})
    assert size(kubectl) == 3
