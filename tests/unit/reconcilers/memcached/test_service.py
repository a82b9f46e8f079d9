"""Spec in, Service out."""

from memop.reconcilers.memcached.service import service
from tests.unit.reconcilers.memcached.instances import instance
from tests.unit.reconcilers.memcached.test_workload import SELECTOR


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
