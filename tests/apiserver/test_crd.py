"""A real API server takes the CRDs, and refuses by them what it should, in words that help."""

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from memop.api.memcached import MEMCACHED, RESERVED_POD_ANNOTATIONS, RESERVED_POD_LABELS
from memop.api.schema import crd, kinds
from tests.support.kubectl import Kubectl, eventually

Spec = dict[str, Any]

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "manifests/samples").glob("*.yaml"))
VERSIONS = [f"{MEMCACHED.group}/{version}" for version in MEMCACHED.versions]


def memcached(spec: Spec | None, name: str = "test", api_version: str = VERSIONS[-1]) -> dict[str, Any]:
    given = {} if spec is None else {"spec": spec}
    return {"apiVersion": api_version, "kind": "Memcached", "metadata": {"name": name}, **given}


def create(kubectl: Kubectl, *objects: dict[str, Any], dry_run: bool = False) -> subprocess.CompletedProcess[str]:
    """Have the API server decide on each; a dry run stores nothing."""
    flags = ["--dry-run=server"] if dry_run else []
    stream = "\n".join(json.dumps(one) for one in objects)
    return kubectl("create", *flags, "-o", "json", "-f", "-", input=stream, check=not dry_run)


def update(kubectl: Kubectl, name: str, patch: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return kubectl("patch", name, "--type=merge", "-p", json.dumps(patch), check=False)


def in_block(path: str, **fields: Any) -> Spec:
    for block in reversed(path.split(".")):
        fields = {block: fields}
    return fields


def test_the_crds_are_established_without_warnings(kubectl: Kubectl) -> None:
    for kind in kinds():
        path = ROOT / "manifests/crd" / f"{kind.crd_name}.yaml"
        assert kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path)).stderr == ""
        live = json.loads(kubectl("get", f"crd/{kind.crd_name}", "-o", "json").stdout)
        conditions = {c["type"]: (c["status"], c["message"]) for c in live["status"]["conditions"]}
        assert conditions["Established"][0] == "True"
        assert conditions["NamesAccepted"][0] == "True"
        assert "NonStructuralSchema" not in conditions
        assert live["status"]["storedVersions"] == [kind.versions[-1]]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_accepted(path: Path, kubectl: Kubectl) -> None:
    result = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert "Warning" not in result.stderr


def test_an_object_reads_the_same_in_both_versions(kubectl: Kubectl) -> None:
    sample = yaml.safe_load((ROOT / "manifests/samples/full.yaml").read_text(encoding="utf-8"))
    create(kubectl, sample)
    specs = [
        json.loads(kubectl("get", f"memcacheds.{version}.{MEMCACHED.group}", "full", "-o", "json").stdout)["spec"]
        for version in MEMCACHED.versions
    ]
    assert specs == [sample["spec"], sample["spec"]]


def test_nothing_is_defaulted_by_the_schema(kubectl: Kubectl) -> None:
    specs: list[Spec | None] = [None, {}, {"autoscaling": {}, "security": {"tls": {}}}]
    for spec in specs:
        live = json.loads(create(kubectl, memcached(spec), dry_run=True).stdout)
        assert live.get("spec") == spec


def test_unknown_fields_are_pruned_down_to_embedded_types(kubectl: Kubectl) -> None:
    known: Spec = {
        "resources": {"limits": {"memory": "1Gi", "example.com/device": 1}},
        "security": {"networkPolicy": {"allowedSources": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}},
    }
    more = deepcopy(known)
    more["unknown"] = {"a": 1}
    more["resources"]["unknown"] = "b"
    more["security"]["networkPolicy"]["allowedSources"][0]["unknown"] = ["c"]
    manifest = json.dumps(memcached(more))
    pruned = kubectl("create", "--dry-run=server", "--validate=ignore", "-o", "json", "-f", "-", input=manifest)
    assert json.loads(pruned.stdout)["spec"] == known
    strict = kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=manifest, check=False)
    for field in (
        "spec.unknown",
        "spec.resources.unknown",
        "spec.security.networkPolicy.allowedSources[0].unknown",
    ):
        assert f'unknown field "{field}"' in strict.stderr


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mc", "A pool of memcached pods"),
        ("mc.spec.memcached.maxMemoryMB", "Default: 64."),
        ("mc.spec.resources.limits", "maximum amount of compute resources"),
        ("mc.spec.autoscaling.metrics.resource.target", "averageUtilization"),
        ("mc.status.conditions.lastTransitionTime", "RFC 3339"),
    ],
)
def test_explain_knows_every_field(path: str, words: str, kubectl: Kubectl) -> None:
    def explained() -> None:
        assert words in kubectl("explain", path, check=False).stdout

    # A CRD comes into the API server's OpenAPI some moments after it is accepted.
    eventually(explained, timeout=30)


SASL, TLS = "security.sasl", "security.tls"
BUDGET, GRACE = "highAvailability.podDisruptionBudget", "highAvailability.gracefulShutdown"
SECRET = {"name": "secret"}
FOLLOW = {"kind": "Deployment", "name": "web"}

GOOD: list[Spec] = [
    {},
    {"replicas": 0},
    {"replicas": 64},
    in_block("memcached", maxMemoryMB=16, maxConnections=1, threads=1, maxItemSize="1k", verbosity=0),
    in_block("memcached", maxMemoryMB=65536, maxConnections=65536, threads=128, maxItemSize="1024m", verbosity=2),
    in_block("memcached", maxItemSize="32m"),
    in_block("memcached", maxItemSize="32768k"),
    in_block("memcached", maxMemoryMB=16, maxItemSize="8m"),
    in_block("memcached", maxMemoryMB=2048, maxItemSize="1048576k"),
    in_block("memcached", extraArgs=["-o", "modern"]),
    in_block("highAvailability", antiAffinityPreset="hard"),
    in_block(BUDGET, enabled=False, minAvailable=1, maxUnavailable=1),
    in_block(BUDGET, enabled=True, maxUnavailable=0),
    in_block(BUDGET, enabled=True, minAvailable="100%"),
    in_block(BUDGET, enabled=True, minAvailable=0),
    {"replicas": 3, **in_block(BUDGET, enabled=True, minAvailable=2)},
    {"replicas": 0, **in_block(BUDGET, enabled=True, minAvailable=2)},
    {"replicas": 1, **in_block(BUDGET, enabled=False, minAvailable=2)},
    {"autoscaling": {"enabled": True, "maxReplicas": 3}, **in_block(BUDGET, enabled=True, minAvailable=2)},
    {"replicasFrom": FOLLOW, **in_block(BUDGET, enabled=True, minAvailable=2)},
    in_block(GRACE, enabled=True),
    in_block(GRACE, enabled=True, preStopDelaySeconds=29),
    in_block(GRACE, enabled=True, terminationGracePeriodSeconds=11),
    in_block(GRACE, enabled=True, preStopDelaySeconds=300, terminationGracePeriodSeconds=600),
    in_block(GRACE, enabled=False, preStopDelaySeconds=40),
    in_block("monitoring.serviceMonitor", interval="1m30s", scrapeTimeout="500ms", additionalLabels={"a": "b"}),
    in_block(SASL, enabled=True, credentialsSecretRef=SECRET),
    # What Go clients write for a reference that is not set.
    in_block(SASL, enabled=False, credentialsSecretRef={}),
    in_block(TLS, enabled=False, certificateSecretRef={"name": ""}),
    in_block(TLS, enabled=True, certificateSecretRef=SECRET, enableClientCert=True, allowPlaintext=True),
    in_block(TLS, enabled=True, issuerRef={"name": "ca"}),
    in_block(TLS, enabled=True, issuerRef={"name": "ca"}, certificateSecretRef={}),
    in_block(TLS, enabled=False, issuerRef={"name": "ca", "kind": "ClusterIssuer", "group": "cert-manager.io"}),
    in_block("autoscaling", enabled=True, minReplicas=1, maxReplicas=1),
    in_block("autoscaling", enabled=True, maxReplicas=100),
    {"replicas": 2, "autoscaling": {"enabled": False, "maxReplicas": 3}},
    {"replicasFrom": FOLLOW, "autoscaling": {"enabled": False}},
    in_block("replicasFrom", **FOLLOW, min=0, max=64),
    in_block("replicasFrom", kind="StatefulSet", name="db", min=3, max=3),
    {"podIdentity": "Stable"},
    {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "imagePullSecrets": [{"name": "r"}]},
    in_block("podLabels", **{"app.kubernetes.io/component": "cache", "empty": ""}),
    in_block("podAnnotations", **{"app.kubernetes.io/name": "anything", "example.com/a": "b c"}),
    {"podLabels": {f"{n:063}": "v" * 63 for n in range(200)}, "podAnnotations": {f"{n:063}": "v" for n in range(200)}},
    {"resources": {"requests": {"cpu": "1.5", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "1e9"}}},
]

BAD: list[tuple[Spec, str]] = [
    ({"replicas": -1}, "spec.replicas in body should be greater than or equal to 0"),
    ({"replicas": 65}, "spec.replicas in body should be less than or equal to 64"),
    ({"replicas": "1"}, "spec.replicas in body must be of type integer"),
    (in_block("memcached", maxMemoryMB=15), "spec.memcached.maxMemoryMB in body should be greater than or equal to 16"),
    (in_block("memcached", maxMemoryMB=65537), "spec.memcached.maxMemoryMB in body should be less than or equal to"),
    (in_block("memcached", maxConnections=0), "spec.memcached.maxConnections in body should be greater than or equal"),
    (in_block("memcached", maxConnections=65537), "spec.memcached.maxConnections in body should be less than or equal"),
    (in_block("memcached", threads=0), "spec.memcached.threads in body should be greater than or equal to 1"),
    (in_block("memcached", threads=129), "spec.memcached.threads in body should be less than or equal to 128"),
    (in_block("memcached", verbosity=-1), "spec.memcached.verbosity in body should be greater than or equal to 0"),
    (in_block("memcached", verbosity=3), "spec.memcached.verbosity in body should be less than or equal to 2"),
    (in_block("memcached", maxItemSize="1g"), "spec.memcached.maxItemSize in body should match"),
    (in_block("memcached", maxItemSize="m"), "spec.memcached.maxItemSize in body should match"),
    (in_block("memcached", maxItemSize="00000001m"), "spec.memcached.maxItemSize: Too long"),
    (in_block("memcached", maxItemSize="0k"), "memcached takes item sizes from 1k to 1024m: choose one in between"),
    (in_block("memcached", maxMemoryMB=65536, maxItemSize="1025m"), "memcached takes item sizes from 1k to 1024m"),
    (in_block("memcached", maxMemoryMB=65536, maxItemSize="1048577k"), "memcached takes item sizes from 1k to 1024m"),
    (in_block("memcached", maxItemSize="33m"), "spec.memcached.maxItemSize: Invalid value: "),
    (in_block("memcached", maxItemSize="33m"), "more than half of maxMemoryMB (64 when absent)"),
    (in_block("memcached", maxItemSize="32769k"), "lower maxItemSize or raise maxMemoryMB"),
    (in_block("memcached", maxMemoryMB=16, maxItemSize="9m"), "more than half of maxMemoryMB"),
    (in_block("memcached", extraArgs="-o"), "spec.memcached.extraArgs in body must be of type array"),
    (in_block("highAvailability", antiAffinityPreset="none"), 'supported values: "soft", "hard"'),
    (in_block(BUDGET, enabled=True), "spec.highAvailability.podDisruptionBudget.minAvailable: Required value"),
    (in_block(BUDGET, enabled=True), "set minAvailable or maxUnavailable"),
    (in_block(BUDGET, enabled=True, minAvailable=0, maxUnavailable=1), "exclude each other: remove one of them"),
    (in_block(BUDGET, minAvailable="half"), "podDisruptionBudget.minAvailable in body should match"),
    (in_block(BUDGET, maxUnavailable="101%"), "podDisruptionBudget.maxUnavailable in body should match"),
    (in_block(BUDGET, maxUnavailable=-1), "podDisruptionBudget.maxUnavailable in body should be greater than or equal"),
    (in_block(BUDGET, enabled=True, minAvailable=1), "must be less than replicas (1 when absent)"),
    (
        {"replicas": 3, **in_block(BUDGET, enabled=True, minAvailable=3)},
        "spec.highAvailability.podDisruptionBudget.minAvailable: Invalid value",
    ),
    (in_block(GRACE, preStopDelaySeconds=0), "preStopDelaySeconds in body should be greater than or equal to 1"),
    (in_block(GRACE, preStopDelaySeconds=301), "preStopDelaySeconds in body should be less than or equal to 300"),
    (in_block(GRACE, terminationGracePeriodSeconds=0), "GracePeriodSeconds in body should be greater than or equal"),
    (in_block(GRACE, terminationGracePeriodSeconds=601), "GracePeriodSeconds in body should be less than or equal"),
    (in_block(GRACE, enabled=True, preStopDelaySeconds=30), "must be greater than preStopDelaySeconds"),
    (in_block(GRACE, enabled=True, terminationGracePeriodSeconds=10), "gracefulShutdown.terminationGracePeriodSeconds"),
    (
        in_block(GRACE, enabled=True, preStopDelaySeconds=60, terminationGracePeriodSeconds=60),
        "raise terminationGracePeriodSeconds or lower preStopDelaySeconds",
    ),
    (
        in_block("monitoring.serviceMonitor", interval="30"),
        "spec.monitoring.serviceMonitor.interval in body should match",
    ),
    (in_block("monitoring.serviceMonitor", scrapeTimeout="x"), "serviceMonitor.scrapeTimeout in body should match"),
    (in_block(SASL, enabled=True), "spec.security.sasl.credentialsSecretRef.name: Required value"),
    (in_block(SASL, enabled=True, credentialsSecretRef={}), "set name to a Secret with the key password-file"),
    (in_block(SASL, enabled=True, credentialsSecretRef={"name": ""}), "SASL needs credentials"),
    (in_block(SASL, credentialsSecretRef={"name": "n" * 254}), "credentialsSecretRef.name: Too long"),
    (in_block(TLS, enabled=True), "spec.security.tls.certificateSecretRef.name: Required value"),
    (in_block(TLS, enabled=True, certificateSecretRef={"name": ""}), "or give issuerRef"),
    (
        in_block(TLS, enabled=True, certificateSecretRef=SECRET, issuerRef={"name": "ca"}),
        "spec.security.tls.issuerRef: Forbidden",
    ),
    (in_block(TLS, issuerRef={"name": "ca"}), "issuerRef alone does not turn TLS on"),
    (in_block(TLS, enabled=True, issuerRef={}), "spec.security.tls.issuerRef.name: Required value"),
    (in_block(TLS, enabled=True, issuerRef={"name": ""}), "issuerRef.name in body should be at least 1 chars long"),
    (in_block("security.networkPolicy", allowedSources=[{"ipBlock": {}}]), "ipBlock.cidr: Required value"),
    (
        in_block("autoscaling", minReplicas=0),
        "spec.autoscaling.minReplicas in body should be greater than or equal to 1",
    ),
    (
        in_block("autoscaling", maxReplicas=0),
        "spec.autoscaling.maxReplicas in body should be greater than or equal to 1",
    ),
    (in_block("autoscaling", enabled=True), "spec.autoscaling.maxReplicas: Required value"),
    (
        in_block("autoscaling", enabled=True, minReplicas=4, maxReplicas=3),
        "spec.autoscaling.minReplicas: Invalid value",
    ),
    (in_block("autoscaling", minReplicas=4, maxReplicas=3), "lower minReplicas or raise maxReplicas"),
    ({"replicas": 1, "autoscaling": {"enabled": True, "maxReplicas": 3}}, "spec.replicas: Forbidden"),
    ({"replicas": 0, "autoscaling": {"enabled": True, "maxReplicas": 3}}, "set autoscaling.enabled to false"),
    ({"replicas": 1, "replicasFrom": FOLLOW}, "replicasFrom decides the number of pods"),
    ({"replicasFrom": FOLLOW, "autoscaling": {"enabled": True, "maxReplicas": 3}}, "spec.replicasFrom: Forbidden"),
    ({"replicasFrom": {"name": "web"}}, "spec.replicasFrom.kind: Required value"),
    ({"replicasFrom": {"kind": "Deployment"}}, "spec.replicasFrom.name: Required value"),
    ({"replicasFrom": {"kind": "DaemonSet", "name": "web"}}, 'supported values: "Deployment", "StatefulSet"'),
    (in_block("replicasFrom", **FOLLOW, min=-1), "spec.replicasFrom.min in body should be greater than or equal to 0"),
    (in_block("replicasFrom", **FOLLOW, max=65), "spec.replicasFrom.max in body should be less than or equal to 64"),
    (in_block("replicasFrom", **FOLLOW, min=3, max=2), "spec.replicasFrom.min: Invalid value"),
    ({"podIdentity": "stable"}, 'supported values: "Ephemeral", "Stable"'),
    ({"priorityClassName": "n" * 254}, "spec.priorityClassName: Too long"),
    ({"service": {"publishNotReadyAddresses": "yes"}}, "publishNotReadyAddresses in body must be of type boolean"),
    *((({"podLabels": {key: "x"}}), "spec.podLabels: Forbidden: may not have") for key in RESERVED_POD_LABELS),
    ({"podLabels": {"a": "b c"}}, "spec.podLabels.a in body should match"),
    *(
        (({"podAnnotations": {key: "x"}}), "spec.podAnnotations: Forbidden: may not have")
        for key in RESERVED_POD_ANNOTATIONS
    ),
    ({"resources": {"limits": {"memory": "lots"}}}, "spec.resources.limits.memory in body should match"),
]


@pytest.fixture(scope="module")
def refusals(crds: None) -> dict[str, str]:
    """Collect what the API server says of each bad spec in each version, by the object's name; one kubectl for all."""
    bad = {
        f"bad-{number}-{version}": memcached(spec, f"bad-{number}-{version}", f"{MEMCACHED.group}/{version}")
        for number, (spec, _) in enumerate(BAD)
        for version in MEMCACHED.versions
    }
    answers = create(Kubectl("default"), *bad.values(), dry_run=True).stderr.split("Error from server")
    return {name: "".join(answer for answer in answers if f'"{name}"' in answer) for name in bad}


def test_good_specs_are_accepted_in_both_versions(kubectl: Kubectl) -> None:
    objects = [
        memcached(spec, f"good-{number}", api_version) for number, spec in enumerate(GOOD) for api_version in VERSIONS
    ]
    result = create(kubectl, *objects, dry_run=True)
    assert result.stderr == ""
    assert result.returncode == 0


@pytest.mark.parametrize("version", MEMCACHED.versions)
@pytest.mark.parametrize("number", range(len(BAD)), ids=lambda number: BAD[number][1].replace(" ", "-"))
def test_bad_specs_are_refused_with_words_that_help(number: int, version: str, refusals: dict[str, str]) -> None:
    spec, words = BAD[number]
    assert words in refusals[f"bad-{number}-{version}"], spec


@pytest.mark.parametrize(
    ("name", "identity"), [("a", "Ephemeral"), ("a-1", "Stable"), ("n" * 63, "Ephemeral"), ("n" * 52, "Stable")]
)
def test_names_that_fit_are_accepted(name: str, identity: str, kubectl: Kubectl) -> None:
    assert create(kubectl, memcached({"podIdentity": identity}, name), dry_run=True).returncode == 0


@pytest.mark.parametrize(
    ("name", "identity", "words"),
    [
        ("1a", "Ephemeral", "must be a DNS-1035 label"),
        ("a.b", "Ephemeral", "must be a DNS-1035 label"),
        ("n" * 64, "Ephemeral", "of at most 63 characters"),
        ("n" * 53, "Stable", "at most 52 characters with podIdentity Stable"),
    ],
)
def test_names_that_no_service_can_have_are_refused(name: str, identity: str, words: str, kubectl: Kubectl) -> None:
    result = create(kubectl, memcached({"podIdentity": identity}, name), dry_run=True)
    assert "metadata.name: Invalid value" in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        (None, {"podIdentity": "Ephemeral"}, True),
        ({"podIdentity": "Ephemeral"}, {"podIdentity": None}, True),
        ({"podIdentity": "Stable"}, {"replicas": 2}, True),
        (None, {"podIdentity": "Stable"}, False),
        ({}, {"podIdentity": "Stable"}, False),
        ({"podIdentity": "Stable"}, {"podIdentity": "Ephemeral"}, False),
        ({"podIdentity": "Stable"}, {"podIdentity": None}, False),
        ({"podIdentity": "Stable"}, None, False),
    ],
)
def test_pod_identity_is_immutable(old: Spec | None, new: Spec | None, *, allowed: bool, kubectl: Kubectl) -> None:
    create(kubectl, memcached(old))
    result = update(kubectl, "mc/test", {"spec": new})
    assert (result.returncode == 0) is allowed, result.stderr
    if not allowed:
        assert "spec.podIdentity: Invalid value" in result.stderr
        assert "is immutable" in result.stderr


# The same CRD under another group, so that it can be installed without its rules first; each object breaks one of them.
OLDER = dataclasses.replace(MEMCACHED, group="older.example.com", short_names=())
OLDER_SPECS: dict[str, Spec] = {
    "older.name": {},
    "older-size": {"memcached": {"maxItemSize": "512m"}},
    "older-budget": {"replicas": 1, **in_block(BUDGET, enabled=True, minAvailable=1)},
    "older-owners": {"replicas": 1, "autoscaling": {"enabled": True, "maxReplicas": 3}},
}


def without_rules(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: without_rules(child) for key, child in node.items() if key != "x-kubernetes-validations"}
    return [without_rules(child) for child in node] if isinstance(node, list) else node


@pytest.fixture(scope="module")
def older() -> Iterator[Kubectl]:
    """Make objects that are older than the rules of their CRD."""
    kubectl = Kubectl("default")
    name = f"crd/{OLDER.crd_name}"

    def refuses_by_rules() -> None:
        bad = memcached({"replicas": 1, "replicasFrom": FOLLOW}, "new", OLDER.api_version)
        assert "spec.replicas: Forbidden" in create(kubectl, bad, dry_run=True).stderr

    kubectl.install(json.dumps(without_rules(crd(OLDER))))
    objects = [memcached(spec, name, OLDER.api_version) for name, spec in OLDER_SPECS.items()]
    eventually(lambda: kubectl.apply(*objects))
    kubectl.install(json.dumps(crd(OLDER)))
    eventually(refuses_by_rules)
    yield kubectl
    kubectl("delete", name)


@pytest.mark.parametrize("name", OLDER_SPECS)
def test_objects_older_than_a_rule_can_still_be_updated(name: str, older: Kubectl) -> None:
    patches: list[dict[str, Any]] = [
        {"metadata": {"finalizers": []}},
        {"spec": {"memcached": {"threads": 8}, "image": "memcached:1.6.38"}},
    ]
    for patch in patches:
        result = update(older, f"{OLDER.crd_name}/{name}", patch)
        assert result.returncode == 0, result.stderr


def test_objects_older_than_a_rule_are_held_to_the_other_rules(older: Kubectl) -> None:
    scaled = {"enabled": True, "maxReplicas": 3}
    result = update(older, f"{OLDER.crd_name}/older-size", {"spec": {"replicas": 1, "autoscaling": scaled}})
    assert "spec.replicas: Forbidden" in result.stderr


def test_an_older_object_that_was_made_good_stays_good(older: Kubectl) -> None:
    name = f"{OLDER.crd_name}/older-owners"
    assert update(older, name, {"spec": {"replicas": None}}).returncode == 0
    assert "spec.replicas: Forbidden" in update(older, name, {"spec": {"replicas": 1}}).stderr


def test_scale_changes_spec_replicas_within_the_rules(kubectl: Kubectl) -> None:
    budget = in_block(BUDGET, enabled=True, minAvailable=2)
    create(kubectl, memcached({"replicas": 3, **budget}))
    for replicas in (5, 0):
        kubectl("scale", "mc/test", f"--replicas={replicas}")
        assert kubectl("get", "mc/test", "-o", "jsonpath={.spec.replicas}").stdout == str(replicas)
    refused = kubectl("scale", "mc/test", "--replicas=2", check=False)
    assert "must be less than replicas" in refused.stderr


def test_status_is_a_subresource_and_fills_the_columns(kubectl: Kubectl) -> None:
    condition = {
        "type": "Available",
        "status": "True",
        "reason": "Available",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "conditions": [condition],
        "readyReplicas": 2,
        "replicas": 3,
        "selector": "app.kubernetes.io/instance=test",
        "observedGeneration": 1,
        "serverList": ["test.default:11211"],
    }
    create(kubectl, {**memcached({"replicas": 3}), "status": status})
    patch = json.dumps({"status": status})
    assert "status" not in json.loads(kubectl("get", "mc/test", "-o", "json").stdout)
    kubectl("patch", "mc/test", "--subresource=status", "--type=merge", "-p", patch)
    assert json.loads(kubectl("get", "mc/test", "-o", "json").stdout)["status"] == status
    header, row = (line.split() for line in kubectl("get", "mc/test").stdout.splitlines())
    assert header == ["NAME", "REPLICAS", "READY", "AVAILABLE", "AGE"]
    assert row[:4] == ["test", "3", "2", "True"]
    scale = json.loads(kubectl("get", "mc/test", "--subresource=scale", "-o", "json").stdout)
    assert scale["status"] == {"replicas": 3, "selector": "app.kubernetes.io/instance=test"}
    for wrong in ({"status": "Maybe"}, {"reason": ""}, {"reason": "two words"}, {"lastTransitionTime": "today"}):
        bad = json.dumps({"status": {"conditions": [{**condition, **wrong}]}})
        assert kubectl("patch", "mc/test", "--subresource=status", "--type=merge", "-p", bad, check=False).returncode


def test_writers_of_different_conditions_leave_each_other_alone(kubectl: Kubectl) -> None:
    create(kubectl, memcached({}))
    for writer, condition in (("memop-memcached", "Ready"), ("memop-sync", "ReplicasSynced")):
        entry = {
            "type": condition,
            "status": "True",
            "reason": "Test",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        manifest = json.dumps({**memcached(None), "status": {"conditions": [entry]}})
        arguments = ("apply", "--server-side", "--subresource=status", f"--field-manager={writer}", "-f", "-")
        kubectl(*arguments, input=manifest)
    types = kubectl("get", "mc/test", "-o", "jsonpath={.status.conditions[*].type}").stdout
    assert types.split() == ["Ready", "ReplicasSynced"]
