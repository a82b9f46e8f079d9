"""Spec in, HorizontalPodAutoscaler out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.autoscaling import horizontal_pod_autoscaler
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance

CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
METRIC = {
    "type": "Pods",
    "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "1k"}},
}


@pytest.mark.parametrize("spec", [{}, {"autoscaling": {"maxReplicas": 3}}])
def test_there_is_none_unless_it_is_enabled(spec: dict[str, Any]) -> None:
    assert horizontal_pod_autoscaler(instance(spec)) is None


SLOWLY = {"scaleDown": {"stabilizationWindowSeconds": 300}}


@pytest.mark.parametrize(("identity", "kind"), [("Ephemeral", "Deployment"), ("Stable", "StatefulSet")])
def test_by_default_it_scales_the_workload_by_cpu_and_shrinks_slowly(identity: str, kind: str) -> None:
    spec = {"podIdentity": identity, "autoscaling": {"enabled": True, "maxReplicas": 5}}
    assert horizontal_pod_autoscaler(instance(spec)) == {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "cache", "namespace": "default", "labels": SELECTOR},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": "cache"},
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": CPU}],
            "behavior": SLOWLY,
        },
    }


@pytest.mark.parametrize(
    ("asked", "field", "value"),
    [
        ({"minReplicas": 2}, "minReplicas", 2),
        ({"metrics": [METRIC]}, "metrics", [METRIC]),
        ({"metrics": []}, "metrics", [{"type": "Resource", "resource": CPU}]),
        ({"behavior": {"scaleUp": {"policies": []}}}, "behavior", {"scaleUp": {"policies": []}}),
        ({"behavior": {}}, "behavior", SLOWLY),
        ({"behavior": {"scaleUp": {}}}, "behavior", SLOWLY),
        ({"behavior": {"scaleUp": {}, "scaleDown": {"policies": []}}}, "behavior", {"scaleDown": {"policies": []}}),
    ],
)
def test_what_is_given_is_passed_on(asked: dict[str, Any], field: str, value: Any) -> None:
    built = horizontal_pod_autoscaler(instance({"autoscaling": {"enabled": True, "maxReplicas": 5, **asked}}))
    assert built is not None
    assert built["spec"][field] == value


def test_an_exporter_does_not_count_as_it_has_no_cpu_request() -> None:
    spec = {"monitoring": {"enabled": True}, "autoscaling": {"enabled": True, "maxReplicas": 5}}
    built = horizontal_pod_autoscaler(instance(spec))
    assert built is not None
    metric = {"type": "ContainerResource", "containerResource": {"container": "memcached", **CPU}}
    assert built["spec"]["metrics"] == [metric]


def test_a_missing_upper_limit_is_for_the_api_server_to_refuse() -> None:
    built = horizontal_pod_autoscaler(instance({"autoscaling": {"enabled": True}}))
    assert built is not None
    assert "maxReplicas" not in built["spec"]
