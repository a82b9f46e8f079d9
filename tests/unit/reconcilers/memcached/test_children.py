"""Spec in, all children out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.children import KINDS, OPTIONAL_KINDS, children
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance
from tests.unit.reconcilers.memcached.test_golden import EVERYTHING

ALL = [
    "Certificate",
    "Service",
    "NetworkPolicy",
    "StatefulSet",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "ServiceMonitor",
]


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        ({}, ["Service", "Deployment"]),
        ({"podIdentity": "Stable"}, ["Service", "StatefulSet"]),
        (
            {"monitoring": {"enabled": True, "serviceMonitor": {}}},
            ["Service", "Deployment", "ServiceMonitor"],
        ),
        (
            {"security": {"tls": {"enabled": True, "issuerRef": {"name": "ca"}}}},
            ["Certificate", "Service", "Deployment"],
        ),
        (EVERYTHING, ALL),
    ],
)
def test_children_come_in_the_order_in_which_they_are_applied(spec: dict[str, Any], kinds: list[str]) -> None:
    assert [child["kind"] for child in children(instance(spec))] == kinds


def test_every_child_is_named_and_labelled_after_the_cr() -> None:
    for child in children(instance(EVERYTHING)):
        metadata = child["metadata"]
        assert (metadata["name"], metadata["namespace"]) == ("cache", "default")
        assert metadata["labels"].items() >= SELECTOR.items()


@pytest.mark.parametrize("spec", [{}, EVERYTHING])
def test_every_child_is_of_a_kind_that_is_watched(spec: dict[str, Any]) -> None:
    known = {(resource.api_version, resource.kind) for resource in (*KINDS, *OPTIONAL_KINDS)}
    assert {(child["apiVersion"], child["kind"]) for child in children(instance(spec))} <= known
