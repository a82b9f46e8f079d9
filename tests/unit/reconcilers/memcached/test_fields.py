"""What each field of a spec changes, field by field: every one of the CRD's is here, and every one does something.

`docs/fields.md` shows the table; `MEMOP_REWRITE_GOLDEN=1` writes it anew.
"""

import os
import random
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from memop.api.base import KUBERNETES_TYPE
from memop.api.memcached import MEMCACHED, MemcachedSpec
from memop.api.schema import crd
from memop.reconcilers.memcached.children import children
from memop.webhooks.validation import validate
from tests.support import specs
from tests.unit.reconcilers.memcached.instances import instance
from tests.unit.reconcilers.memcached.test_golden import REWRITE
from tests.unit.reconcilers.sync.test_status import source, verdict, workloads

Json = Any
Row = tuple[str, str, str]  # field, kind, path

PAGE = Path(__file__).parents[4] / "docs/fields.md"
ABSENT = object()

# What is set, too, for every field that begins like this: its feature is on, and what it needs is there.
AROUND: dict[str, dict[str, Json]] = {
    "highAvailability.podDisruptionBudget.": {"highAvailability.podDisruptionBudget.enabled": True, "replicas": 3},
    "highAvailability.podDisruptionBudget.enabled": {"highAvailability.podDisruptionBudget.minAvailable": 1},
    "highAvailability.gracefulShutdown.": {"highAvailability.gracefulShutdown.enabled": True},
    "monitoring.": {"monitoring.enabled": True, "security.networkPolicy.enabled": True},
    "monitoring.enabled": {"monitoring.serviceMonitor": {}},
    "security.sasl.": {"security.sasl.enabled": True, "security.sasl.credentialsSecretRef.name": "users"},
    "security.tls.": {
        "security.tls.enabled": True,
        "security.tls.certificateSecretRef.name": "pair",
        "security.networkPolicy.enabled": True,
    },
    "security.tls.issuerRef.": {"security.tls.certificateSecretRef": ABSENT, "security.tls.issuerRef.name": "ca"},
    "security.networkPolicy.": {"security.networkPolicy.enabled": True},
    "autoscaling.": {"autoscaling.enabled": True, "autoscaling.maxReplicas": 5, "resources.requests.cpu": "1"},
    "replicasFrom.": {"replicasFrom.kind": "Deployment", "replicasFrom.name": "web"},
}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}}}
SPREAD = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}

# Two values of each field, the first of which is the default where there is one. Of blocks only those are here whose
# presence alone means something.
SAMPLES: dict[str, tuple[Json, Json]] = {
    "replicas": (1, 2),
    "image": (ABSENT, "memcached:1.6.38"),
    "resources": (ABSENT, {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}),
    "memcached.maxMemoryMB": (64, 128),
    "memcached.maxConnections": (1024, 2048),
    "memcached.threads": (4, 8),
    "memcached.maxItemSize": ("1m", "2m"),
    "memcached.verbosity": (0, 1),
    "memcached.extraArgs": (ABSENT, ["-F"]),
    "highAvailability": (ABSENT, {}),
    "highAvailability.antiAffinityPreset": ("soft", "hard"),
    "highAvailability.topologySpreadConstraints": (ABSENT, [SPREAD]),
    "highAvailability.podDisruptionBudget.enabled": (False, True),
    "highAvailability.podDisruptionBudget.minAvailable": (1, 2),
    "highAvailability.podDisruptionBudget.maxUnavailable": (1, 2),
    "highAvailability.gracefulShutdown.enabled": (False, True),
    "highAvailability.gracefulShutdown.preStopDelaySeconds": (10, 20),
    "highAvailability.gracefulShutdown.terminationGracePeriodSeconds": (30, 60),
    "monitoring.enabled": (False, True),
    "monitoring.exporterImage": (ABSENT, "mirror/exporter:1"),
    "monitoring.exporterResources": (ABSENT, {"requests": {"cpu": "10m"}}),
    "monitoring.serviceMonitor": (ABSENT, {}),
    "monitoring.serviceMonitor.additionalLabels": ({}, {"release": "prometheus"}),
    "monitoring.serviceMonitor.interval": ("30s", "1m"),
    "monitoring.serviceMonitor.scrapeTimeout": ("10s", "5s"),
    "security.podSecurityContext": (ABSENT, {"fsGroup": 1, "runAsUser": 1000}),
    "security.containerSecurityContext": (ABSENT, {"readOnlyRootFilesystem": False}),
    "security.sasl.enabled": (False, True),
    "security.sasl.credentialsSecretRef.name": ("users", "others"),
    "security.tls.enabled": (False, True),
    "security.tls.certificateSecretRef.name": ("pair", "other"),
    "security.tls.enableClientCert": (False, True),
    "security.tls.allowPlaintext": (False, True),
    "security.tls.issuerRef": (ABSENT, {"name": "ca"}),
    "security.tls.issuerRef.name": ("ca", "other"),
    "security.tls.issuerRef.kind": ("Issuer", "ClusterIssuer"),
    "security.tls.issuerRef.group": ("cert-manager.io", "example.com"),
    "security.networkPolicy.enabled": (False, True),
    "security.networkPolicy.allowedSources": (ABSENT, [{"podSelector": {}}]),
    "autoscaling.enabled": (False, True),
    "autoscaling.minReplicas": (ABSENT, 2),
    "autoscaling.maxReplicas": (5, 6),
    "autoscaling.metrics": (ABSENT, [CPU]),
    "autoscaling.behavior": (ABSENT, {"scaleDown": {"stabilizationWindowSeconds": 0}}),
    "service.annotations": (ABSENT, {"a": "b"}),
    "service.publishNotReadyAddresses": (False, True),
    "podIdentity": ("Ephemeral", "Stable"),
    "replicasFrom": (ABSENT, {"kind": "Deployment", "name": "web"}),
    "replicasFrom.kind": ("Deployment", "StatefulSet"),
    "replicasFrom.name": ("web", "other"),
    "replicasFrom.min": (0, 1),
    "replicasFrom.max": (64, 5),
    "nodeSelector": (ABSENT, {"disk": "ssd"}),
    "tolerations": (ABSENT, [{"operator": "Exists"}]),
    "priorityClassName": (ABSENT, "high"),
    "imagePullSecrets": (ABSENT, [{"name": "pull"}]),
    "podLabels": (ABSENT, {"team": "blue"}),
    "podAnnotations": (ABSENT, {"mesh/inject": "false"}),
}
BLOCKS = {"highAvailability", "monitoring.serviceMonitor", "security.tls.issuerRef", "replicasFrom"}


def fields() -> list[str]:
    """The leaves of the spec: an embedded Kubernetes type, a list and a map are one."""
    schema = MemcachedSpec.model_json_schema()
    return list(_leaves(schema, schema["$defs"], ""))


def _leaves(node: Mapping[str, Json], definitions: Mapping[str, Json], path: str) -> Iterator[str]:
    variants = [variant for variant in node.get("anyOf", ()) if variant != {"type": "null"}]
    if len(variants) == 1:
        yield from _leaves(variants[0], definitions, path)
    elif "$ref" in node:
        yield from _leaves(definitions[node["$ref"].removeprefix("#/$defs/")], definitions, path)
    elif "properties" in node and KUBERNETES_TYPE not in node:
        for name, below in node["properties"].items():
            yield from _leaves(below, definitions, f"{path}.{name}".removeprefix("."))
    else:
        yield path


def table(identity: str = "Ephemeral") -> list[Row]:
    """Which field changes what in which child; the path is empty where the child comes or goes."""
    return [(field, kind, path) for field, values in SAMPLES.items() for kind, path in effects(field, values, identity)]


def effects(field: str, values: tuple[Json, Json], identity: str = "Ephemeral") -> list[tuple[str, str]]:
    """Kind and path of what a change from the first value to the second changes."""
    before, after = (
        {body["kind"]: body for body in (*children(instance(spec)), *followed(spec))}
        for spec in samples(field, values, identity)
    )
    kinds = [*before, *(kind for kind in after if kind not in before)]
    return [(kind, path) for kind in kinds for path in changed(before.get(kind, ABSENT), after.get(kind, ABSENT))]


# What a pool may follow, small and large.
SIZES = {("Deployment", "web"): (0, 9), ("StatefulSet", "web"): (3, 4), ("Deployment", "other"): (5, 6)}


def followed(spec: Json) -> Iterator[Json]:
    """What replica sync writes, the sizes for small and for large workloads as one."""
    sizes = []
    for number in range(2):
        known = [(kind, source(name, pods[number])) for (kind, name), pods in SIZES.items()]
        sizes.append(verdict(workloads(*known), spec).size)
    yield {"kind": "Memcached", "spec": {"replicas": sizes} if any(size is not None for size in sizes) else {}}


def samples(field: str, values: tuple[Json, Json], identity: str = "Ephemeral") -> tuple[Json, Json]:
    """Two specs in which the field's feature is on, and which differ in the field alone."""
    around: Json = {} if field == "podIdentity" or identity == "Ephemeral" else {"podIdentity": identity}
    for beginning, settings in AROUND.items():
        if field.startswith(beginning):
            for path, value in settings.items():
                put(around, path, value)
    if field.endswith("maxUnavailable"):
        put(around, field.replace("maxUnavailable", "minAvailable"), ABSENT)
    if field == "security.tls.issuerRef":  # one takes the place of the other
        put(around, "security.tls.certificateSecretRef", ABSENT)
    first, second = deepcopy(around), deepcopy(around)
    put(first, field, values[0])
    put(second, field, values[1])
    if field == "security.tls.issuerRef":
        put(first, "security.tls.certificateSecretRef.name", "pair")
    return first, second


def put(spec: Json, path: str, value: Json) -> None:
    *blocks, last = path.split(".")
    for block in blocks:
        spec = spec.setdefault(block, {})
    if value is ABSENT:
        spec.pop(last, None)
    else:
        spec[last] = deepcopy(value)


def changed(before: Json, after: Json, path: str = "") -> Iterator[str]:
    """Where two objects differ; what comes or goes as a whole is one place."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            step = name if name.startswith("[") else f"[{name}]" if "." in name or "/" in name else f".{name}"
            yield from changed(before.get(name, ABSENT), after.get(name, ABSENT), f"{path}{step}".removeprefix("."))
    elif _named(before) and _named(after):
        yield from changed(_by_name(before), _by_name(after), path)
    else:
        yield path


def _named(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)


def _by_name(items: list[Json]) -> Json:
    return {f"[{item['name']}]": item for item in items}


def page() -> str:
    lines = [
        "# What each field changes",
        "",
        "Generated by tests/unit/reconcilers/memcached/test_fields.py (`MEMOP_REWRITE_GOLDEN=1`); do not edit.",
        "",
        "Each row is what a change of the field under `spec` changes, its feature being on. No path: the object comes",
        "or goes. A pool with `podIdentity: Stable` has a StatefulSet instead of the Deployment, with the same rows.",
        "",
        "| field | kind | path |",
        "|---|---|---|",
        *(f"| `{field}` | {kind} | {f'`{path}`' if path else ''} |" for field, kind, path in table()),
        "",
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("field", fields())
def test_every_field_has_a_sample_and_an_effect(field: str) -> None:
    assert field in SAMPLES, "a new field: say by two values in SAMPLES what it changes"
    assert effects(field, SAMPLES[field]) != [], "changes nothing: does any builder read it?"


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_the_presence_of_a_block_has_an_effect_where_it_is_said_to_mean_something(block: str) -> None:
    assert effects(block, SAMPLES[block]) != []


def test_every_sample_is_of_a_field() -> None:
    assert SAMPLES.keys() == {*fields(), *BLOCKS}


def test_the_fields_are_those_of_the_crd() -> None:
    (version, *_) = crd(MEMCACHED)["spec"]["versions"]
    leaves = set(fields())

    def walk(node: Json, path: str) -> Iterator[str]:
        if path in leaves or "properties" not in node:
            yield path
            return
        for name, below in node["properties"].items():
            yield from walk(below, f"{path}.{name}".removeprefix("."))

    assert set(walk(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "")) == leaves


@pytest.mark.parametrize("field", sorted(SAMPLES))
def test_the_samples_are_specs_that_admission_takes(field: str) -> None:
    for spec in samples(field, SAMPLES[field]):
        assert validate({"metadata": {"name": "cache"}, "spec": spec}).errors == []


def test_a_stable_pool_differs_in_the_kind_of_its_workload_alone() -> None:
    ephemeral = [(field, kind.replace("Deployment", "StatefulSet"), path) for field, kind, path in table()]
    stable = table("Stable")
    assert [row for row in stable if row[0] != "podIdentity"] == [row for row in ephemeral if row[0] != "podIdentity"]


def test_the_page_is_up_to_date() -> None:
    if os.environ.get(REWRITE):
        PAGE.write_text(page())
    if not PAGE.exists() or PAGE.read_text() != page():
        pytest.fail(f"docs/{PAGE.name} is not what the builders do: run this test with {REWRITE}=1", pytrace=False)


def test_drawn_specs_have_every_field_with_several_values() -> None:
    """`tests.support.specs` is what other tests take for all specs that there are."""
    rng = random.Random(1)  # noqa: S311 - not a secret
    drawn = [specs.spec(rng, identity) for identity in ("Ephemeral", "Stable") for _ in range(200)]
    values: dict[str, list[Json]] = {field: [] for field in fields()}
    for spec in drawn:
        for field, seen in values.items():
            value = get(spec, field)
            if value not in seen:
                seen.append(value)
    few = {field for field, seen in values.items() if len([value for value in seen if value is not ABSENT]) < 2}
    assert few == set()


def get(spec: Json, path: str) -> Json:
    for name in path.split("."):
        if name not in spec:
            return ABSENT
        spec = spec[name]
    return spec
