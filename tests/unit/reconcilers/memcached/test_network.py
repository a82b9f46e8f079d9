"""Spec in, NetworkPolicy out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.network import network_policy
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance


@pytest.mark.parametrize("policy", [{}, {"enabled": False}, {"allowedSources": [{"podSelector": {}}]}])
def test_there_is_none_unless_it_is_enabled(policy: dict[str, Any]) -> None:
    assert network_policy(instance({"security": {"networkPolicy": policy}})) is None


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ({}, [11211]),
        ({"security": {"tls": {"enabled": True}}}, [11211, 11212]),
        ({"monitoring": {"enabled": True}}, [11211, 9150]),
        ({"security": {"tls": {"enabled": True}}, "monitoring": {"enabled": True}}, [11211, 11212, 9150]),
    ],
)
def test_everyone_may_connect_to_the_ports_that_are_open(spec: dict[str, Any], ports: list[int]) -> None:
    security = {**spec.get("security", {}), "networkPolicy": {"enabled": True}}
    assert network_policy(instance({**spec, "security": security})) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "cache", "namespace": "default", "labels": SELECTOR},
        "spec": {
            "podSelector": {"matchLabels": SELECTOR},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": port} for port in ports]}],
        },
    }


def test_only_the_sources_may_connect_where_there_are_any() -> None:
    sources = [{"podSelector": {"matchLabels": {"app": "web"}}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]
    built = network_policy(instance({"security": {"networkPolicy": {"enabled": True, "allowedSources": sources}}}))
    assert built is not None
    assert [rule["from"] for rule in built["spec"]["ingress"]] == [sources]
