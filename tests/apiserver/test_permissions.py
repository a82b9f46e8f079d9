"""memop with fewer rights than it asks for: what it may serve, it serves."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, eventually, memcached

ROLE = "memop"
CHILD = ["get", "list", "watch", "patch", "create", "delete"]
OWN = ["memcached.c5c3.io", "ianlewis.org", "mcrouter.example.com", "example.memshack.com"]
RULES = [
    {"apiGroups": ["memcached.c5c3.io"], "resources": ["memcacheds", "memcachedclusters"], "verbs": CHILD},
    {"apiGroups": OWN, "resources": ["*/status"], "verbs": ["patch"]},
    {"apiGroups": OWN, "resources": ["*/finalizers"], "verbs": ["update"]},
    {"apiGroups": OWN[1:], "resources": ["*"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": CHILD},
    {"apiGroups": [""], "resources": ["services", "configmaps"], "verbs": CHILD},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": CHILD},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": CHILD},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": CHILD},
    {"apiGroups": ["monitoring.coreos.com"], "resources": ["servicemonitors"], "verbs": CHILD},
    {"apiGroups": ["cert-manager.io"], "resources": ["certificates"], "verbs": CHILD},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
]
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
        "rules": RULES,
    }


def binding(account_namespace: str) -> Json:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": ROLE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLE},
        "subjects": [{"kind": "ServiceAccount", "name": ROLE, "namespace": account_namespace}],
    }


def kubeconfig(kubectl: Kubectl, path: Path) -> Path:
    """A kubeconfig for the cluster of $KUBECONFIG and the ServiceAccount that memop is to be."""
    kubectl("create", "serviceaccount", ROLE)
    token = kubectl("create", "token", ROLE).stdout.strip()
    admin = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json").stdout)
    [cluster] = admin["clusters"]
    relative = cluster["cluster"].get("certificate-authority")
    if relative:
        cluster["cluster"]["certificate-authority"] = str(Path(os.environ["KUBECONFIG"]).parent / relative)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": ROLE,
        "clusters": [cluster],
        "users": [{"name": ROLE, "user": {"token": token}}],
        "contexts": [{"name": ROLE, "context": {"cluster": cluster["name"], "user": ROLE}}],
    }
    path.write_text(json.dumps(config))
    return path


def assert_made(kubectl: Kubectl) -> None:
    assert kubectl.find("deployment", "pool") is not None, "no Deployment yet"
    assert kubectl.find("service", "pool") is not None, "no Service yet"


def test_a_namespace_without_rights_keeps_no_other_from_being_served(
    kubectl: Kubectl, other: Kubectl, start_operator: OperatorFactory, tmp_path: Path
) -> None:
    config = kubeconfig(kubectl, tmp_path / "kubeconfig")
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
