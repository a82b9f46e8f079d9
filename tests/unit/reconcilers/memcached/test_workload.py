"""Spec in, Deployment or StatefulSet out; golden/ has the whole of each pod template."""

from typing import Any

import pytest

from memop.api.memcached import RESERVED_POD_ANNOTATIONS, RESERVED_POD_LABELS
from memop.reconcilers.memcached.workload import arguments, pod_template, secret_names, workload
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance


def pod(spec: dict[str, Any], **around: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod_template(instance(spec, **around))["spec"]
    return found


def test_ephemeral_pods_come_from_a_deployment() -> None:
    built = workload(instance())
    template = built["spec"].pop("template")
    labels = {**SELECTOR, "app.kubernetes.io/version": "1.6"}
    assert built == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cache", "namespace": "default", "labels": labels},
        "spec": {
            "replicas": 1,
            "paused": False,
            "selector": {"matchLabels": SELECTOR},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        },
    }
    assert template["metadata"] == {"labels": labels}


def test_stable_pods_come_from_a_stateful_set() -> None:
    built = workload(instance({"podIdentity": "Stable", "replicas": 3}))
    template = built["spec"].pop("template")
    assert built == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "cache", "namespace": "default", "labels": template["metadata"]["labels"]},
        "spec": {
            "replicas": 3,
            "serviceName": "cache",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": SELECTOR},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
    }
    assert template == pod_template(instance())


@pytest.mark.parametrize("identity", ["Ephemeral", "Stable"])
def test_a_size_that_is_not_memops_is_left_out(identity: str) -> None:
    assert "replicas" not in workload(instance({"podIdentity": identity}, replicas=None))["spec"]


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
    assert arguments(instance({"memcached": config}).spec) == args


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
    built = workload(instance(spec))
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
    assert pod({"highAvailability": asked})["affinity"] == {"podAntiAffinity": rule}


def test_spread_constraints_are_copied_one_for_each_key_they_merge_by() -> None:
    zone = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    soft = {**zone, "whenUnsatisfiable": "ScheduleAnyway"}
    asked = {"highAvailability": {"topologySpreadConstraints": [zone, soft, {**zone, "maxSkew": 2}]}}
    assert pod(asked)["topologySpreadConstraints"] == [zone, soft]


@pytest.mark.parametrize(
    ("asked", "delay", "grace"),
    [({}, "10", 30), ({"preStopDelaySeconds": 20, "terminationGracePeriodSeconds": 60}, "20", 60)],
)
def test_a_graceful_shutdown_waits_before_the_stop(asked: dict[str, Any], delay: str, grace: int) -> None:
    shutdown = {"highAvailability": {"gracefulShutdown": {"enabled": True, **asked}}}
    built = pod(shutdown)
    assert built["terminationGracePeriodSeconds"] == grace
    assert built["containers"][0]["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", delay]}}}


@pytest.mark.parametrize("name", ["restart_trigger", "secret_hash"])
def test_what_replaces_pods_is_annotated_on_them(name: str) -> None:
    template = pod_template(instance({"podAnnotations": {"mesh/inject": "false"}}, **{name: "new"}))
    key = f"memcached.c5c3.io/{name.replace('_', '-')}"
    assert template["metadata"]["annotations"] == {"mesh/inject": "false", key: "new"}


def test_pod_labels_and_annotations_cannot_take_the_place_of_ours() -> None:
    taken = dict.fromkeys((*RESERVED_POD_LABELS, *RESERVED_POD_ANNOTATIONS), "x")
    digest = "memcached@sha256:" + "0" * 64
    metadata = pod_template(instance({"podLabels": taken, "podAnnotations": taken, "image": digest}))["metadata"]
    labels = dict.fromkeys(RESERVED_POD_ANNOTATIONS, "x")
    assert metadata == {
        "labels": {**labels, **SELECTOR},
        "annotations": dict.fromkeys(RESERVED_POD_LABELS, "x"),
    }


SASL = {"enabled": True, "credentialsSecretRef": {"name": "users"}}
TLS = {"enabled": True, "certificateSecretRef": {"name": "pair"}}
ISSUER = {"enabled": True, "issuerRef": {"name": "ca"}}


@pytest.mark.parametrize(
    ("security", "names"),
    [
        ({}, []),
        ({"sasl": SASL}, ["users"]),
        ({"tls": TLS}, ["pair"]),
        ({"tls": ISSUER}, ["cache-memcached-tls"]),
        ({"sasl": SASL, "tls": TLS}, ["users", "pair"]),
        ({"sasl": SASL, "tls": {"enabled": True, "certificateSecretRef": {"name": "users"}}}, ["users"]),
        ({"sasl": {**SASL, "enabled": False}, "tls": {"enabled": True}}, []),
    ],
)
def test_the_secrets_are_named_once_each(security: dict[str, Any], names: list[str]) -> None:
    assert secret_names(instance({"security": security})) == names


def test_arguments_come_in_the_order_sasl_tls_extra() -> None:
    spec = {"memcached": {"verbosity": 1, "extraArgs": ["-F"]}, "security": {"sasl": SASL, "tls": TLS}}
    assert arguments(instance(spec).spec) == [
        *("-m", "64", "-c", "1024", "-t", "4", "-I", "1m", "-v"),
        *("-Y", "/etc/memcached/sasl/password-file"),
        *("-Z", "-o", "ssl_chain_cert=/etc/memcached/tls/tls.crt", "-o", "ssl_key=/etc/memcached/tls/tls.key"),
        "-F",
    ]
