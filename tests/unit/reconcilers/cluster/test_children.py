"""Spec in, all children out."""

from typing import Any

import pytest

from memop.reconcilers.cluster.children import KINDS, OPTIONAL_KINDS, children, names
from tests.unit.reconcilers.cluster.instances import POOL_LABELS, PROXY_SELECTOR, instance
from tests.unit.reconcilers.cluster.test_golden import EVERYTHING

PROXIES = ["Service", "ConfigMap", "Deployment", "PodDisruptionBudget"]
LARGEST = {"shards": 2, "replicasPerShard": 8, "memcached": EVERYTHING["memcached"]}


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        ({}, ["Memcached", *["Service"] * 5, *PROXIES]),
        ({"replicasPerShard": 2, "proxy": {"mcrouter": {}}}, [*["Memcached"] * 2, *["Service"] * 10, *PROXIES]),
        (LARGEST, [*["Memcached"] * 8, *["Service"] * 16, *PROXIES, "ServiceMonitor"]),
    ],
)
def test_children_come_in_the_order_in_which_they_are_applied(spec: dict[str, Any], kinds: list[str]) -> None:
    assert [child["kind"] for child in children(instance(spec))] == kinds


@pytest.mark.parametrize("spec", [{}, LARGEST])
def test_every_child_is_of_a_kind_that_is_watched_and_found_by_its_labels_and_name(spec: dict[str, Any]) -> None:
    known = {(resource.api_version, resource.kind) for resource in (*KINDS, *OPTIONAL_KINDS)}
    for child in children(instance(spec)):
        assert (child["apiVersion"], child["kind"]) in known
        metadata = child["metadata"]
        labels = POOL_LABELS if metadata["name"].startswith("cache-r") else PROXY_SELECTOR
        assert metadata["labels"].items() >= labels.items()
        assert metadata["namespace"] == "default"
        assert metadata["name"] in names(child["kind"], "cache")
