"""memop with fewer rights than it asks for: what it may serve, it serves."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from memop import rights
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, eventually, memcached
from tests.support.service_account import kubeconfig

ROLE = "memop"
RETRY = 30.0  # seconds between two lists that are refused, at most


@pytest.fixture
def other(crds: None) -> Iterator[Kubectl]:
    """kubectl in a second namespace."""
    other = Kubectl(f"t-{uuid.uuid4().hex[:8]}")
    other("create", "namespace", other.namespace)
    yield other
    other("delete", "memcacheds", "--all", "--wait=false")
    other("delete", "namespace", other.namespace, "--wait=false")


def role() -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": ROLE},
        "rules": rights.served(),
    }


def binding(account_namespace: str) -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": ROLE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": ROLE, "namespace": account_namespace}],
    }


def assert_made(kubectl: Kubectl) -> None:
    assert kubectl.find("deployment", "pool") is not None, "no Deployment yet"
    assert kubectl.find("service", "pool") is not None, "no Service yet"


def test_a_namespace_without_rights_keeps_no_other_from_being_served(
    kubectl: Kubectl, other: Kubectl, start_operator: OperatorFactory, tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", ROLE)
    config = kubeconfig(tmp_path, ROLE, kubectl.namespace)
    kubectl.apply(role(), binding(kubectl.namespace), memcached("pool"))
    other.apply(role(), memcached("pool"))
    operator = start_operator(
        f"--kubeconfig={config}", f"--watch-namespaces={kubectl.namespace},{other.namespace}", all_namespaces=True
    )
    eventually(lambda: assert_made(kubectl), timeout=15)
    code, told = operator.probe("readyz?verbose")
    assert code == 200, told
    assert f"in namespace {other.namespace} since" in told
    assert "Forbidden" in told
    assert f"in namespace {kubectl.namespace}" not in told
    assert other.find("deployment", "pool") is None

    other.apply(binding(kubectl.namespace))
    eventually(lambda: assert_made(other), timeout=RETRY + 15)
    eventually(lambda: assert_silent(operator.probe("readyz?verbose")[1]), timeout=RETRY + 15)


def assert_silent(told: str) -> None:
    assert "since" not in told
