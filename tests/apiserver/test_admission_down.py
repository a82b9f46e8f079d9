"""Admission never binds the operator: with the webhooks installed and nobody behind them, memop does its work."""

import json
from pathlib import Path

from tests.apiserver.test_admission import configurations, memcached
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import free_port
from tests.support.service_account import kubeconfig


def user(kubectl: Kubectl, name: str, body: Json) -> str:
    """What a user is told who changes a spec; empty when nothing."""
    return kubectl("patch", "mc", name, "--type=merge", "-p", json.dumps({"spec": body}), check=False).stderr


def test_memop_reconciles_while_its_webhooks_are_down(
    kubectl: Kubectl, start_operator: OperatorFactory, tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", "memop")
    config = kubeconfig(tmp_path, "memop", kubectl.namespace)
    account = f"{kubectl.namespace}:memop"
    kubectl("create", "rolebinding", "memop", "--clusterrole=cluster-admin", f"--serviceaccount={account}")
    kubectl.apply(memcached("pool", replicas=1))
    start_operator(f"--kubeconfig={config}")

    def assert_served(uid: str = "", replicas: int = 1) -> str:
        cr, workload = kubectl.get("mc", "pool"), kubectl.get("deployment", "pool")
        assert workload["metadata"]["uid"] != uid
        assert workload["spec"]["replicas"] == replicas
        assert cr["status"]["observedGeneration"] == cr["metadata"]["generation"]
        return str(workload["metadata"]["uid"])

    first = eventually(assert_served, timeout=20)
    with configurations(kubectl, free_port()):
        eventually(lambda: assert_refused(user(kubectl, "pool", {"replicas": 3})), timeout=10)
        refused = kubectl("create", "-f", "-", input=json.dumps(memcached("other")), check=False).stderr
        assert_refused(refused)

        kubectl.delete("deployment", "pool")
        second = eventually(lambda: assert_served(first), timeout=20)
        kubectl("scale", "mc/pool", "--replicas=2")
        eventually(lambda: assert_served(replicas=2), timeout=20)
        # memop itself may write even the spec.
        own = kubectl(
            *("--kubeconfig", str(config), "patch", "mc", "pool", "--type=merge", "-p", '{"spec":{"replicas":3}}')
        )
        assert own.returncode == 0
        assert eventually(lambda: assert_served(replicas=3), timeout=20) == second
        assert_refused(user(kubectl, "pool", {"replicas": 4}))


def assert_refused(told: str) -> None:
    """The API server says who did not answer, and why."""
    assert 'failed calling webhook "mutate.memcached.c5c3.io"' in told
    assert "connection refused" in told
