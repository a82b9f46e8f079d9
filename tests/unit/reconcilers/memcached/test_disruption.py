"""Spec in, PodDisruptionBudget out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.disruption import pod_disruption_budget
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance


@pytest.mark.parametrize("spec", [{}, {"highAvailability": {}}, {"highAvailability": {"podDisruptionBudget": {}}}])
def test_there_is_none_unless_it_is_asked_for(spec: dict[str, Any]) -> None:
    assert pod_disruption_budget(instance(spec)) is None


@pytest.mark.parametrize(
    ("asked", "bound"),
    [
        ({}, {"minAvailable": 1}),
        ({"minAvailable": "50%"}, {"minAvailable": "50%"}),
        ({"minAvailable": 0}, {"minAvailable": 0}),
        ({"maxUnavailable": 2}, {"maxUnavailable": 2}),
    ],
)
def test_it_bounds_the_pods_of_the_pool(asked: dict[str, Any], bound: dict[str, Any]) -> None:
    spec = {"highAvailability": {"podDisruptionBudget": {"enabled": True, **asked}}}
    assert pod_disruption_budget(instance(spec)) == {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "cache", "namespace": "default", "labels": SELECTOR},
        "spec": {"selector": {"matchLabels": SELECTOR}, **bound},
    }
