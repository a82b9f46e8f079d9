"""A live pool of the Go operator is taken over: what it set and memop does not want goes, by one rollout."""

import copy
import json
from typing import Any

from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached

LABELS = {
    "app.kubernetes.io/name": "memcached",
    "app.kubernetes.io/instance": "pool",
    "app.kubernetes.io/managed-by": "memcached-operator",
}
GO = "manager"  # controller-runtime's field manager: the name of the binary


def written_by_go(kubectl: Kubectl, body: Json, owner: Json) -> None:
    metadata = {"name": "pool", "labels": LABELS, "ownerReferences": [owner], **body.get("metadata", {})}
    sent = json.dumps({**body, "metadata": metadata})
    kubectl("create", f"--field-manager={GO}", "-f", "-", input=sent)


def go_pool(kubectl: Kubectl, **spec: Any) -> None:
    """The CR and its children as the Go operator leaves them: all by updates, with what memop does not set."""
    kubectl.apply(memcached("pool", **spec))
    uid = kubectl.get("memcached", "pool")["metadata"]["uid"]
    owner = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": "pool", "uid": uid}
    owner |= {"controller": True, "blockOwnerDeletion": True}
    container = {
        "name": "memcached",
        "image": "memcached:1.6",
        "args": ["-m", "64", "-c", "1024", "-t", "4", "-I", "1m"],
        "env": [{"name": "SET_BY", "value": "go"}],
        "ports": [{"name": "memcached", "containerPort": 11211}, {"name": "odd", "containerPort": 4711}],
    }
    pod = {"containers": [container, {"name": "left-over", "image": "busybox"}], "nodeSelector": {"a": "b"}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "replicas": 5,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS, "annotations": {"go": "yes"}}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"annotations": {"go": "yes"}},
        "spec": {
            "clusterIP": "None",
            "selector": {**LABELS, "odd": "go"},
            "ports": [{"name": "memcached", "port": 11211}, {"name": "odd", "port": 4711}],
        },
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}},
    }
    for body in (deployment, service, budget):
        written_by_go(kubectl, body, owner)
    kubectl("annotate", "deployment", "pool", "user=keeps-it", "--field-manager=kubectl-annotate")
    told = {
        "conditions": [
            {
                "type": type_,
                "status": "True",
                "reason": "Go",
                "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for type_ in ("Available", "OnlyGoKnows")
        ],
        "serverList": ["go:11211"],
    }
    sent = json.dumps({"status": told})
    kubectl("patch", "memcached", "pool", "--subresource=status", "--type=merge", f"--field-manager={GO}", "-p", sent)


def assert_taken_over(kubectl: Kubectl, replicas: int) -> Json:
    cr = kubectl.get("memcached", "pool")
    assert cr["status"].get("observedGeneration") == cr["metadata"]["generation"]
    assert {c["type"] for c in cr["status"]["conditions"]} == {"Available", "Progressing", "Degraded", "Ready"}
    assert "serverList" not in cr["status"]
    deployment = kubectl.get("deployment", "pool")
    assert deployment["spec"]["replicas"] == replicas
    assert deployment["metadata"]["annotations"]["user"] == "keeps-it"
    template = deployment["spec"]["template"]
    assert "annotations" not in template["metadata"]
    assert "nodeSelector" not in template["spec"]
    [container] = template["spec"]["containers"]
    assert "env" not in container
    assert [port["name"] for port in container["ports"]] == ["memcached"]
    service = kubectl.get("service", "pool")
    assert [port["name"] for port in service["spec"]["ports"]] == ["memcached"]
    assert (service["spec"]["selector"], service["metadata"].get("annotations")) == (LABELS, None)
    assert kubectl.find("poddisruptionbudget", "pool") is None
    for found in (cr, deployment, service):
        assert GO not in {entry["manager"] for entry in found["metadata"]["managedFields"]}
    return deployment


def test_a_pool_of_the_go_operator_is_taken_over_by_one_rollout(
    kubectl: Kubectl, start_operator: OperatorFactory
) -> None:
    go_pool(kubectl, replicas=5)
    generation = kubectl.get("deployment", "pool")["metadata"]["generation"]
    operator = start_operator()
    deployment = eventually(lambda: assert_taken_over(kubectl, 5))
    # A Deployment's generation counts the changes of its spec: all of them came at once, so pods roll once.
    assert deployment["metadata"]["generation"] == generation + 1
    before = copy.deepcopy(deployment)
    operator.stop()
    operator.start()
    eventually(lambda: assert_taken_over(kubectl, 5))
    assert kubectl.get("deployment", "pool")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_pool_that_an_autoscaler_sized_keeps_its_size(kubectl: Kubectl, start_operator: OperatorFactory) -> None:
    go_pool(kubectl, autoscaling={"enabled": True, "maxReplicas": 9})
    generation = kubectl.get("deployment", "pool")["metadata"]["generation"]
    start_operator()
    deployment = eventually(lambda: assert_taken_over(kubectl, 5))
    assert deployment["metadata"]["generation"] == generation + 1
    scaler = kubectl.get("hpa", "pool")
    assert scaler["spec"]["scaleTargetRef"]["name"] == "pool"


def test_the_size_goes_to_the_autoscaler_and_back_without_a_dip(
    kubectl: Kubectl, start_operator: OperatorFactory
) -> None:
    """No autoscaler runs here: `kubectl scale` does what it would do."""
    start_operator()
    kubectl.apply(memcached("pool", replicas=5))

    def assert_size(count: int) -> Json:
        deployment = kubectl.get("deployment", "pool")
        assert deployment["spec"]["replicas"] == count
        cr = kubectl.get("memcached", "pool")
        assert cr.get("status", {}).get("observedGeneration") == cr["metadata"]["generation"]
        return deployment

    made = eventually(lambda: assert_size(5))
    kubectl.apply(memcached("pool", autoscaling={"enabled": True, "maxReplicas": 9}))
    eventually(lambda: kubectl.get("hpa", "pool"))
    given = eventually(lambda: assert_size(5))
    assert given["metadata"]["generation"] == made["metadata"]["generation"], "the size was changed on the way"
    kubectl("scale", "deployment", "pool", "--replicas=7")
    eventually(lambda: assert_size(7))
    kubectl("annotate", "memcached", "pool", "memcached.c5c3.io/restart-trigger=1")

    def assert_restarted() -> None:
        found = assert_size(7)
        assert found["spec"]["template"]["metadata"]["annotations"]["memcached.c5c3.io/restart-trigger"] == "1"

    eventually(assert_restarted)
    kubectl.apply(memcached("pool", replicas=6))
    eventually(lambda: assert_size(6))
    assert kubectl.find("hpa", "pool") is None
    kubectl("scale", "deployment", "pool", "--replicas=2")
    eventually(lambda: assert_size(6))
    assert condition(kubectl.get("memcached", "pool"), "Degraded")["reason"] != "InvalidSpec"


def test_an_autoscaler_gets_a_pool_that_it_can_scale(kubectl: Kubectl, start_operator: OperatorFactory) -> None:
    """It makes nothing of a target of zero."""
    start_operator()
    kubectl.apply(memcached("pool", replicas=0))

    def assert_size(count: int) -> None:
        assert kubectl.get("deployment", "pool")["spec"]["replicas"] == count

    eventually(lambda: assert_size(0))
    kubectl.apply(memcached("pool", autoscaling={"enabled": True, "minReplicas": 2, "maxReplicas": 3}))
    eventually(lambda: assert_size(1))
