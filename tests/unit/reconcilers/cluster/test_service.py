"""Spec in, the cluster's one Service out."""

from typing import Any

import pytest

from memop.reconcilers.cluster.service import service
from tests.unit.reconcilers.cluster.instances import PROXY_SELECTOR, instance


def test_the_service_of_an_empty_spec() -> None:
    assert service(instance()) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "cache", "namespace": "default", "labels": PROXY_SELECTOR},
        "spec": {
            "type": "ClusterIP",
            "publishNotReadyAddresses": False,
            "selector": PROXY_SELECTOR,
            "ports": [{"name": "memcached", "port": 11211, "targetPort": "proxy", "protocol": "TCP"}],
        },
    }


def test_annotations_are_passed_on() -> None:
    built = service(instance({"proxy": {"service": {"annotations": {"a": "b"}}}}))
    assert built["metadata"]["annotations"] == {"a": "b"}


METRICS = {"name": "metrics", "port": 9150, "targetPort": "metrics", "protocol": "TCP"}


@pytest.mark.parametrize(
    ("spec", "port", "more"),
    [
        ({"proxy": {"port": 5000}}, 5000, []),
        ({"memcached": {"monitoring": {"enabled": True}}}, 11211, [METRICS]),
        ({"memcached": {"monitoring": {"enabled": False}}}, 11211, []),
        ({"memcached": {"monitoring": {"enabled": True}}, "proxy": {"mcrouter": {}, "port": 5000}}, 5000, []),
    ],
)
def test_the_port_is_the_specs_and_goes_to_the_proxies_by_name(
    spec: dict[str, Any], port: int, more: list[dict[str, Any]]
) -> None:
    client = {"name": "memcached", "port": port, "targetPort": "proxy", "protocol": "TCP"}
    assert service(instance(spec))["spec"]["ports"] == [client, *more]
