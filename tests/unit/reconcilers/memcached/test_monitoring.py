"""Spec in, exporter and ServiceMonitor out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.monitoring import service_monitor
from memop.reconcilers.memcached.workload import pod_template
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance


def containers(spec: dict[str, Any], **around: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod_template(instance(spec, **around))["spec"]["containers"]
    return found


@pytest.mark.parametrize("monitoring", [{}, {"enabled": False}, {"exporterImage": "x"}])
def test_there_is_no_exporter_unless_it_is_enabled(monitoring: dict[str, Any]) -> None:
    assert [container["name"] for container in containers({"monitoring": monitoring})] == ["memcached"]


def test_the_exporter_stands_beside_memcached_and_is_restricted() -> None:
    exporter = containers({"monitoring": {"enabled": True}})[1]
    assert exporter == {
        "name": "exporter",
        "image": "prom/memcached-exporter:v0.15.4",
        "command": [],
        "args": ["--memcached.address=127.0.0.1:11211"],
        "ports": [{"name": "metrics", "containerPort": 9150, "protocol": "TCP"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": [], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 11211,
            "runAsGroup": 11211,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


@pytest.mark.parametrize("tls", [{}, {"enableClientCert": True}, {"allowPlaintext": True}])
def test_with_tls_the_exporter_asks_on_the_loopback(tls: dict[str, Any]) -> None:
    exporter = containers({"monitoring": {"enabled": True}, "security": {"tls": {"enabled": True, **tls}}})[1]
    assert exporter["args"] == ["--memcached.address=127.0.0.1:11213"]


def test_image_and_resources_are_as_given() -> None:
    resources = {"limits": {"memory": "32Mi"}}
    asked = {"enabled": True, "exporterImage": "mirror/exporter:1", "exporterResources": resources}
    exporter = containers({"monitoring": asked})[1]
    assert (exporter["image"], exporter["resources"]) == ("mirror/exporter:1", resources)


@pytest.mark.parametrize(
    "monitoring", [{}, {"enabled": True}, {"enabled": False, "serviceMonitor": {"interval": "1m"}}]
)
def test_there_is_no_service_monitor_unless_its_block_is_there(monitoring: dict[str, Any]) -> None:
    assert service_monitor(instance({"monitoring": monitoring})) is None


@pytest.mark.parametrize(
    ("asked", "labels", "times"),
    [
        ({}, {}, {"interval": "30s", "scrapeTimeout": "10s"}),
        ({"interval": "1m", "scrapeTimeout": "5s"}, {}, {"interval": "1m", "scrapeTimeout": "5s"}),
        ({"interval": "", "scrapeTimeout": ""}, {}, {}),
        (
            {"additionalLabels": {"release": "prometheus", "app.kubernetes.io/name": "other"}},
            {"release": "prometheus"},
            {"interval": "30s", "scrapeTimeout": "10s"},
        ),
    ],
)
def test_the_service_monitor_selects_the_service(
    asked: dict[str, Any], labels: dict[str, str], times: dict[str, str]
) -> None:
    assert service_monitor(instance({"monitoring": {"enabled": True, "serviceMonitor": asked}})) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {"name": "cache", "namespace": "default", "labels": {**labels, **SELECTOR}},
        "spec": {
            "selector": {"matchLabels": SELECTOR},
            "namespaceSelector": {"matchNames": ["default"]},
            "endpoints": [{"port": "metrics", **times}],
        },
    }
