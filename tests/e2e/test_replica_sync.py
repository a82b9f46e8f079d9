"""Replica sync on real pods: what gives a pool its size, what happens when it goes, and what memop leaves alone."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.apiserver.test_sync import LABEL, assert_event, follows, size, told, workload
from tests.support.apiserver import writes
from tests.support.cache import addresses, assert_serves, ready_pods
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.load import Watch
from tests.support.operator import Operator

FOLLOW: Json = {"kind": "Deployment", "name": "web"}
CONFLICT_SECONDS = 60


@pytest.fixture(scope="module", autouse=True)
def operator(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """memop for all tests here and all namespaces."""
    with Operator(tmp_path_factory.mktemp("memop") / "memop.log") as running:
        yield running


def scale(kubectl: Kubectl, replicas: int, what: str = "deployment/web") -> None:
    kubectl("scale", what, f"--replicas={replicas}")


def runs(kubectl: Kubectl, replicas: int, name: str = "pool", reason: str = "Synced") -> None:
    """The pool follows, and has so many pods that serve."""
    follows(kubectl, replicas, name, reason)
    for address in addresses(ready_pods(kubectl, name, replicas)):
        assert_serves(address)


def pool(by: str, name: str = "pool", **spec: Any) -> Json:
    """One that follows Deployment web by its label or by its own spec."""
    return memcached(name, **({} if by == "label" else {"replicasFrom": FOLLOW}), **spec)


def web(replicas: int, by: str = "label", name: str = "web") -> Json:
    return workload(name, replicas, "pool" if by == "label" else "")


both = pytest.mark.parametrize("by", ["label", "replicasFrom"])


@both
def test_a_pool_is_of_its_sources_size_and_put_back_to_it(kubectl: Kubectl, by: str) -> None:
    kubectl.apply(web(2, by), pool(by))
    runs(kubectl, 2)
    scale(kubectl, 3)
    runs(kubectl, 3)
    with Watch(kubectl, "deployments", "-l", "app.kubernetes.io/instance=pool") as watch:
        eventually(lambda: assert_seen(watch))
        for drift in (1, 5):
            scale(kubectl, drift, "memcached/pool")
            follows(kubectl, 3)
            ready_pods(kubectl, "pool", 3)
    scale(kubectl, 0)
    runs(kubectl, 0)
    scale(kubectl, 1)
    runs(kubectl, 1)


def assert_seen(watch: Watch) -> None:
    assert watch.seen


def test_a_pool_of_five_begins_to_follow_without_a_dip(kubectl: Kubectl) -> None:
    kubectl.apply(web(5, "replicasFrom"), memcached("pool", replicas=5))
    ready_pods(kubectl, "pool", 5)
    with Watch(kubectl, "deployments", "-l", "app.kubernetes.io/instance=pool") as watch:
        eventually(lambda: assert_seen(watch))
        kubectl.apply(pool("replicasFrom"))
        runs(kubectl, 5)
        scale(kubectl, 6)
        runs(kubectl, 6)
        kubectl.apply(memcached("pool"))  # and ends to follow: nobody gives it a size now, and it keeps its own
        eventually(partial(assert_says, kubectl, ""))
        scale(kubectl, 2)
        time.sleep(5)
        assert size(kubectl) == 6
    sizes = [(body["spec"]["replicas"], body["status"].get("readyReplicas", 0)) for _, body in watch.seen]
    assert all(wanted >= 5 and ready >= 5 for wanted, ready in sizes), sizes


def assert_says(kubectl: Kubectl, reason: str) -> None:
    cr = kubectl.get("memcached", "pool")
    assert condition(cr, "ReplicasSynced")["reason"] == reason


def test_two_sources_are_told_of_and_nothing_is_written_for_a_minute(kubectl: Kubectl) -> None:
    kubectl.apply(web(2), memcached("pool"))
    runs(kubectl, 2)
    kubectl.apply(web(4, name="api"))
    told(kubectl, "ConflictingSources")
    cr = kubectl.get("memcached", "pool")
    assert "Deployments api, web" in condition(cr, "ReplicasSynced")["message"]
    eventually(partial(assert_event, kubectl, "ConflictingSources", "Deployment", "api", "web"))
    eventually(partial(assert_event, kubectl, "ConflictingSources", "Memcached", "pool"))

    before, ends, scaled = of_memcacheds(kubectl), time.monotonic() + CONFLICT_SECONDS, 0
    while time.monotonic() < ends:
        scaled += 1
        scale(kubectl, scaled % 3, "deployment/web")
        scale(kubectl, scaled % 2 + 1, "deployment/api")
        time.sleep(3)
    assert scaled > 10
    assert of_memcacheds(kubectl) == before
    after = kubectl.get("memcached", "pool")
    assert after["metadata"]["resourceVersion"] == cr["metadata"]["resourceVersion"]
    ready_pods(kubectl, "pool", 2)
    counts = [e.get("series", {}).get("count", 1) for e in events(kubectl, "ConflictingSources")]
    assert counts == [1, 1, 1]

    scale(kubectl, 3, "deployment/api")
    kubectl("label", "deployment/web", f"{LABEL}-")
    runs(kubectl, 3)


def of_memcacheds(kubectl: Kubectl) -> Counter[str]:
    """The API server's count of writes to pools, whoever's."""
    return Counter({what: count for what, count in writes(kubectl).items() if "memcacheds" in what})


def events(kubectl: Kubectl, reason: str) -> list[Json]:
    return [event for event in kubectl.list("events.events.k8s.io") if event["reason"] == reason]


def test_sizes_stay_within_the_bounds_of_the_spec(kubectl: Kubectl) -> None:
    kubectl.apply(web(0, "replicasFrom"), memcached("pool", replicasFrom={**FOLLOW, "min": 1, "max": 3}))
    runs(kubectl, 1, reason="Clamped")
    scale(kubectl, 2)
    runs(kubectl, 2)
    scale(kubectl, 5)
    runs(kubectl, 3, reason="Clamped")
    message = condition(kubectl.get("memcached", "pool"), "ReplicasSynced")["message"]
    assert message == "3 pods, as 1 to 3 are allowed; Deployment web has 5 replicas"


def test_the_pools_own_autoscaler_wins(kubectl: Kubectl) -> None:
    kubectl.apply(web(1), memcached("pool"))
    runs(kubectl, 1)
    kubectl.patch("memcached", "pool", {"spec": {"replicas": None, "autoscaling": autoscaling(2, 3)}})
    told(kubectl, "Autoscaled")
    ready_pods(kubectl, "pool", 2)
    scale(kubectl, 4)
    time.sleep(5)
    assert kubectl.get("deployment", "pool")["spec"]["replicas"] == 2
    assert size(kubectl) is None
    kubectl.patch("memcached", "pool", {"spec": {"autoscaling": None}})
    runs(kubectl, 4)


def autoscaling(least: int, most: int) -> Json:
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "10"}}}
    return {"enabled": True, "minReplicas": least, "maxReplicas": most, "metrics": [cpu]}


def test_an_autoscaled_source_is_followed(kubectl: Kubectl) -> None:
    """An autoscaler keeps its bounds whatever the load is, and that is all that is asked of it here."""
    kubectl.apply(web(1), memcached("pool"))
    runs(kubectl, 1)
    asked: Json = {name: value for name, value in autoscaling(3, 4).items() if name != "enabled"}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    scaler: Json = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": {**asked, "scaleTargetRef": target},
    }
    kubectl.apply(scaler)
    runs(kubectl, 3)
    kubectl.apply({**scaler, "spec": {**scaler["spec"], "minReplicas": 1, "maxReplicas": 2}})
    runs(kubectl, 2)


@both
def test_without_its_source_the_size_stays_until_it_is_back(kubectl: Kubectl, by: str) -> None:
    kubectl.apply(web(2, by), pool(by))
    runs(kubectl, 2)
    kubectl.delete("deployment", "web")
    told(kubectl, "SourceNotFound")
    eventually(partial(assert_event, kubectl, "SourceNotFound", "Memcached", "pool"))
    assert len(ready_pods(kubectl, "pool", 2)) == size(kubectl) == 2
    kubectl.apply(web(3, by))
    runs(kubectl, 3)


@both
def test_a_source_that_changes_or_goes_while_memop_is_away_is_noticed(
    kubectl: Kubectl, operator: Operator, by: str
) -> None:
    kubectl.apply(web(1, by), pool(by))
    runs(kubectl, 1)
    away(operator, partial(scale, kubectl, 2))
    runs(kubectl, 2)
    away(operator, partial(kubectl.delete, "deployment", "web"))
    told(kubectl, "SourceNotFound")
    assert len(ready_pods(kubectl, "pool", 2)) == size(kubectl) == 2


def away(operator: Operator, meanwhile: Callable[[], object]) -> None:
    operator.stop()
    try:
        meanwhile()
    finally:
        operator.start()


def test_a_label_that_moves_takes_the_size_along(kubectl: Kubectl) -> None:
    kubectl.apply(memcached("pool"), memcached("other", replicas=1), web(2), workload("api", 3))
    runs(kubectl, 2)
    kubectl("label", "deployment/web", f"{LABEL}-")
    told(kubectl, "SourceNotFound")
    kubectl("label", "deployment/api", f"{LABEL}=pool")
    runs(kubectl, 3)
    kubectl("label", "deployment/web", f"{LABEL}=other")
    runs(kubectl, 2, "other")


def test_a_stable_pool_follows_a_stateful_set(kubectl: Kubectl) -> None:
    kubectl.apply(workload("web", 2, kind="StatefulSet"))
    kubectl.apply(memcached("pool", podIdentity="Stable", replicasFrom={**FOLLOW, "kind": "StatefulSet"}))
    runs(kubectl, 2)
    scale(kubectl, 3, "statefulset/web")
    runs(kubectl, 3)
    servers = [f"pool-{number}.pool.{kubectl.namespace}:11211" for number in range(3)]
    eventually(lambda: assert_listed(kubectl, servers))


def assert_listed(kubectl: Kubectl, servers: list[str]) -> None:
    assert kubectl.get("memcached", "pool")["status"].get("serverList") == servers


def test_a_pool_follows_another_and_neither_when_they_follow_each_other(kubectl: Kubectl) -> None:
    kubectl.apply(memcached("first", replicas=2))
    kubectl.apply(memcached("pool", replicasFrom={**FOLLOW, "name": "first"}))
    runs(kubectl, 2)
    scale(kubectl, 1, "memcached/first")
    runs(kubectl, 1)
    kubectl("label", "deployment/pool", f"{LABEL}=first")
    for name in ("first", "pool"):
        told(kubectl, "FollowsItself", name)
    before = of_memcacheds(kubectl)
    scale(kubectl, 2, "memcached/first")
    ready_pods(kubectl, "first", 2)
    time.sleep(5)
    assert (size(kubectl, "first"), size(kubectl)) == (2, 1)
    assert (of_memcacheds(kubectl) - before)["APPLY memcacheds"] == 0
