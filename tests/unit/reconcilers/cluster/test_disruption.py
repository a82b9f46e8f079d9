"""Spec in, the proxies' PodDisruptionBudget out."""

from memop.reconcilers.cluster.disruption import pod_disruption_budget
from tests.unit.reconcilers.cluster.instances import PROXY_SELECTOR, instance


def test_a_drain_takes_one_proxy_at_a_time() -> None:
    assert pod_disruption_budget(instance()) == {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "cache-proxy", "namespace": "default", "labels": PROXY_SELECTOR},
        "spec": {"selector": {"matchLabels": PROXY_SELECTOR}, "maxUnavailable": 1},
    }
