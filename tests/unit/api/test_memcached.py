"""The models give what api.md's table of `Memcached` says: names, defaults, ranges."""

import json
import subprocess
import sys
from functools import reduce
from typing import Any

import pytest
from pydantic import ValidationError

from memop.api.memcached import DEFAULT_EXPORTER_IMAGE, DEFAULT_IMAGE, MEMCACHED, MemcachedSpec, MemcachedStatus

REPLICAS_FROM = {"kind": "Deployment", "name": "web"}
# What must be there so that the block of a path can be made at all.
REQUIRED: dict[str, dict[str, Any]] = {"replicasFrom": REPLICAS_FROM, "issuerRef": {"name": "ca"}}


def spec_with(path: str, value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for "a.b", with the required neighbours."""
    *blocks, leaf = path.split(".")
    inner = {leaf: value}
    for block in reversed(blocks):
        inner = {block: {**REQUIRED.get(block, {}), **inner}}
    return inner


def read(path: str, spec: dict[str, Any]) -> Any:
    model = MemcachedSpec.model_validate_json(json.dumps(spec))

    def step(block: Any, name: str) -> Any:
        (attribute,) = (a for a, field in type(block).model_fields.items() if field.alias == name)
        return getattr(block, attribute)

    return reduce(step, path.split("."), model)


DEFAULTS: dict[str, Any] = {
    "replicas": None,
    "image": None,
    "resources": None,
    "memcached.maxMemoryMB": 64,
    "memcached.maxConnections": 1024,
    "memcached.threads": 4,
    "memcached.maxItemSize": "1m",
    "memcached.verbosity": 0,
    "memcached.extraArgs": [],
    "highAvailability": None,
    "highAvailability.antiAffinityPreset": "soft",
    "highAvailability.topologySpreadConstraints": [],
    "highAvailability.podDisruptionBudget": None,
    "highAvailability.podDisruptionBudget.enabled": False,
    "highAvailability.podDisruptionBudget.minAvailable": None,
    "highAvailability.podDisruptionBudget.maxUnavailable": None,
    "highAvailability.gracefulShutdown": None,
    "highAvailability.gracefulShutdown.enabled": False,
    "highAvailability.gracefulShutdown.preStopDelaySeconds": 10,
    "highAvailability.gracefulShutdown.terminationGracePeriodSeconds": 30,
    "monitoring": None,
    "monitoring.enabled": False,
    "monitoring.exporterImage": None,
    "monitoring.exporterResources": None,
    "monitoring.serviceMonitor": None,
    "monitoring.serviceMonitor.additionalLabels": {},
    "monitoring.serviceMonitor.interval": "30s",
    "monitoring.serviceMonitor.scrapeTimeout": "10s",
    "security": None,
    "security.podSecurityContext": None,
    "security.containerSecurityContext": None,
    "security.sasl": None,
    "security.sasl.enabled": False,
    "security.sasl.credentialsSecretRef": None,
    "security.sasl.credentialsSecretRef.name": "",
    "security.tls": None,
    "security.tls.enabled": False,
    "security.tls.certificateSecretRef": None,
    "security.tls.certificateSecretRef.name": "",
    "security.tls.enableClientCert": False,
    "security.tls.allowPlaintext": False,
    "security.tls.issuerRef": None,
    "security.tls.issuerRef.kind": "Issuer",
    "security.tls.issuerRef.group": "cert-manager.io",
    "security.networkPolicy": None,
    "security.networkPolicy.enabled": False,
    "security.networkPolicy.allowedSources": [],
    "autoscaling": None,
    "autoscaling.enabled": False,
    "autoscaling.minReplicas": None,
    "autoscaling.maxReplicas": None,
    "autoscaling.metrics": [],
    "autoscaling.behavior": None,
    "service.annotations": {},
    "service.publishNotReadyAddresses": False,
    "podIdentity": "Ephemeral",
    "replicasFrom": None,
    "replicasFrom.min": 0,
    "replicasFrom.max": 64,
    "nodeSelector": {},
    "tolerations": [],
    "priorityClassName": None,
    "imagePullSecrets": [],
    "podLabels": {},
    "podAnnotations": {},
}


@pytest.mark.parametrize(("path", "default"), DEFAULTS.items())
def test_absent_fields_read_as_the_documented_default(path: str, default: Any) -> None:
    *blocks, _ = path.split(".")
    spec = spec_with(".".join(blocks), REQUIRED.get(blocks[-1], {})) if blocks else {}
    assert read(path, spec) == default


RANGES: dict[str, tuple[list[Any], list[Any]]] = {
    "replicas": ([0, 64], [-1, 65]),
    "memcached.maxMemoryMB": ([16, 65536], [15, 65537]),
    "memcached.maxConnections": ([1, 65536], [0, 65537]),
    "memcached.threads": ([1, 128], [0, 129]),
    "memcached.maxItemSize": (["1k", "512k", "1m", "1024m"], ["1", "1g", "1M", "m", "1.5m", "-1m", "000000001m"]),
    "memcached.verbosity": ([0, 2], [-1, 3]),
    "memcached.extraArgs": ([["-o", "modern"]], ["-o", [1]]),
    "highAvailability.antiAffinityPreset": (["soft", "hard"], ["none", ""]),
    "highAvailability.podDisruptionBudget.minAvailable": ([1, "50%"], [[1], {}]),
    "highAvailability.podDisruptionBudget.maxUnavailable": ([1, "50%"], [[1], {}]),
    "highAvailability.gracefulShutdown.preStopDelaySeconds": ([1, 300], [0, 301]),
    "highAvailability.gracefulShutdown.terminationGracePeriodSeconds": ([1, 600], [0, 601]),
    "monitoring.serviceMonitor.interval": (["30s", "1m30s", "500ms"], ["30", "s", "-1s"]),
    "monitoring.serviceMonitor.scrapeTimeout": (["10s"], ["10"]),
    "security.sasl.credentialsSecretRef.name": (["", "n" * 253], ["n" * 254]),
    "security.tls.certificateSecretRef.name": (["", "n" * 253], ["n" * 254]),
    "security.tls.issuerRef.name": (["ca"], ["", "n" * 254]),
    "autoscaling.minReplicas": ([1, 1000], [0]),
    "autoscaling.maxReplicas": ([1, 1000], [0]),
    "podIdentity": (["Ephemeral", "Stable"], ["stable"]),
    "replicasFrom.kind": (["Deployment", "StatefulSet"], ["DaemonSet"]),
    "replicasFrom.name": (["web"], ["", "n" * 254]),
    "replicasFrom.min": ([0, 64], [-1, 65]),
    "replicasFrom.max": ([0, 64], [-1, 65]),
    "priorityClassName": (["high"], ["n" * 254]),
    "podLabels": ([{"a": ""}, {"a": "b" * 63}], [{"a": "b" * 64}, {"a": "b c"}]),
    "podAnnotations": ([{"a": "any text"}], [{"a": 1}]),
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (good, _) in RANGES.items() for value in good])
def test_values_at_the_bounds_are_read_unchanged(path: str, value: Any) -> None:
    assert read(path, spec_with(path, value)) == value


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (_, bad) in RANGES.items() for value in bad])
def test_values_out_of_range_are_refused(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        MemcachedSpec.model_validate_json(json.dumps(spec_with(path, value)))


@pytest.mark.parametrize("given", [{"kind": "Deployment"}, {"name": "web"}])
def test_replicas_from_needs_kind_and_name(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        MemcachedSpec.model_validate({"replicasFrom": given})


def test_every_field_of_the_models_has_a_row() -> None:
    def paths(model: Any, prefix: str = "") -> set[str]:
        found = set()
        for field in model.model_fields.values():
            path = f"{prefix}{field.alias}"
            inner = [
                a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(a, "model_fields")
            ]
            found |= paths(inner[0], f"{path}.") if inner else {path}
        return found

    required = {"replicasFrom.kind", "replicasFrom.name", "security.tls.issuerRef.name"}
    assert (
        paths(MemcachedSpec)
        == {path for path in DEFAULTS if not any(p.startswith(f"{path}.") for p in DEFAULTS)} | required
    )


def test_unknown_fields_are_ignored() -> None:
    assert MemcachedSpec.model_validate({"fromTheFuture": 1, "memcached": {"too": 2}}) == MemcachedSpec()


def test_embedded_kubernetes_types_pass_through_as_they_are() -> None:
    resources = {"limits": {"memory": "1Gi", "example.com/new": 1}, "unheardOf": [1, None]}
    assert read("resources", {"resources": resources}) == resources


def test_models_are_read_and_written_in_wire_form() -> None:
    spec = MemcachedSpec.model_validate({"highAvailability": {"podDisruptionBudget": {"minAvailable": "50%"}}})
    dumped = spec.model_dump(exclude_unset=True)
    assert dumped == {"highAvailability": {"podDisruptionBudget": {"minAvailable": "50%"}}}


def test_models_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MemcachedSpec().replicas = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "attribute"),
    [
        ("highAvailability.podDisruptionBudget", "enabled_pod_disruption_budget"),
        ("highAvailability.gracefulShutdown", "enabled_graceful_shutdown"),
        ("monitoring", "enabled_monitoring"),
        ("security.sasl", "enabled_sasl"),
        ("security.tls", "enabled_tls"),
        ("security.networkPolicy", "enabled_network_policy"),
        ("autoscaling", "enabled_autoscaling"),
    ],
)
def test_a_block_counts_only_when_given_and_enabled(path: str, attribute: str) -> None:
    parent, _, _ = path.rpartition(".")
    absent = [{}, spec_with(parent, {})] if parent else [{}]
    for spec in (*absent, spec_with(path, {}), spec_with(path, {"enabled": False})):
        assert getattr(MemcachedSpec.model_validate(spec), attribute) is None
    on = MemcachedSpec.model_validate(spec_with(path, {"enabled": True}))
    assert getattr(on, attribute).enabled is True


def test_constants_are_the_published_ones() -> None:
    assert DEFAULT_IMAGE == "memcached:1.6"
    assert DEFAULT_EXPORTER_IMAGE == "prom/memcached-exporter:v0.15.4"
    assert MEMCACHED.api_version == "memcached.c5c3.io/v1beta1"
    assert MEMCACHED.crd_name == "memcacheds.memcached.c5c3.io"


def test_an_absent_status_reads_as_nothing_seen() -> None:
    status = MemcachedStatus()
    assert (status.replicas, status.ready_replicas, status.observed_generation) == (0, 0, 0)
    assert (status.conditions, status.selector, status.server_list) == ([], "", [])


def test_importing_the_models_loads_neither_the_schemas_nor_a_client() -> None:
    program = "import sys, memop.api.memcached; print(*sys.modules)"
    # S603: the program is ours.
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert not {"memop.api.schema", "yaml", "aiohttp", "kubernetes_asyncio"} & set(loaded)
