"""Spec in, Deployment out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.labels import image_tag
from memop.reconcilers.memcached.workload import arguments, deployment
from tests.unit.reconcilers.memcached.instances import instance

SELECTOR = {
    "app.kubernetes.io/name": "memcached",
    "app.kubernetes.io/instance": "cache",
    "app.kubernetes.io/managed-by": "memcached-operator",
}


def test_the_deployment_of_an_empty_spec() -> None:
    """The whole of it: an upgrade that changes anybody's pod template has to change this."""
    labels = {**SELECTOR, "app.kubernetes.io/version": "1.6"}
    assert deployment(instance()) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cache", "namespace": "default", "labels": labels},
        "spec": {
            "replicas": 1,
            "paused": False,
            "selector": {"matchLabels": SELECTOR},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "hostNetwork": False,
                    "hostPID": False,
                    "hostIPC": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 11211,
                        "runAsGroup": 11211,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "memcached",
                            "image": "memcached:1.6",
                            "command": [],
                            "args": ["-m", "64", "-c", "1024", "-t", "4", "-I", "1m"],
                            "ports": [{"name": "memcached", "containerPort": 11211, "protocol": "TCP"}],
                            "livenessProbe": {
                                "tcpSocket": {"port": "memcached"},
                                "initialDelaySeconds": 10,
                                "periodSeconds": 10,
                                "timeoutSeconds": 1,
                                "successThreshold": 1,
                                "failureThreshold": 3,
                            },
                            "readinessProbe": {
                                "tcpSocket": {"port": "memcached"},
                                "initialDelaySeconds": 5,
                                "periodSeconds": 5,
                                "timeoutSeconds": 1,
                                "successThreshold": 1,
                                "failureThreshold": 3,
                            },
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
                    ],
                },
            },
        },
    }


@pytest.mark.parametrize(
    ("config", "args"),
    [
        ({}, ["-m", "64", "-c", "1024", "-t", "4", "-I", "1m"]),
        (
            {"maxMemoryMB": 256, "maxConnections": 9, "threads": 2, "maxItemSize": "512k"},
            ["-m", "256", "-c", "9", "-t", "2", "-I", "512k"],
        ),
        ({"verbosity": 1}, ["-m", "64", "-c", "1024", "-t", "4", "-I", "1m", "-v"]),
        (
            {"verbosity": 2, "extraArgs": ["-o", "modern"]},
            ["-m", "64", "-c", "1024", "-t", "4", "-I", "1m", "-vv", "-o", "modern"],
        ),
    ],
)
def test_arguments_are_exactly_these_in_this_order(config: dict[str, Any], args: list[str]) -> None:
    assert arguments(instance({"memcached": config}).spec.memcached) == args


@pytest.mark.parametrize(
    ("spec", "path", "value"),
    [
        ({"replicas": 0}, "spec.replicas", 0),
        ({"replicas": 64}, "spec.replicas", 64),
        ({"image": "mirror:5000/memcached:1.6.38"}, "container.image", "mirror:5000/memcached:1.6.38"),
        ({"resources": {"limits": {"memory": "1Gi"}}}, "container.resources", {"limits": {"memory": "1Gi"}}),
        ({"nodeSelector": {"disk": "ssd"}}, "pod.nodeSelector", {"disk": "ssd"}),
        ({"tolerations": [{"operator": "Exists"}]}, "pod.tolerations", [{"operator": "Exists"}]),
        ({"priorityClassName": "high"}, "pod.priorityClassName", "high"),
        (
            {"imagePullSecrets": [{"name": "a"}, {}, {"name": "b"}, {"name": "a"}, {"name": ""}]},
            "pod.imagePullSecrets",
            [{"name": "a"}, {"name": "b"}],
        ),
        ({"podAnnotations": {"mesh/inject": "false"}}, "template.metadata.annotations", {"mesh/inject": "false"}),
        (
            {"podLabels": {"team": "blue"}},
            "template.metadata.labels",
            {**SELECTOR, "app.kubernetes.io/version": "1.6", "team": "blue"},
        ),
    ],
)
def test_each_field_lands_where_it_belongs(spec: dict[str, Any], path: str, value: Any) -> None:
    built = deployment(instance(spec))
    template = built["spec"]["template"]
    found: Any = {
        **built,
        "template": template,
        "pod": template["spec"],
        "container": template["spec"]["containers"][0],
    }
    for part in path.split("."):
        found = found[part]
    assert found == value


TERM = {
    "topologyKey": "kubernetes.io/hostname",
    "labelSelector": {
        "matchLabels": {"app.kubernetes.io/name": "memcached", "app.kubernetes.io/instance": "cache"},
    },
}


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({}, {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": TERM}]}),
        ({"antiAffinityPreset": "hard"}, {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}),
    ],
)
def test_high_availability_keeps_pods_apart(asked: dict[str, Any], rule: dict[str, Any]) -> None:
    pod = deployment(instance({"highAvailability": asked}))["spec"]["template"]["spec"]
    assert pod["affinity"] == {"podAntiAffinity": rule}


def test_spread_constraints_are_copied() -> None:
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    asked = {"highAvailability": {"topologySpreadConstraints": [constraint]}}
    assert deployment(instance(asked))["spec"]["template"]["spec"]["topologySpreadConstraints"] == [constraint]


@pytest.mark.parametrize(
    ("asked", "delay", "grace"),
    [({}, "10", 30), ({"preStopDelaySeconds": 20, "terminationGracePeriodSeconds": 60}, "20", 60)],
)
def test_a_graceful_shutdown_waits_before_the_stop(asked: dict[str, Any], delay: str, grace: int) -> None:
    shutdown = {"highAvailability": {"gracefulShutdown": {"enabled": True, **asked}}}
    pod = deployment(instance(shutdown))["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == grace
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", delay]}}}


def test_the_restart_trigger_is_copied_to_the_pods() -> None:
    template = deployment(instance(restart_trigger="2026-01-01"))["spec"]["template"]
    assert template["metadata"]["annotations"] == {"memcached.c5c3.io/restart-trigger": "2026-01-01"}


def test_pod_labels_cannot_replace_the_selector() -> None:
    template = deployment(instance({"podLabels": {"app.kubernetes.io/instance": "other"}}))["spec"]["template"]
    assert template["metadata"]["labels"]["app.kubernetes.io/instance"] == "cache"


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("memcached:1.6", "1.6"),
        ("docker.io/library/memcached:1.6.38-alpine", "1.6.38-alpine"),
        ("mirror:5000/memcached", None),
        ("mirror:5000/memcached:1.6", "1.6"),
        ("memcached", None),
        ("memcached@sha256:" + "0" * 64, None),
        ("memcached:1.6@sha256:" + "0" * 64, None),
        ("memcached:" + "x" * 64, None),
    ],
)
def test_the_version_label_is_the_tag_where_a_label_can_hold_it(image: str, tag: str | None) -> None:
    assert image_tag(image) == tag
