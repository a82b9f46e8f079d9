"""A `MemcachedCluster` is defaulted and judged as its pool's `Memcached` is, and by what its proxy can do."""

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

from memop.api.memcached_cluster import MEMCACHED_CLUSTER, MemcachedClusterSpec
from memop.api.schema import crd
from memop.webhooks import validation
from memop.webhooks.cluster import MAX_CLUSTER_SPEC, ClusterPolicy, default, effective, pool, validate
from memop.webhooks.patch import diff
from memop.webhooks.validation import Effective, Policy
from tests.unit.webhooks.bad_clusters import BAD_CLUSTERS, BadCluster
from tests.unit.webhooks.bad_objects import BAD, Bad
from tests.unit.webhooks.test_validation import DANGEROUS, HARMLESS, JSON, SPECS, spread

Json = Any

SAMPLES = sorted((Path(__file__).parents[3] / "manifests/samples/cluster").glob("*.yaml"))
STRICT, PERMISSIVE = ClusterPolicy(), ClusterPolicy(allow_privileged_pods=True)
PROVIDED = ClusterPolicy(twemproxy_image="registry.example.com/twemproxy:0.5.0")

CONFIG = {"maxMemoryMB": 64, "maxConnections": 1024, "threads": 4, "maxItemSize": "1m", "verbosity": 0}
PROXY = {"replicas": 2, "port": 11211, "readPolicy": "failover", "writePolicy": "fastest"}
FULL = {"shards": 5, "replicasPerShard": 1, "memcached": {"memcached": CONFIG}, "proxy": PROXY}
TWEMPROXY = {"hash": "fnv1a_64", "distribution": "ketama", "serverFailureLimit": 1, "serverRetryTimeout": 2000}
RING = {"image": "twemproxy:0.5.0"}
TLS = {"enabled": True, "certificateSecretRef": {"name": "s"}}


def cluster(spec: Json, name: str = "cache") -> Json:
    return {"metadata": {"name": name}, "spec": spec}


def errors(new: Json, old: Json = None, policy: Policy = STRICT) -> list[str]:
    return [str(error) for error in validate(new, old, policy=policy).errors]


def warnings(spec: Json, old: Json = None, policy: Policy = STRICT) -> list[str]:
    verdict = validate(cluster(spec), None if old is None else cluster(old), policy=policy)
    assert verdict.errors == []
    return verdict.warnings


# --- Defaults


@pytest.mark.parametrize(
    ("spec", "stored"),
    [
        (None, FULL),
        ({}, FULL),
        ({"memcached": None, "proxy": None}, FULL),
        ({"shards": 1, "replicasPerShard": 2}, {**FULL, "shards": 1, "replicasPerShard": 2}),
        (
            {"proxy": {"replicas": 0, "port": 80, "readPolicy": "latest", "writePolicy": "all", "mcrouter": {}}},
            {
                **FULL,
                "proxy": {"replicas": 0, "port": 80, "readPolicy": "latest", "writePolicy": "all", "mcrouter": {}},
            },
        ),
        ({"proxy": {"builtin": {}}}, {**FULL, "proxy": {**PROXY, "builtin": {}}}),
        ({"proxy": {"twemproxy": {}}}, {**FULL, "proxy": {**PROXY, "twemproxy": TWEMPROXY}}),
        (
            {"proxy": {"twemproxy": {"hash": "md5"}}},
            {**FULL, "proxy": {**PROXY, "twemproxy": {**TWEMPROXY, "hash": "md5"}}},
        ),
        (
            {"memcached": {"memcached": {"threads": 8}, "highAvailability": {"gracefulShutdown": {"enabled": True}}}},
            {
                **FULL,
                "memcached": {
                    "memcached": {**CONFIG, "threads": 8},
                    "highAvailability": {
                        "antiAffinityPreset": "soft",
                        "gracefulShutdown": {
                            "enabled": True,
                            "preStopDelaySeconds": 10,
                            "terminationGracePeriodSeconds": 30,
                        },
                    },
                },
            },
        ),
    ],
)
def test_defaults_that_are_stored(spec: Json, stored: Json) -> None:
    given = deepcopy(spec)
    assert default({"spec": spec})["spec"] == stored
    assert default({"spec": spec}, {"spec": {"shards": 7}})["spec"] == stored
    assert spec == given, "what came in stays as it is"


@pytest.mark.parametrize("odd", [None, 5, [], {"spec": 5}, {"spec": []}])
def test_odd_shapes_are_left_as_they_are(odd: Json) -> None:
    assert default(odd) == odd


def test_odd_blocks_are_left_as_they_are() -> None:
    odd = {"memcached": 5, "proxy": [], "shards": "many"}
    assert default({"spec": odd})["spec"] == {**odd, "replicasPerShard": 1}
    assert default({"spec": {"proxy": {"twemproxy": 5}}})["spec"]["proxy"] == {**PROXY, "twemproxy": 5}


@pytest.mark.parametrize("bad", BAD_CLUSTERS, ids=lambda bad: bad.errors[0].partition(": ")[0])
def test_defaulting_twice_is_defaulting_once_and_takes_nothing_away(bad: BadCluster) -> None:
    once = default(bad.manifest)
    assert default(once, bad.manifest) == once
    assert {step["op"] for step in diff(bad.manifest, once)} <= {"add"}


# --- The pool


def test_a_copy_is_a_stable_memcached_of_one_pod_a_shard_whose_addresses_are_always_published() -> None:
    given = {"image": "m:1", "service": {"annotations": {"a": "b"}, "publishNotReadyAddresses": False}}
    spec = {"shards": 3, "memcached": given}
    assert pool(spec) == {
        "image": "m:1",
        "replicas": 3,
        "podIdentity": "Stable",
        "service": {"annotations": {"a": "b"}, "publishNotReadyAddresses": True},
    }
    assert given["service"] == {"annotations": {"a": "b"}, "publishNotReadyAddresses": False}
    stable = {"podIdentity": "Stable", "service": {"publishNotReadyAddresses": True}}
    assert pool({}) == pool({"memcached": {}, "shards": 99}) == {**stable, "replicas": 5}
    assert pool({"memcached": {"service": None}}) == {**stable, "replicas": 5, "service": None}, "an error, to be told"


@pytest.mark.parametrize("spec", [{}, *(yaml.safe_load(path.read_text(encoding="utf-8"))["spec"] for path in SAMPLES)])
def test_what_is_good_for_a_cluster_is_good_for_the_memcacheds_it_makes(spec: Json) -> None:
    assert errors(cluster(spec, "n" * 49)) == []
    copy = {"metadata": {"name": "n" * 49 + "-r7"}, "spec": pool(spec)}
    assert validation.validate(copy).errors == []


# What decides on number and names, which a cluster does itself.
SIZE = ("replicas", "replicasFrom", "autoscaling", "podIdentity")


@pytest.mark.parametrize(
    "bad",
    [bad for bad in BAD if bad.name.startswith("bad-") and not bad.spec.keys() & set(SIZE)],
    ids=lambda bad: bad.errors[0].partition(": ")[0],
)
def test_what_a_memcached_may_not_have_a_pool_may_not_have_in_the_same_words(bad: Bad) -> None:
    spec = {"shards": 1, "memcached": bad.spec, "proxy": {"mcrouter": {}}}
    sized = validation.validate({"metadata": {"name": "a"}, "spec": {**bad.spec, "replicas": 1}}).errors
    wanted = [
        str(error)
        .replace(error.field, "spec.memcached" + error.field.removeprefix("spec"))
        .replace("less than replicas (1 when", "less than shards (5 when")
        .replace("raise replicas", "raise shards")
        for error in sized
    ]
    assert wanted
    assert [error for error in errors(cluster(spec)) if "no proxy can authenticate" not in error] == wanted


# --- Errors


@pytest.mark.parametrize("bad", BAD_CLUSTERS, ids=lambda bad: bad.errors[0].partition(": ")[0])
def test_a_bad_object_is_told_everything_at_once(bad: BadCluster) -> None:
    assert errors(bad.manifest) == bad.errors


def test_the_table_is_long_and_says_nothing_twice() -> None:
    assert len(BAD_CLUSTERS) > 60
    assert all(len(set(bad.errors)) == len(bad.errors) for bad in BAD_CLUSTERS)


def _rules(node: Json, path: str = "") -> Iterator[tuple[str, str]]:
    for rule in node.get("x-kubernetes-validations", ()):
        yield path.removeprefix(".") + rule.get("fieldPath", ""), rule["message"]
    for name, child in node.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}")


CEL = [
    (field.removeprefix("."), words)
    for field, words in _rules(crd(MEMCACHED_CLUSTER)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
]


@pytest.mark.parametrize(("field", "words"), CEL)
def test_what_the_crd_refuses_by_cel_is_refused_here_in_the_same_words(field: str, words: str) -> None:
    told = [error for bad in BAD_CLUSTERS for error in bad.errors]
    assert any(error.startswith(f"{field}: ") and error.endswith(f": {words}") for error in told)


def test_cel_rules_are_found() -> None:
    assert len(CEL) > 15


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_pass_without_a_warning(path: Path) -> None:
    verdict = validate(yaml.safe_load(path.read_text(encoding="utf-8")), policy=STRICT)
    assert (verdict.errors, verdict.warnings) == ([], [])


def test_there_are_samples() -> None:
    assert {path.stem for path in SAMPLES} >= {"minimal", "full", "mcrouter", "twemproxy"}


@pytest.mark.parametrize(
    "spec",
    [
        None,
        {"shards": 64, "replicasPerShard": 8},
        {"replicasPerShard": 8, "proxy": {"mcrouter": {"debugFifoRoot": "/fifos"}}},
        {"replicasPerShard": 1, "proxy": {"twemproxy": RING}},
        {"memcached": {"security": {"tls": TLS}}, "proxy": {"mcrouter": {}}},
        {"memcached": {"security": {"tls": {"enabled": False}, "sasl": {"enabled": False}}}},
        {"shards": 2, "memcached": {"highAvailability": {"podDisruptionBudget": {"enabled": True, "minAvailable": 1}}}},
        {"proxy": {"builtin": None, "twemproxy": None, "mcrouter": {}}},
        {"proxy": {"podLabels": {"app": "mcrouter"}, "podAnnotations": {"a": "b"}}},
        {"proxy": {"security": {"podSecurityContext": {"runAsUser": 1001, "fsGroup": 0}}}},
    ],
)
def test_good_objects_pass(spec: Json) -> None:
    assert errors(cluster(spec)) == []


def test_twemproxy_needs_no_image_where_the_operator_has_one() -> None:
    bare = cluster({"proxy": {"twemproxy": {}}})
    assert errors(bare, policy=PROVIDED) == []
    assert errors(bare) == errors(bare, policy=Policy()) == [BARE]
    assert errors(cluster({"shards": 3, **bare["spec"]}), bare) == [], "the flag may go later"
    assert effective(bare["spec"], policy=PROVIDED).errors == []
    assert [str(error) for error in effective(bare["spec"], policy=STRICT).errors] == [BARE]


BARE = (
    "spec.proxy.twemproxy.image: Required value: no image of twemproxy is maintained publicly: name one, or have the "
    "operator run with --twemproxy-image"
)


def test_with_the_flag_security_contexts_are_the_users_own_affair() -> None:
    contexts = {"containerSecurityContext": {"privileged": True}, "podSecurityContext": {"runAsUser": 0}}
    spec = {"memcached": {"security": contexts}, "proxy": {"security": contexts}}
    assert len(errors(cluster(spec))) == 4
    assert errors(cluster(spec), policy=PERMISSIVE) == []


def test_a_name_that_the_api_server_will_choose_is_not_judged() -> None:
    assert errors({"metadata": {"generateName": "cache-"}}) == []


# --- Updates


@pytest.mark.parametrize(
    "bad", [bad for bad in BAD_CLUSTERS if bad.name.startswith("bad-")], ids=lambda bad: bad.errors[0]
)
def test_an_object_that_was_bad_before_can_be_changed_elsewhere(bad: BadCluster) -> None:
    new = deepcopy(bad.manifest)
    new["spec"].setdefault("proxy", {})["nodeSelector"] = {"disk": "ssd"}
    assert errors(new, bad.manifest) == []
    assert errors(new, cluster({}, bad.name)) == bad.errors


def test_an_object_whose_name_is_bad_can_be_changed() -> None:
    assert errors(cluster({"shards": 3}, "n" * 60), cluster({}, "n" * 60)) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            {"memcached": {"resources": {"limits": {"memory": "90Mi"}}}},
            {"memcached": {"resources": {"limits": {"memory": "80Mi"}}}},
            'spec.memcached.resources.limits.memory: Invalid value: "80Mi"',
        ),
        ({"shards": 70}, {"shards": 70, "proxy": {"port": 0}}, "spec.proxy.port: "),
        (
            {"memcached": {"security": {"tls": TLS}}, "proxy": {"mcrouter": {}}},
            {"memcached": {"security": {"tls": TLS}}, "proxy": {"builtin": {}}},
            "spec.memcached.security.tls.enabled: ",
        ),
        (
            {"proxy": {"twemproxy": RING}},
            {"replicasPerShard": 2, "proxy": {"twemproxy": RING}},
            "spec.replicasPerShard: ",
        ),
        (
            {"memcached": {"memcached": {"extraArgs": ["-m1"]}}},
            {"memcached": {"memcached": {"extraArgs": ["-F", "-m1", "-t1"]}}},
            "extraArgs[2]",
        ),
    ],
)
def test_only_what_an_update_makes_worse_is_refused(old: Json, new: Json, words: str) -> None:
    (told,) = errors(cluster(new), cluster(old))
    assert words in told


# --- Warnings

COPIES = {"replicasPerShard": 2}
BUDGET = "spec.memcached.highAvailability.podDisruptionBudget"
ADDRESSES = "spec.memcached.service.publishNotReadyAddresses"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"memcached": {"image": "memcached"}},
            ["spec.memcached.image: no tag: pods may run different versions; name a version"],
        ),
        (
            {"memcached": {"security": {"networkPolicy": {"enabled": True}}}},
            ["spec.memcached.security.networkPolicy.allowedSources: empty, which admits everyone"],
        ),
        (
            {
                "shards": 2,
                "memcached": {
                    "highAvailability": {"podDisruptionBudget": {"enabled": True, "minAvailable": "100%"}},
                },
            },
            [f"{BUDGET}.minAvailable: with 2 pods all must stay, so no node can be drained"],
        ),
        (
            {"memcached": {"service": {"publishNotReadyAddresses": False}}},
            [f"{ADDRESSES}: true in a cluster: its proxy, not readiness, decides whom it asks"],
        ),
        ({"memcached": {"service": {"publishNotReadyAddresses": True}}}, []),
        *(
            (
                {"proxy": {proxy: {"image": "p:latest"}}},
                [f"spec.proxy.{proxy}.image: latest: pods may run different versions; name a version"],
            )
            for proxy in ("builtin", "twemproxy", "mcrouter")
        ),
        *(
            (
                {"proxy": {"builtin": {"image": image}}},
                [
                    "spec.proxy.builtin.image: memcached has its proxy from 1.6.38 on, and does not start without it",
                ],
            )
            for image in (
                "memcached:1.6.37",
                "memcached:1.6.9-alpine",
                "memcached:1.5",
                "r.example:5000/mirror/memcached:1.6.21@sha256:abc",
            )
        ),
        *(
            ({"proxy": {"builtin": {"image": image}}}, [])
            for image in (
                "memcached:1.6.38",
                "memcached:1.6.40-alpine",
                "memcached:1.6",
                "memcached:1",
                "memcached:2.0",
                "memcached:1.6.377",
                "our-memcached:1.6.1",
                "memcached@sha256:1.6.1",
                "memcached:1.6.1.38",
            )
        ),
        ({"proxy": {"replicas": 0}}, []),
        (
            {"proxy": {"replicas": 1}},
            ["spec.proxy.replicas: while the one proxy is replaced, nobody is served; 2 are safe"],
        ),
        (
            {**COPIES, "proxy": {"writePolicy": "all"}},
            ["spec.proxy.writePolicy: all: while one copy of a shard is away, every write to the shard fails"],
        ),
        ({"proxy": {"writePolicy": "all"}}, []),
        (
            {**COPIES, "proxy": {"mcrouter": {}, "readPolicy": "random"}},
            ["spec.proxy.readPolicy: random: mcrouter asks no second copy, so reads of one that is away miss"],
        ),
        ({**COPIES, "proxy": {"readPolicy": "random"}}, []),
        ({"proxy": {"mcrouter": {}, "readPolicy": "random"}}, []),
        ({**COPIES, "proxy": {"mcrouter": {}, "readPolicy": "latest"}}, []),
        (
            {"proxy": {"twemproxy": {**RING, "distribution": "random"}}},
            ["spec.proxy.twemproxy.distribution: random: most reads ask another shard than was written to"],
        ),
        ({"proxy": {"twemproxy": {**RING, "distribution": "modula"}}}, []),
        (
            {"proxy": {"twemproxy": {**RING, "hash": "crc32"}}},
            ["spec.proxy.twemproxy.hash: crc32 with ketama puts all keys on one shard: choose another hash"],
        ),
        ({"proxy": {"twemproxy": {**RING, "hash": "crc32", "distribution": "modula"}}}, []),
    ],
)
def test_unwise_things_are_warned_of(spec: Json, told: list[str]) -> None:
    assert warnings(spec) == told
    assert all(len(one) <= 256 for one in told), "the API server cuts longer ones"


def test_the_pools_memory_is_reckoned_as_a_memcacheds() -> None:
    policy = ClusterPolicy(derived_memory=lambda config, tls: config.max_memory_mb + (72 if tls else 36))
    spec = {"memcached": {"resources": {"limits": {"memory": "104Mi"}}}}
    (told,) = warnings(spec, policy=policy)
    assert told.startswith("spec.memcached.resources.limits.memory: close to what a full cache needs (100Mi ")


MOVES = "nearly all keys get another shard, and miss until they are set again"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({}, {"shards": 3}, ["spec.shards: from 5 to 3: the last shards' keys are lost"]),
        ({"shards": 6}, {}, ["spec.shards: from 6 to 5: the last shards' keys are lost"]),
        ({"shards": 5}, {"shards": 6}, []),
        ({}, {"proxy": {"builtin": {}}}, []),
        ({}, {"proxy": {"mcrouter": {}}}, [f"spec.proxy: from builtin to mcrouter: {MOVES}"]),
        ({"proxy": {"mcrouter": {}}}, {"proxy": {"builtin": {}}}, [f"spec.proxy: from mcrouter to builtin: {MOVES}"]),
        ({"proxy": {"twemproxy": RING}}, {}, [f"spec.proxy: from twemproxy to builtin: {MOVES}"]),
        (
            {"proxy": {"twemproxy": RING}},
            {"proxy": {"twemproxy": {**RING, "hash": "md5", "distribution": "modula"}}},
            [
                f"spec.proxy.twemproxy.hash: from fnv1a_64 to md5: {MOVES}",
                f"spec.proxy.twemproxy.distribution: from ketama to modula: {MOVES}",
            ],
        ),
        ({"proxy": {"twemproxy": RING}}, {"proxy": {"twemproxy": {**RING, **TWEMPROXY}}}, []),
        (
            {"proxy": {"twemproxy": {**RING, "distribution": "modula"}}},
            {"shards": 6, "proxy": {"twemproxy": {**RING, "distribution": "modula"}}},
            [f"spec.shards: with distribution modula, {MOVES}"],
        ),
        *(
            ({"proxy": {"twemproxy": ring}}, {"shards": 6, "proxy": {"twemproxy": ring}}, [])
            for ring in (RING, {**RING, **TWEMPROXY})
        ),
        ({"proxy": {"builtin": {"image": "m:1"}}}, {"proxy": {"builtin": {"image": "m:2"}}}, []),
        ({}, COPIES, []),
    ],
)
def test_what_a_change_does_to_keys_is_warned_of(old: Json, new: Json, told: list[str]) -> None:
    assert warnings(new, old) == told
    assert warnings(new, new) == []


# --- However much is sent

LONG = MAX_CLUSTER_SPEC // 8


@pytest.mark.parametrize(
    "spec",
    [
        *({"memcached": {"memcached": {"extraArgs": [argument] * LONG}}} for argument in ("-m1", "-v v")),
        {"proxy": {"security": {"podSecurityContext": {"sysctls": ["x"] * LONG}}}},
        {"proxy": {"podLabels": {str(number): "?" for number in range(LONG // 2)}}},
        {"proxy": {"resources": {"limits": {str(number): "x" for number in range(LONG // 2)}}}},
        {"proxy": {"builtin": {"image": "memcached:" + "1" * 7 * LONG}}},
        {"proxy": {"mcrouter": {"debugFifoRoot": "/" * 7 * LONG}}},
        {"proxy": {"twemproxy": {"hash": "\x1b" * LONG}}},
    ],
)
def test_much_is_judged_in_time_and_in_few_words(spec: Json) -> None:
    start = time.monotonic()
    verdict = validate(cluster(spec), cluster({"shards": 6}), policy=STRICT)
    judged = effective(spec, policy=STRICT)
    assert time.monotonic() - start < 3
    told = [*(str(error) for error in verdict.errors), *verdict.warnings]
    assert told
    assert all(len(line) < 2000 and line.isprintable() for line in told)
    assert max(len(verdict.errors), len(verdict.warnings), len(judged.errors)) <= 50


def test_too_much_is_refused_unseen_and_not_built() -> None:
    spec = {"memcached": {"image": "i" * MAX_CLUSTER_SPEC}}
    words = "spec: Too long: may not be more than 126976 bytes"
    assert errors(cluster(spec)) == errors(cluster(spec), cluster({})) == [words]
    assert errors(cluster(spec), cluster(spec)) == validate(cluster(spec), policy=STRICT).warnings == []
    judged = effective(spec, policy=STRICT)
    assert (judged.spec, [str(error) for error in judged.errors]) == (None, [words])


def test_what_is_not_too_much_is_not_too_much_for_a_copy() -> None:
    spec = {"memcached": {"image": "i" * (MAX_CLUSTER_SPEC - 30)}}
    assert errors(cluster(spec)) == []
    copy = effective(spec, policy=STRICT).spec
    assert validation.effective(pool(copy)).errors == []


# --- Without a webhook


def test_a_stored_spec_is_defaulted_and_judged_as_admission_does() -> None:
    spec = {"memcached": {"security": {"containerSecurityContext": {"privileged": True}}}, "shards": 70}
    judged = effective(spec, policy=STRICT)
    assert judged.spec == {**FULL, "shards": 70, "memcached": {"memcached": CONFIG, **EMPTIED}}
    assert [(error.field, error.security) for error in judged.errors] == [
        ("spec.shards", False),
        ("spec.memcached.security.containerSecurityContext.privileged", True),
    ]
    assert effective({}, policy=STRICT) == effective(None, policy=STRICT) == Effective(FULL, [])


EMPTIED: Json = {"security": {"containerSecurityContext": {}}}


def of_proxy(spec: Json) -> Json:
    """A Memcached's spec, of whose fields a proxy has some."""
    return {"proxy": spread(spec)}


DANGEROUS_PROXIES = [row for row in DANGEROUS if "memcached" not in row[0]]


@pytest.mark.parametrize(("spec", "fields"), DANGEROUS)
def test_what_is_dangerous_in_a_pool_is_refused_and_left_out(spec: Json, fields: list[str]) -> None:
    judged = effective({"memcached": spread(spec)}, policy=STRICT)
    assert {error.field for error in judged.errors if error.security} == {f"spec.memcached.{field}" for field in fields}
    assert judged.spec["memcached"] == default({"spec": {"memcached": theirs(spec)}})["spec"]["memcached"]


def theirs(spec: Json) -> Json:
    """What is kept of it for a Memcached."""
    kept: Json = validation.effective({**spread(spec), "replicas": 5}).spec
    return {name: value for name, value in kept.items() if name != "replicas"}


@pytest.mark.parametrize(("spec", "fields"), DANGEROUS_PROXIES)
def test_what_is_dangerous_in_a_proxy_is_refused_and_left_out(spec: Json, fields: list[str]) -> None:
    full = of_proxy(spec)
    judged = effective(full, policy=STRICT)
    dangerous = [str(error) for error in judged.errors if error.security]
    assert {error.partition(": ")[0] for error in dangerous} == {f"spec.proxy.{field}" for field in fields}
    assert dangerous == errors(cluster(full))[-len(dangerous) :]
    assert not any("memcached" in error.replace(f"{APPARMOR}/memcached", "") for error in dangerous)
    assert {name: judged.spec["proxy"].get(name, {}) for name in ("security", "podAnnotations")} == {
        name: theirs(spec).get(name, {}) for name in ("security", "podAnnotations")
    }
    assert effective(full, policy=PERMISSIVE) == Effective(default({"spec": full})["spec"], [])


APPARMOR = "container.apparmor.security.beta.kubernetes.io"


def test_a_proxys_contexts_of_all_dangerous_kinds_are_in_the_table() -> None:
    assert len(DANGEROUS_PROXIES) > 40


@pytest.mark.parametrize("spec", HARMLESS)
def test_what_is_harmless_is_taken_as_it_is(spec: Json) -> None:
    for full in (of_proxy(spec), {"memcached": spread(spec)}):
        assert effective(full, policy=STRICT) == Effective(default({"spec": full})["spec"], [])


@st.composite
def odd_clusters(draw: st.DrawFn) -> Json:
    """An object of the table with something else in the place of one of its values."""
    full = deepcopy(draw(st.sampled_from(BAD_CLUSTERS)).manifest)
    node, step = full, "spec"
    while isinstance(node.get(step), dict) and node[step] and draw(st.booleans()):
        node = node[step]
        step = draw(st.sampled_from(sorted(node)))
    node[step] = draw(JSON)
    return full


CLUSTERS = st.fixed_dictionaries(
    {},
    optional={"memcached": SPECS | JSON, "proxy": SPECS | JSON, **dict.fromkeys(("shards", "replicasPerShard"), JSON)},
)


@given(CLUSTERS | JSON | odd_clusters().map(lambda full: full.get("spec")), st.booleans())
def test_whatever_is_stored_is_judged_and_nothing_dangerous_is_left(spec: Json, privileged: bool) -> None:
    policy = PERMISSIVE if privileged else STRICT
    judged = effective(spec, policy=policy)
    assert not any(error.security for error in effective(judged.spec, policy=policy).errors)
    assert all(isinstance(str(error), str) for error in judged.errors)
    try:
        MemcachedClusterSpec.model_validate(judged.spec)
    except ValidationError:
        assert judged.errors, "what cannot be read is an error"
    else:
        # What is left of a pool is safe for a Memcached that no webhook looks at.
        copy = validation.effective(pool(judged.spec), policy=policy)
        assert privileged or not any(error.security for error in copy.errors)


@given(odd_clusters(), st.none() | odd_clusters())
def test_no_shape_of_an_object_is_too_odd_to_be_judged(new: Json, old: Json) -> None:
    assert all(isinstance(line, str) for line in errors(new, old))
