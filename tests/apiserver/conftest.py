"""Tests against a real API server alone: what it accepts, stores and counts. `make test-api` runs them."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from prometheus_client import CollectorRegistry

from memop.client import Client, connect
from memop.clock import Clock
from memop.metrics import ClientMetrics
from tests.support import crds as definitions
from tests.support.fixtures import cluster, crds, kubectl, operator, start_operator
from tests.support.kubectl import Kubectl

__all__ = ["cluster", "crds", "kubectl", "operator", "start_operator"]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """memop's own client, as the cluster's administrator."""
    connection = await connect(os.environ["KUBECONFIG"])
    metrics = ClientMetrics(CollectorRegistry())
    async with Client(connection, metrics=metrics, clock=Clock(), user_agent="memop-tests") as client:
        yield client


@pytest.fixture
def optional_kinds(kubectl: Kubectl) -> Iterator[None]:
    """Served for this test alone: others are about clusters that lack them."""
    paths = [definitions.servicemonitors(), definitions.certificates()]
    for path in paths:
        kubectl.install(path.read_text())
    yield
    for path in paths:
        kubectl("delete", "-f", str(path))
