"""The secure metrics endpoint admits whom the API server admits, and nobody else."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Kubectl
from tests.support.operator import free_port

READER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
}


@pytest.fixture
def reader_role(kubectl: Kubectl) -> Iterator[str]:
    """A ClusterRole that may read /metrics, bound to the ServiceAccount `reader`."""
    name = f"{kubectl.namespace}-reader"
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": kubectl.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    kubectl.apply(
        {**READER, "metadata": {"name": name}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": role,
            "subjects": [subject],
        },
    )
    yield name
    kubectl("delete", "clusterrole,clusterrolebinding", name)


def fetch(port: int, token: str = "") -> tuple[int, str]:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"https://127.0.0.1:{port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=trusting) as answer:  # noqa: S310 - https
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def token(kubectl: Kubectl, account: str) -> str:
    kubectl("create", "serviceaccount", account)
    return kubectl("create", "token", account).stdout.strip()


def test_metrics_are_for_those_whom_rbac_admits(
    kubectl: Kubectl, start_operator: OperatorFactory, reader_role: str
) -> None:
    port = free_port()
    start_operator("--metrics-secure=true", f"--metrics-bind-address=127.0.0.1:{port}")
    assert fetch(port)[0] == 401
    assert fetch(port, "nonsense")[0] == 401
    assert fetch(port, token(kubectl, "stranger"))[0] == 403
    status, text = fetch(port, token(kubectl, "reader"))
    assert status == 200, json.dumps(text)
    assert "controller_runtime_reconcile_total" in text
