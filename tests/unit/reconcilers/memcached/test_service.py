"""Spec in, Service out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.service import service
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance


def test_the_service_of_an_empty_spec() -> None:
    assert service(instance()) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "cache", "namespace": "default", "labels": SELECTOR},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": False,
            "selector": SELECTOR,
            "ports": [{"name": "memcached", "port": 11211, "targetPort": "memcached", "protocol": "TCP"}],
        },
    }


def test_annotations_and_not_ready_addresses_are_passed_on() -> None:
    built = service(instance({"service": {"annotations": {"a": "b"}, "publishNotReadyAddresses": True}}))
    assert built["metadata"]["annotations"] == {"a": "b"}
    assert built["spec"]["publishNotReadyAddresses"] is True


CLIENT = {"name": "memcached", "port": 11211, "targetPort": "memcached", "protocol": "TCP"}
TLS = {"name": "memcached-tls", "port": 11212, "targetPort": "memcached-tls", "protocol": "TCP"}
METRICS = {"name": "metrics", "port": 9150, "targetPort": "metrics", "protocol": "TCP"}


@pytest.mark.parametrize(
    ("spec", "ports"),
    [
        ({"security": {"tls": {"enabled": True}}}, [CLIENT, TLS]),
        ({"monitoring": {"enabled": True}}, [CLIENT, METRICS]),
        ({"security": {"tls": {"enabled": True}}, "monitoring": {"enabled": True}}, [CLIENT, TLS, METRICS]),
        ({"security": {"tls": {"enabled": False}}, "monitoring": {"enabled": False}}, [CLIENT]),
    ],
)
def test_there_is_a_port_for_what_is_enabled(spec: dict[str, Any], ports: list[dict[str, Any]]) -> None:
    assert service(instance(spec))["spec"]["ports"] == ports
