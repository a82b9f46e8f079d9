"""What memop asks of a real API server when the cluster is not as it hopes."""

import json

import pytest

from tests.support.fixtures import CRD, OperatorFactory
from tests.support.kubectl import Kubectl, condition, eventually, memcached
from tests.support.operator import Operator


def assert_made(kubectl: Kubectl, name: str = "pool") -> None:
    assert kubectl.find("deployment", name) is not None, "no Deployment yet"
    assert kubectl.find("service", name) is not None, "no Service yet"


def test_restored_objects_of_a_cr_that_is_gone_are_adopted(kubectl: Kubectl, operator: Operator) -> None:
    """After a restore from a backup children refer to the CR by the uid it had before."""
    kubectl.apply(memcached("pool"))
    eventually(lambda: assert_made(kubectl))
    operator.stop()
    stale = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": "pool", "controller": True}
    owners = {"metadata": {"ownerReferences": [{**stale, "uid": "00000000-1111-2222-3333-444444444444"}]}}
    for kind in ("deployment", "service"):
        kubectl.patch(kind, "pool", owners)
    operator.start()
    uid = kubectl.get("memcached", "pool")["metadata"]["uid"]

    def assert_adopted() -> None:
        for kind in ("deployment", "service"):
            assert [o["uid"] for o in kubectl.get(kind, "pool")["metadata"]["ownerReferences"]] == [uid]

    eventually(assert_adopted)


@pytest.mark.parametrize("kind", ["Memcached", "MemcachedCluster"])
def test_an_object_of_another_owner_is_never_taken_even_with_our_labels(
    kubectl: Kubectl, kind: str, operator: Operator
) -> None:
    labels = {
        "app.kubernetes.io/name": "memcached",
        "app.kubernetes.io/instance": "pool",
        "app.kubernetes.io/managed-by": "memcached-operator",
    }
    owner = {"apiVersion": "example.com/v1", "kind": kind, "name": "pool", "uid": "x", "controller": True}
    kubectl.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "pool", "labels": labels, "ownerReferences": [owner]},
            "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}},
        }
    )
    before = kubectl.get("service", "pool")
    kubectl.apply(memcached("pool"))

    def assert_reported() -> None:
        degraded = condition(kubectl.get("memcached", "pool"), "Degraded")
        assert degraded["reason"] == "ObjectConflict", degraded
        assert f"controlled by {kind} pool" in degraded["message"]

    eventually(assert_reported)
    assert kubectl.find("deployment", "pool") is not None
    assert kubectl.get("service", "pool") == before


def test_a_crd_that_comes_late_is_served_without_a_restart(kubectl: Kubectl, start_operator: OperatorFactory) -> None:
    crd = json.loads(kubectl("get", "crd", CRD, "-o", "json").stdout)
    kubectl("delete", "crd", CRD)
    try:
        operator = start_operator()  # ready all the same
        eventually(lambda: assert_informs(operator, "NotFound"))
        kubectl.apply({**crd, "metadata": {"name": CRD}, "status": None})
        eventually(lambda: kubectl.apply(memcached("pool")))
        eventually(lambda: assert_made(kubectl), timeout=90)
        eventually(lambda: assert_silent(operator))
    finally:
        if kubectl("get", "crd", CRD, check=False).returncode:
            kubectl.apply({**crd, "metadata": {"name": CRD}, "status": None})


def assert_informs(operator: Operator, text: str) -> None:
    assert text in operator.probe("readyz?verbose")[1]


def assert_silent(operator: Operator) -> None:
    assert "since" not in operator.probe("readyz?verbose")[1]


def test_a_cr_recreated_under_its_name_gets_children_of_its_own(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool", replicas=1))
    eventually(lambda: assert_made(kubectl))
    kubectl.delete("memcached", "pool")
    kubectl.apply(memcached("pool", replicas=3))
    uid = kubectl.get("memcached", "pool")["metadata"]["uid"]

    def assert_ours() -> None:
        deployment = kubectl.get("deployment", "pool")
        assert [owner["uid"] for owner in deployment["metadata"]["ownerReferences"]] == [uid]
        assert deployment["spec"]["replicas"] == 3

    eventually(assert_ours)


def test_an_unusable_kubeconfig_is_named(kubectl: Kubectl, start_operator: OperatorFactory) -> None:
    operator = start_operator("--kubeconfig=/nonexistent/config", ready=False)

    def assert_ended() -> None:
        assert operator.poll() == 2

    eventually(assert_ended)
    assert "/nonexistent/config" in operator.log_path.read_text()
