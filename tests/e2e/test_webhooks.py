"""Admission on a whole cluster: the shipped manifests, the Service and its certificate among them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cache import addresses, assert_serves, ready_pods
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, eventually, memcached
from tests.support.operator import Operator, free_port

MANIFESTS = Path(__file__).parents[2] / "manifests/webhook"
NAME = "memop-webhook"
NODE = "198.18.0.1"  # where the API server, and so the Service, reaches a program of the test


def shipped(file: str, kubectl: Kubectl) -> Json:
    """memop judges the test's namespace alone."""
    body: Json = yaml.safe_load((MANIFESTS / file).read_text(encoding="utf-8"))
    for webhook in body.get("webhooks", ()):
        webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": kubectl.namespace}}
    return body


@pytest.fixture
def webhooks(kubectl: Kubectl, start_operator: OperatorFactory) -> Iterator[Operator]:
    """memop behind the shipped Service, which selects no pod here and so is told where memop is."""
    port, home = free_port(), Kubectl("memop-system")
    service = shipped("service.yaml", kubectl)
    del service["spec"]["selector"]
    service["spec"]["ports"][0]["targetPort"] = port
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "ports": [{"name": "webhook", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [NODE], "conditions": {"ready": True}}],
    }
    configurations = [shipped(file, kubectl) for file in ("mutating.yaml", "validating.yaml")]
    try:
        home.apply(service, endpoints, *configurations)
        operator = start_operator("--enable-webhooks", f"--webhook-port={port}")
        eventually(lambda: assert_asked(kubectl), timeout=60)
        yield operator
    finally:
        for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration", "service", "endpointslice"):
            home("delete", kind, NAME, "--ignore-not-found")
        home("delete", "secret", f"{NAME}-cert", "--ignore-not-found")


def assert_asked(kubectl: Kubectl) -> None:
    """Admission is up once a default comes back."""
    answer = kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(memcached("probe")))
    assert json.loads(answer.stdout)["spec"]["memcached"]["threads"] == 4


def test_webhook_rejection_leaves_everything_as_it_is(kubectl: Kubectl, webhooks: Operator) -> None:
    greedy = {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}
    bad = memcached("bad", memcached={"extraArgs": ["-p", "1"]}, resources=greedy)
    refused = kubectl("create", "-f", "-", input=json.dumps(bad), check=False)
    assert refused.returncode
    assert "spec.memcached.extraArgs" in refused.stderr
    assert "spec.resources.requests.cpu" in refused.stderr
    assert kubectl.find("memcached", "bad") is None

    stuck = {"podDisruptionBudget": {"enabled": True, "maxUnavailable": 0}}
    created = kubectl("create", "-f", "-", input=json.dumps(memcached("pool", highAvailability=stuck)))
    assert "Warning" in created.stderr
    stored = kubectl.get("memcached", "pool")["spec"]
    assert (stored["replicas"], stored["memcached"]["maxMemoryMB"]) == (1, 64)
    pods = ready_pods(kubectl, "pool", 1)
    with pytest.raises(AssertionError, match=r"spec\.memcached\.maxItemSize.*maxMemoryMB"):
        kubectl.patch("memcached", "pool", {"spec": {"memcached": {"maxItemSize": "64m"}}})
    assert kubectl.get("memcached", "pool")["spec"] == stored
    kubectl("scale", "memcached", "pool", "--replicas=2")
    grown = ready_pods(kubectl, "pool", 2)
    assert addresses(pods) < addresses(grown)
    for address in addresses(grown):
        assert_serves(address)
