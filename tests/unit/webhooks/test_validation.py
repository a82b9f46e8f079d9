"""Every rule has an object that breaks it, and says of it what the table says; good objects pass."""

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from memop.api.memcached import MEMCACHED, MemcachedSpec
from memop.api.schema import crd
from memop.webhooks.defaulting import default
from memop.webhooks.validation import MAX_SPEC, Effective, Policy, effective, validate
from tests.apiserver.test_crd import BAD as REFUSED_BY_THE_CRD
from tests.apiserver.test_crd import GOOD as GOOD_FOR_THE_CRD
from tests.unit.webhooks.bad_objects import BAD, Bad

Json = Any
SAMPLES = sorted((Path(__file__).parents[3] / "manifests/samples").glob("*.yaml"))
STRICT, PERMISSIVE = Policy(), Policy(allow_privileged_pods=True)


def memcached(spec: Json, name: str = "pool") -> Json:
    return {"metadata": {"name": name}, "spec": spec}


def errors(new: Json, old: Json = None, policy: Policy = STRICT) -> list[str]:
    return [str(error) for error in validate(new, old, policy=policy).errors]


def warnings(spec: Json, old: Json = None, policy: Policy = STRICT) -> list[str]:
    verdict = validate(memcached(spec), None if old is None else memcached(old), policy=policy)
    assert verdict.errors == []
    return verdict.warnings


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.errors[0].partition(": ")[0])
def test_a_bad_object_is_told_everything_at_once(bad: Bad) -> None:
    assert errors(bad.manifest) == bad.errors


def test_the_table_is_long_and_says_nothing_twice() -> None:
    assert len(BAD) > 60
    assert all(len(set(bad.errors)) == len(bad.errors) for bad in BAD)


def _rules(node: Json, path: str = "") -> Iterator[tuple[str, str]]:
    for rule in node.get("x-kubernetes-validations", ()):
        yield path.removeprefix(".") + rule.get("fieldPath", ""), rule["message"]
    for name, child in node.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}")


OURS = [
    (field.removeprefix("."), words)
    for field, words in _rules(crd(MEMCACHED)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    if not words.startswith("spec.status")
]


@pytest.mark.parametrize(("field", "words"), OURS)
def test_what_the_crd_refuses_by_cel_is_refused_here_in_the_same_words(field: str, words: str) -> None:
    told = [error for bad in BAD for error in bad.errors]
    told += errors(memcached({"podIdentity": "Stable"}), memcached({}))
    assert any(error.startswith(f"{field}: ") and error.endswith(f": {words}") for error in told)


def test_cel_rules_are_found() -> None:
    assert len(OURS) > 15


# The API server knows the embedded types of Kubernetes itself.
NOT_OURS = ("ipBlock.cidr: Required value", "spec.resources.limits.memory in body should match")


@pytest.mark.parametrize(("spec", "words"), [row for row in REFUSED_BY_THE_CRD if row[1] not in NOT_OURS])
def test_what_the_crd_refuses_is_refused_here_too(spec: Json, words: str) -> None:
    assert words in "\n".join(errors(memcached(spec)))


# What the CRD's rules leave to the webhook.
MORE_THAN_THE_CRD = ("spec.resources.requests.cpu: Required value", "must be less than or equal to memory limit")


@pytest.mark.parametrize("spec", GOOD_FOR_THE_CRD)
def test_what_the_crd_takes_is_taken_but_for_what_it_leaves_to_the_webhook(spec: Json) -> None:
    assert [e for e in errors(memcached(spec)) if not any(words in e for words in MORE_THAN_THE_CRD)] == []


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {},
        {"resources": {"limits": {"memory": "96Mi"}}},
        {"resources": {"limits": {"memory": "0.1G"}, "requests": {"memory": "100M"}}, "memcached": {"maxMemoryMB": 63}},
        {"resources": {"requests": {"memory": "1Mi"}}},
        {"memcached": {"extraArgs": ["-o", "modern,no_hashexpand", "-n48", "-f", "-m", "-MF", "--", "-m64"]}},
        {"memcached": {"extraArgs": ["--slab-min-size", "--memory-limit=1", "ssl_key", "-"]}},
        {"autoscaling": {"enabled": True, "maxReplicas": 3}, "resources": {"limits": {"cpu": 1}}},
        {"security": {"podSecurityContext": {"runAsUser": 1000, "runAsNonRoot": False, "fsGroup": 0}}},
        {
            "security": {
                "podSecurityContext": {"runAsUser": 1000},
                "containerSecurityContext": {"runAsNonRoot": False, "capabilities": {"drop": ["ALL"]}},
            }
        },
    ],
)
def test_good_objects_pass(spec: Json) -> None:
    assert errors(memcached(spec)) == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_pass_without_a_warning(path: Path) -> None:
    verdict = validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert (verdict.errors, verdict.warnings) == ([], [])


def test_with_the_flag_security_contexts_are_the_users_own_affair() -> None:
    context = {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}}
    spec = {"security": {"containerSecurityContext": context}}
    assert len(errors(memcached(spec))) == 3
    assert errors(memcached(spec), policy=PERMISSIVE) == []


def test_a_name_that_the_api_server_will_choose_is_not_judged() -> None:
    assert errors({"metadata": {"generateName": "pool-"}}) == []


# --- Updates


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.name.startswith("bad-")], ids=lambda bad: bad.errors[0])
def test_an_object_that_was_bad_before_can_be_changed_elsewhere(bad: Bad) -> None:
    new = deepcopy(bad.manifest)
    new["spec"]["nodeSelector"] = {"disk": "ssd"}
    assert errors(new, bad.manifest) == []
    assert errors(new, memcached({}, bad.name)) == bad.errors


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            {"replicas": 70},
            {"replicas": 70, "resources": {"limits": {"memory": "1Mi"}}},
            "spec.resources.limits.memory",
        ),
        (
            {"resources": {"limits": {"memory": "90Mi"}}},
            {"resources": {"limits": {"memory": "80Mi"}}},
            'Invalid value: "80Mi"',
        ),
        (
            {"resources": {"limits": {"memory": "90Mi"}}},
            {"resources": {"limits": {"memory": "90Mi"}}, "memcached": {"maxMemoryMB": 1024}},
            "at least 1056Mi",
        ),
        (
            {"security": {"containerSecurityContext": {"capabilities": {"add": ["NET_RAW"]}}}},
            {"security": {"containerSecurityContext": {"capabilities": {"add": ["NET_RAW", "SYS_ADMIN"]}}}},
            "nor SYS_ADMIN",
        ),
        ({"memcached": {"extraArgs": ["-m1"]}}, {"memcached": {"extraArgs": ["-F", "-m1", "-t1"]}}, "extraArgs[2]"),
        (
            {"podLabels": {"app.kubernetes.io/name": "x"}},
            {"podAnnotations": {"memcached.c5c3.io/secret-hash": ""}},
            "podA",
        ),
    ],
)
def test_only_what_an_update_makes_worse_is_refused(old: Json, new: Json, words: str) -> None:
    told = errors(memcached(new), memcached(old))
    assert len(told) == 1
    assert words in told[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"resources": {"limits": {"memory": "80Mi"}}}, {"resources": {"limits": {"memory": "90Mi"}}}),
        ({"memcached": {"extraArgs": ["-m1", "-F"]}}, {"memcached": {"extraArgs": ["-F", "-C", "-m1"]}}),
    ],
)
def test_what_gets_better_or_moves_is_taken(old: Json, new: Json) -> None:
    assert errors(memcached(new), memcached(old)) == []


def test_pod_identity_and_names_after_creation() -> None:
    stable = {"podIdentity": "Stable"}
    assert "spec.podIdentity: Invalid value: null: is immutable" in errors(memcached({}), memcached(stable))[0]
    assert errors(memcached({}), memcached({"podIdentity": "Ephemeral"})) == []
    assert errors(memcached(stable, "n" * 60), memcached(stable, "n" * 60)) == []


# --- Warnings

SASL = {"enabled": True, "credentialsSecretRef": {"name": "s"}}
TLS = {"enabled": True, "certificateSecretRef": {"name": "s"}}


def budget(**fields: Json) -> Json:
    return {"highAvailability": {"podDisruptionBudget": {"enabled": True, **fields}}}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"image": "memcached"}, ["spec.image: no tag"]),
        ({"image": "r.example:5000/memcached"}, ["spec.image: no tag"]),
        ({"image": "memcached:latest"}, ["spec.image: latest"]),
        ({"image": "memcached@sha256:abc"}, []),
        ({"image": "r.example:5000/memcached:1.6"}, []),
        ({"monitoring": {"enabled": True, "exporterImage": "e:latest"}}, ["spec.monitoring.exporterImage: latest"]),
        (
            {"security": {"sasl": SASL, "tls": TLS}, "monitoring": {"enabled": True}},
            ["the exporter cannot authenticate"],
        ),
        ({"security": {"sasl": SASL}}, ["spec.security.sasl: passwords cross the network in plain text"]),
        ({"security": {"tls": {**TLS, "allowPlaintext": True}}}, ["spec.security.tls.allowPlaintext: port 11211"]),
        ({"security": {"networkPolicy": {"enabled": True}}}, ["allowedSources: empty, which admits everyone"]),
        ({"replicas": 3, **budget(maxUnavailable=0)}, ["maxUnavailable: no pod may ever be away"]),
        ({"replicas": 3, **budget(minAvailable="100%")}, ["minAvailable: with 3 pods all must stay"]),
        (budget(minAvailable="50%"), ["minAvailable: with 1 pods all must stay"]),
        ({"replicas": 4, **budget(minAvailable="75%")}, []),
        ({"replicas": 0, **budget(minAvailable="75%")}, []),
        (
            {
                "autoscaling": {"enabled": True, "maxReplicas": 3},
                "resources": {"limits": {"cpu": 1}},
                **budget(minAvailable=1),
            },
            ["minAvailable: with 1 pods all must stay"],
        ),
        ({"memcached": {"extraArgs": ["-o modern"]}}, ["extraArgs[0]: one argument with a space"]),
        (
            {"memcached": {"extraArgs": ["-q", "--new"]}},
            ["[0]: memcached 1.6 knows no such flag", "[1]: memcached 1.6"],
        ),
        ({"memcached": {"extraArgs": ["-F", "-o"]}}, ["extraArgs[1]: -o wants a value"]),
        ({"memcached": {"extraArgs": ["-A"]}}, ["-A lets every client stop the pod"]),
        (
            {
                "autoscaling": {"enabled": True, "maxReplicas": 3},
                "resources": {"limits": {"cpu": 1}},
                "monitoring": {"enabled": True},
            },
            ["spec.monitoring.exporterResources.requests.cpu: without it"],
        ),
    ],
)
def test_unwise_things_are_warned_of(spec: Json, words: list[str]) -> None:
    told = warnings(spec)
    assert len(told) == len(words)
    assert all(word in one for word, one in zip(words, told, strict=True))
    assert all(len(one) <= 256 for one in told), "the API server cuts longer ones"


@pytest.mark.parametrize(("limit", "warned"), [("96Mi", True), ("104Mi", True), ("105Mi", False), ("1Gi", False)])
def test_a_limit_close_to_derived_memory_is_warned_of(limit: str, warned: bool) -> None:
    policy = Policy(derived_memory=lambda config, tls: config.max_memory_mb + (72 if tls else 36))
    spec = {"resources": {"limits": {"memory": limit}}}
    words = (
        "spec.resources.limits.memory: close to what a full cache needs (100Mi by the operator's formula): "
        "memcached may be killed; raise it, or leave memory out"
    )
    assert warnings(spec, policy=policy) == ([words] if warned else [])


def test_the_end_of_autoscaling_tells_the_size_that_follows() -> None:
    old = {"autoscaling": {"enabled": True, "maxReplicas": 9}, "resources": {"limits": {"cpu": 1}}}
    assert warnings({}, old) == ["spec.replicas: autoscaling ends, and the pool goes to 1 pods"]
    assert warnings({"replicas": 7}, old) == ["spec.replicas: autoscaling ends, and the pool goes to 7 pods"]
    assert warnings({"replicasFrom": {"kind": "Deployment", "name": "a"}}, old) == []


# --- A size beside replicasFrom, which memop writes there itself

FOLLOW: Json = {"replicasFrom": {"kind": "Deployment", "name": "web"}}
SECOND_SIZE = "spec.replicas: Forbidden: replicasFrom decides the number of pods: remove replicas or replicasFrom"


@pytest.mark.parametrize(
    ("new", "old", "refused"),
    [
        ({"replicas": 3, **FOLLOW}, None, True),
        ({**FOLLOW}, None, False),
        ({"replicas": 3, **FOLLOW}, {**FOLLOW}, True),
        ({"replicas": 4, **FOLLOW}, {"replicas": 3, **FOLLOW}, True),
        ({"replicas": 3, **FOLLOW, "image": "memcached:1.6.38"}, {"replicas": 3, **FOLLOW}, False),
        ({"replicas": 3, "replicasFrom": {"kind": "StatefulSet", "name": "web"}}, {"replicas": 3, **FOLLOW}, False),
        ({**FOLLOW}, {"replicas": 3, **FOLLOW}, False),
        ({"replicas": 3, **FOLLOW}, {"replicas": 3}, False),
        ({"replicas": 4, **FOLLOW}, {"replicas": 3}, True),
        ({"replicas": 4}, {"replicas": 3, **FOLLOW}, False),
        ({"replicas": 70, **FOLLOW}, {"replicas": 70}, False),
    ],
)
def test_a_size_is_refused_where_a_manifest_gives_one_beside_replicas_from(new: Json, old: Json, refused: bool) -> None:
    assert errors(memcached(new), None if old is None else memcached(old)) == ([SECOND_SIZE] if refused else [])


def test_the_size_that_memop_wrote_is_no_fault_of_a_stored_spec() -> None:
    assert effective({"replicas": 3, **FOLLOW}).errors == []


def test_a_size_that_is_left_when_replicas_from_comes_is_warned_of() -> None:
    words = "spec.replicas: replicasFrom decides the number of pods from now on: leave it out of the manifest"
    both = {"replicas": 3, **FOLLOW}
    assert warnings(both, {"replicas": 3}) == [words]
    assert warnings(both, both) == warnings(FOLLOW, both) == warnings(FOLLOW, {"replicas": 3}) == []


# --- However much is sent

LONG = MAX_SPEC // 8


def within_bounds(spec: Json, old: Json = None) -> list[str]:
    """The errors, told in time and in few words."""
    start = time.monotonic()
    verdict = validate(memcached(spec), None if old is None else memcached(old))
    effective(spec)
    assert time.monotonic() - start < 3
    told = [str(error) for error in verdict.errors]
    assert all(len(line) < 2000 and line.isprintable() for line in (*told, *verdict.warnings))
    assert max(len(told), len(verdict.warnings)) <= 50
    return told


@pytest.mark.parametrize(
    "spec",
    [
        {"memcached": {"extraArgs": ["-m1"] * LONG}},
        {"memcached": {"extraArgs": ["-v v"] * LONG}},
        {"memcached": {"extraArgs": ["-" + "d" * (7 * LONG)]}},
        {"memcached": {"extraArgs": ["-o", ",".join(f"ssl_{number}" for number in range(LONG // 2))]}},
        {"memcached": {"extraArgs": ["-o", "ssl_" + "x" * 5 * LONG]}},
        {"security": {"containerSecurityContext": {"capabilities": {"add": [str(n) for n in range(LONG // 2)]}}}},
        {"security": {"podSecurityContext": {"sysctls": ["x"] * LONG}}},
        {"podAnnotations": {f"{n}/" + "k" * LONG: "x" for n in range(5)}},
        {"podLabels": {str(number): "?" for number in range(LONG // 2)}},
        {"resources": {"limits": {str(number): "x" for number in range(LONG // 2)}}},
        {"resources": {"limits": {"memory": "9" * 7 * LONG}}},
        {"image": "i" * 7 * LONG},
        {"priorityClassName": "é" * 3 * LONG},
    ],
)
def test_much_is_judged_in_time_and_in_few_words(spec: Json) -> None:
    within_bounds(spec)
    within_bounds(spec, {"image": "i" * 7 * LONG})


@pytest.mark.parametrize("spec", [{"image": "i" * 3_000_000}, {"memcached": {"extraArgs": ["-" + "v" * 3_000_000]}}])
def test_too_much_is_refused_unseen_and_not_built(spec: Json) -> None:
    words = "spec: Too long: may not be more than 131072 bytes"
    assert within_bounds(spec) == within_bounds(spec, {}) == [words]
    assert within_bounds(spec, spec) == []
    assert effective(spec).spec is None
    assert [str(error) for error in effective(spec).errors] == [words]


def test_of_many_errors_the_number_is_told() -> None:
    told = within_bounds({"memcached": {"extraArgs": ["-m1"] * 1000}})
    assert told[48].startswith("spec.memcached.extraArgs[48]: ")
    assert told[49] == "spec: Forbidden: 951 more errors like these: mend them first"


@pytest.mark.parametrize(
    "value", ["1e999999999", "-1e999999", "1E99999", "NaN", "Infinity", "1_000", "\u0661", " 1", "2ki", ""]
)
@pytest.mark.parametrize("block", ["limits", "requests"])
def test_a_quantity_is_what_kubernetes_takes_for_one(value: str, block: str) -> None:
    spec = {"resources": {block: {"memory": value}}}
    expected = (
        f"spec.resources.{block}.memory: Invalid value: {json.dumps(value, ensure_ascii=False)}: must be a quantity"
    )
    assert any(line.startswith(expected) for line in within_bounds(spec))


def test_what_is_told_can_be_printed() -> None:
    args = ["-m\x1b[2J", "-o", "ssl_\n\u202e"]
    spec = {"memcached": {"extraArgs": args}, "podLabels": {"a\nb": "\x07"}, "image": "i\n"}
    told = within_bounds(spec)
    assert told[0].startswith('spec.podLabels.a\\u000ab: Invalid value: "\\u0007": spec.podLabels.a\\u000ab in body')
    assert told[1].startswith('spec.memcached.extraArgs[0]: Forbidden: "-m\\u001b[2J" is -m: the operator sets it')
    assert told[2].startswith("spec.memcached.extraArgs[1]: Forbidden: -o ssl_\\u000a\\u202e: the operator sets it")
    assert len(told) == 3


# --- Without a webhook


def test_a_stored_spec_is_defaulted_and_judged_as_admission_does() -> None:
    result = effective({"security": {"containerSecurityContext": {"privileged": True}}, "replicas": 70})
    assert result.spec["memcached"]["maxMemoryMB"] == 64
    assert [(error.field, error.security) for error in result.errors] == [
        ("spec.replicas", False),
        ("spec.security.containerSecurityContext.privileged", True),
    ]
    assert effective({}).errors == []
    assert effective(None) == effective({})


POD, CONTAINER = "security.podSecurityContext", "security.containerSecurityContext"
PROFILE = {"type": "Localhost", "localhostProfile": "p"}
APPARMOR = "container.apparmor.security.beta.kubernetes.io"

# A spec, and the fields that are refused and left out.
DANGEROUS: list[tuple[Json, list[str]]] = [
    ({CONTAINER: {"privileged": True}}, [f"{CONTAINER}.privileged"]),
    ({CONTAINER: {"privileged": "true"}}, [f"{CONTAINER}.privileged"]),
    ({CONTAINER: {"allowPrivilegeEscalation": True}}, [f"{CONTAINER}.allowPrivilegeEscalation"]),
    ({CONTAINER: {"allowPrivilegeEscalation": "yes"}}, [f"{CONTAINER}.allowPrivilegeEscalation"]),
    *(({at: {"runAsUser": zero}}, [f"{at}.runAsUser"]) for at in (POD, CONTAINER) for zero in (0, 0.0)),
    ({POD: {"runAsUser": 1000}, CONTAINER: {"runAsUser": 0}}, [f"{CONTAINER}.runAsUser"]),
    *(({at: {"runAsNonRoot": no}}, [f"{at}.runAsNonRoot"]) for at in (POD, CONTAINER) for no in (False, "no")),
    ({POD: {"runAsUser": "1000", "runAsNonRoot": False}}, [f"{POD}.runAsNonRoot"]),
    ({POD: {"runAsNonRoot": False}, CONTAINER: {"runAsUser": 1000}}, [f"{POD}.runAsNonRoot"]),
    ({POD: {"runAsUser": 0, "runAsNonRoot": False}}, [f"{POD}.runAsUser", f"{POD}.runAsNonRoot"]),
    ({POD: {"runAsUser": 0}, CONTAINER: {"runAsNonRoot": False}}, [f"{CONTAINER}.runAsNonRoot", f"{POD}.runAsUser"]),
    *(
        ({CONTAINER: {"capabilities": {"add": added}}}, [f"{CONTAINER}.capabilities.add"])
        for added in (["SYS_ADMIN"], ["NET_BIND_SERVICE", "ALL"], ["CAP_NET_BIND_SERVICE"], [0], "SYS_ADMIN", {"a": 1})
    ),
    ({CONTAINER: {"procMount": "Unmasked"}}, [f"{CONTAINER}.procMount"]),
    ({CONTAINER: {"procMount": ["Unmasked"]}}, [f"{CONTAINER}.procMount"]),
    *(
        ({at: {block: {name: value}}}, [f"{at}.{block}.{name}"])
        for at in (POD, CONTAINER)
        for block, name, value in (
            ("windowsOptions", "hostProcess", True),
            ("windowsOptions", "hostProcess", 1),
            ("seLinuxOptions", "type", "spc_t"),
            ("seLinuxOptions", "type", 5),
            ("seLinuxOptions", "user", "root"),
            ("seLinuxOptions", "role", "sysadm_r"),
            ("seccompProfile", "type", "Unconfined"),
            ("seccompProfile", "type", ""),
            ("seccompProfile", "type", ["RuntimeDefault"]),
            ("appArmorProfile", "type", "Unconfined"),
        )
    ),
    *(
        ({POD: {"sysctls": sysctls}}, [f"{POD}.sysctls"])
        for sysctls in (
            [{"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": "kernel.msgmax", "value": "1"}],
            [{"name": "net/ipv4/tcp_syncookies", "value": "1"}],
            ["kernel.msgmax"],
            "kernel.msgmax",
        )
    ),
    *(
        ({"podAnnotations": {"a": "b", f"{APPARMOR}/memcached": profile}}, [f"podAnnotations[{APPARMOR}/memcached]"])
        for profile in ("unconfined", "Localhost/x")
    ),
    *(({"memcached": {"extraArgs": ["-n", "48", *given]}}, ["memcached.extraArgs[2]"]) for given in (["-m1"], ["-vd"])),
    ({"memcached": {"extraArgs": ["--list=::"]}}, ["memcached.extraArgs[0]"]),
]
HARMLESS: list[Json] = [
    {POD: {"runAsUser": 1000, "runAsNonRoot": False}},
    {POD: {"runAsUser": 1000}, CONTAINER: {"runAsNonRoot": False}},
    {CONTAINER: {"runAsUser": 1000, "runAsNonRoot": False}},
    {POD: {"runAsGroup": 0, "fsGroup": 0, "supplementalGroups": [0], "supplementalGroupsPolicy": "Strict"}},
    {CONTAINER: {"privileged": False, "allowPrivilegeEscalation": False, "capabilities": {"add": []}}},
    {CONTAINER: {"privileged": None, "allowPrivilegeEscalation": None, "capabilities": {"add": None}}},
    {CONTAINER: {"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["NET_RAW"]}}},
    {CONTAINER: {"readOnlyRootFilesystem": False, "procMount": "Default"}},
    {CONTAINER: {"seccompProfile": PROFILE, "appArmorProfile": PROFILE, "seLinuxOptions": {"level": "s0:c1"}}},
    {POD: {"seLinuxOptions": {"type": "container_t", "user": "", "role": None}, "seccompProfile": {}}},
    {POD: {"windowsOptions": {"hostProcess": False, "runAsUserName": "u"}, "seLinuxChangePolicy": "Recursive"}},
    {POD: {"sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "60"}]}},
    {"podAnnotations": {f"{APPARMOR}/memcached": "localhost/p", f"{APPARMOR}/exporter": "runtime/default"}},
    {"podAnnotations": {f"{APPARMOR}/memcached": ""}},
]


def spread(spec: Json) -> Json:
    """`{"a.b": c}` as `{"a": {"b": c}}`."""
    full: Json = {}
    for path, value in deepcopy(spec).items():
        *blocks, last = path.split(".") if path.startswith("security.") else [path]
        node = full
        for block in blocks:
            node = node.setdefault(block, {})
        node[last] = value
    return full


@pytest.mark.parametrize(("spec", "fields"), DANGEROUS)
def test_what_is_dangerous_is_refused_and_left_out(spec: Json, fields: list[str]) -> None:
    full = spread(spec)
    judged = effective(full)
    dangerous = [error for error in judged.errors if error.security]
    assert {error.field for error in dangerous} == {f"spec.{field}" for field in fields}
    assert [str(error) for error in dangerous] == errors(memcached(full))[-len(dangerous) :]
    assert not any(error.security for error in effective(judged.spec).errors)
    assert full == spread(spec), "what is stored stays as it is"
    privileged = effective(full, policy=PERMISSIVE)
    if "extraArgs" in fields[0]:
        assert "extraArgs" not in privileged.spec["memcached"]
    else:
        assert privileged.errors == []
        assert privileged.spec == default({"spec": full})["spec"]


def test_no_more_than_the_dangerous_is_left_out() -> None:
    context = {"privileged": True, "seLinuxOptions": {"type": "spc_t", "level": "s0:c1"}, "runAsUser": 7}
    profile = {"type": "Unconfined", "localhostProfile": "p"}
    full = spread({CONTAINER: context, POD: {"seccompProfile": profile, "fsGroup": 7}, "replicas": 70, "image": "i:1"})
    assert (
        effective(full).spec
        == default(
            {
                "spec": {
                    "security": {
                        "containerSecurityContext": {"seLinuxOptions": {"level": "s0:c1"}, "runAsUser": 7},
                        "podSecurityContext": {"fsGroup": 7},
                    },
                    "replicas": 70,
                    "image": "i:1",
                }
            }
        )["spec"]
    )
    annotations = {"a": "b", f"{APPARMOR}/memcached": "unconfined"}
    assert effective({"podAnnotations": annotations}).spec["podAnnotations"] == {"a": "b"}


@pytest.mark.parametrize("spec", HARMLESS)
def test_what_is_harmless_is_taken_as_it_is(spec: Json) -> None:
    full = spread(spec)
    assert effective(full) == Effective(default({"spec": full})["spec"], [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99999) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def odd_objects(draw: st.DrawFn) -> Json:
    """An object of the table with something else in the place of one of its values."""
    full = deepcopy(draw(st.sampled_from(BAD)).manifest)
    node, step = full, "spec"
    while isinstance(node.get(step), dict) and node[step] and draw(st.booleans()):
        node = node[step]
        step = draw(st.sampled_from(sorted(node)))
    node[step] = draw(JSON)
    return full


CONTEXT = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from([None, True, False]) | JSON for name in ("privileged", "allowPrivilegeEscalation")},
        "runAsNonRoot": st.sampled_from([None, True, False]) | JSON,
        "runAsUser": st.sampled_from([0, 1, 1000]) | JSON,
        "procMount": st.sampled_from(["", "Default", "Unmasked"]) | JSON,
        "capabilities": st.fixed_dictionaries({"add": JSON | st.lists(st.sampled_from(["NET_BIND_SERVICE", "ALL"]))})
        | JSON,
        "sysctls": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["net.ipv4.tcp_syncookies", "a"])})) | JSON,
        **{
            block: st.fixed_dictionaries({"type": st.sampled_from(["", "Unconfined", "Localhost", "spc_t"]) | JSON})
            | JSON
            for block in ("seccompProfile", "appArmorProfile", "seLinuxOptions", "windowsOptions")
        },
    },
)
ARGUMENTS = st.lists(st.sampled_from(["-m", "-m1", "64", "--", "-o", "ssl_key=x", "--mem=1", "-vd", "-n", ""]) | JSON)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "security": st.fixed_dictionaries(
            {}, optional={"podSecurityContext": CONTEXT | JSON, "containerSecurityContext": CONTEXT | JSON}
        )
        | JSON,
        "memcached": st.fixed_dictionaries({"extraArgs": ARGUMENTS | JSON}) | JSON,
        "podAnnotations": st.dictionaries(st.sampled_from([f"{APPARMOR}/a", "a"]), JSON | st.just("unconfined")) | JSON,
        **dict.fromkeys(("replicas", "resources", "highAvailability", "monitoring", "autoscaling", "service"), JSON),
    },
)


@given(SPECS | JSON | odd_objects().map(lambda full: full.get("spec")), st.booleans())
def test_whatever_is_stored_is_judged_and_nothing_dangerous_is_left(spec: Json, privileged: bool) -> None:
    policy = PERMISSIVE if privileged else STRICT
    judged = effective(spec, policy=policy)
    assert not any(error.security for error in effective(judged.spec, policy=policy).errors)
    assert all(isinstance(str(error), str) for error in judged.errors)
    try:
        MemcachedSpec.model_validate(judged.spec)
    except ValidationError:
        assert judged.errors, "what cannot be read is an error"


@given(odd_objects(), st.none() | odd_objects())
def test_no_shape_of_an_object_is_too_odd_to_be_judged(new: Json, old: Json) -> None:
    assert all(isinstance(line, str) for line in errors(new, old))
