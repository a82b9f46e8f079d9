"""Sizes: by the autoscaler and a real load, handed back and forth without a dip, and with names that pods keep."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.cache import addresses, assert_serves, pods, ready_pods
from tests.support.kubectl import Json, Kubectl, eventually, memcached
from tests.support.load import Busy, Watch
from tests.support.operator import Operator


@pytest.fixture(scope="module", autouse=True)
def operator(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """memop for all tests here and all namespaces."""
    with Operator(tmp_path_factory.mktemp("memop") / "memop.log") as running:
        yield running


# So little that one busy cache is worth several: the load takes some ten times as much.
TINY: Json = {"requests": {"cpu": "10m"}}
FOUR_FIFTHS: Json = {"type": "Utilization", "averageUtilization": 80}
CPU: Json = {"type": "Resource", "resource": {"name": "cpu", "target": FOUR_FIFTHS}}
AT_ONCE: Json = {"scaleDown": {"stabilizationWindowSeconds": 0}}


def autoscaled(most: int, **more: Any) -> Json:
    return memcached("pool", resources=TINY, autoscaling={"enabled": True, "maxReplicas": most, **more})


def assert_scaled_by_use(kubectl: Kubectl, size: int) -> None:
    """The autoscaler knows what the pods use, and wants this many."""
    status = kubectl.get("hpa", "pool")["status"]
    assert status["desiredReplicas"] == size, status
    # Until it has its first value there is one metric without a type.
    assert [metric["type"] for metric in status["currentMetrics"]] == ["Resource"], status


def assert_never_below(watch: Watch, since: int, least: int) -> None:
    """Neither what is wanted nor what is ready was ever less."""
    sizes = [(body["spec"]["replicas"], body["status"].get("readyReplicas", 0)) for _, body in watch.seen[since:]]
    assert sizes
    assert all(wanted >= least and ready >= least for wanted, ready in sizes), sizes


def test_a_pool_follows_its_load_and_changes_hands_without_a_dip(kubectl: Kubectl) -> None:
    kubectl.apply(autoscaled(3, metrics=[CPU], behavior=AT_ONCE))
    [first] = ready_pods(kubectl, "pool", 1)
    with Watch(kubectl, "deployments") as watch:
        with Busy(first["status"]["podIP"]):
            for address in addresses(ready_pods(kubectl, "pool", 3)):
                assert_serves(address)
            eventually(partial(assert_scaled_by_use, kubectl, 3))
            given = kubectl.get("hpa", "pool")["spec"]
            assert (given["metrics"], given["behavior"]["scaleDown"]["stabilizationWindowSeconds"]) == ([CPU], 0)

            grown = len(watch.seen)
            kubectl.apply(memcached("pool", resources=TINY, replicas=5))
            ready_pods(kubectl, "pool", 5)
            assert kubectl.find("hpa", "pool") is None
            assert_never_below(watch, grown, 3)

            full = len(watch.seen)
            kubectl.apply(autoscaled(6))
            eventually(partial(assert_scaled_by_use, kubectl, 6), timeout=90)
            assert_defaults(kubectl.get("hpa", "pool")["spec"])
            assert_never_below(watch, full, 5)

        kubectl.apply(memcached("pool", resources=TINY, replicas=4))
        for address in addresses(ready_pods(kubectl, "pool", 4)):
            assert_serves(address)
        assert_never_below(watch, full, 4)


def assert_defaults(given: Json) -> None:
    """Idle pods are kept for five minutes, and four fifths of the request is what they are to use."""
    assert given["metrics"] == [CPU]
    assert given["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def resolve(kubectl: Kubectl, pod: str, name: str) -> set[str]:
    """What the cluster's DNS tells a pod about a name; nothing where it does not know it."""
    done = kubectl("exec", pod, "--", "getent", "ahostsv4", name, check=False)
    return {line.split()[0] for line in done.stdout.splitlines()}


def names(kubectl: Kubectl, count: int) -> list[str]:
    return [f"pool-{number}.pool.{kubectl.namespace}" for number in range(count)]


def assert_named(kubectl: Kubectl, count: int) -> None:
    """Each pod serves under its own name, and the status lists these names."""
    found = pods(kubectl, "pool")
    assert {pod["metadata"]["name"] for pod in found} == {f"pool-{number}" for number in range(count)}
    for pod in found:
        name = f"{pod['metadata']['name']}.pool.{kubectl.namespace}"
        assert resolve(kubectl, "pool-0", name) == {pod["status"]["podIP"]}, name
        assert_serves(pod["status"]["podIP"])
    servers = kubectl.get("memcached", "pool")["status"].get("serverList")
    assert servers == [f"{name}:11211" for name in names(kubectl, count)]


def test_stable_pods_keep_their_names_whatever_happens_to_them(kubectl: Kubectl) -> None:
    kubectl.apply(memcached("pool", podIdentity="Stable", replicas=2))
    before = {pod["metadata"]["name"]: pod for pod in ready_pods(kubectl, "pool", 2)}
    eventually(partial(assert_named, kubectl, 2))
    assert kubectl.find("deployment", "pool") is None

    kubectl("delete", "pod", "pool-1", "--wait=false")
    kubectl("scale", "memcached/pool", "--replicas=3")
    after = {pod["metadata"]["name"]: pod for pod in ready_pods(kubectl, "pool", 3)}
    eventually(partial(assert_named, kubectl, 3))
    assert after["pool-0"]["metadata"]["uid"] == before["pool-0"]["metadata"]["uid"]
    assert after["pool-1"]["status"]["podIP"] != before["pool-1"]["status"]["podIP"]

    kubectl("scale", "memcached/pool", "--replicas=1")
    [kept] = ready_pods(kubectl, "pool", 1)
    assert kept["metadata"]["uid"] == before["pool-0"]["metadata"]["uid"]
    eventually(partial(assert_named, kubectl, 1))
    assert resolve(kubectl, "pool-0", names(kubectl, 3)[2]) == set()

    kubectl("scale", "memcached/pool", "--replicas=0")
    ready_pods(kubectl, "pool", 0)
    eventually(partial(assert_empty, kubectl))


def assert_empty(kubectl: Kubectl) -> None:
    status = kubectl.get("memcached", "pool")["status"]
    assert (status["replicas"], status["readyReplicas"], "serverList" in status) == (0, 0, False)
