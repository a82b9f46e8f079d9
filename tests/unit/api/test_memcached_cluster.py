"""The models give what api.md says of `MemcachedCluster`: names, defaults, ranges; its pool is a `Memcached`'s."""

import json
from functools import reduce
from typing import Any

import pytest
from pydantic import ValidationError

from memop.api.memcached import MAX_STABLE_NAME_LENGTH, MEMCACHED, MemcachedSpec, PoolSpec
from memop.api.memcached_cluster import (
    DEFAULT_BUILTIN_IMAGE,
    DEFAULT_MCROUTER_IMAGE,
    MAX_CLUSTER_NAME_LENGTH,
    MAX_COPIES,
    MEMCACHED_CLUSTER,
    MemcachedClusterSpec,
    MemcachedClusterStatus,
    Proxy,
)
from memop.api.schema import crd

Json = Any


def spec_with(path: str, value: Json) -> Json:
    """Return {"a": {"b": value}} for "a.b"."""
    return reduce(lambda inner, step: {step: inner}, reversed(path.split(".")), value)


def read(path: str, spec: Json) -> Json:
    model = MemcachedClusterSpec.model_validate_json(json.dumps(spec))

    def step(block: Any, name: str) -> Any:
        (attribute,) = (a for a, field in type(block).model_fields.items() if field.alias == name)
        return getattr(block, attribute)

    return reduce(step, path.split("."), model)


DEFAULTS: dict[str, Json] = {
    "shards": 5,
    "replicasPerShard": 1,
    "proxy.replicas": 2,
    "proxy.port": 11211,
    "proxy.builtin": None,
    "proxy.builtin.image": None,
    "proxy.twemproxy": None,
    "proxy.twemproxy.image": None,
    "proxy.twemproxy.hash": "fnv1a_64",
    "proxy.twemproxy.distribution": "ketama",
    "proxy.twemproxy.serverFailureLimit": 1,
    "proxy.twemproxy.serverRetryTimeout": 2000,
    "proxy.mcrouter": None,
    "proxy.mcrouter.image": None,
    "proxy.mcrouter.debugFifoRoot": "",
    "proxy.readPolicy": "failover",
    "proxy.writePolicy": "fastest",
    "proxy.resources": None,
    "proxy.security": None,
    "proxy.security.podSecurityContext": None,
    "proxy.security.containerSecurityContext": None,
    "proxy.service.annotations": {},
    "proxy.nodeSelector": {},
    "proxy.tolerations": [],
    "proxy.priorityClassName": None,
    "proxy.imagePullSecrets": [],
    "proxy.podLabels": {},
    "proxy.podAnnotations": {},
}


@pytest.mark.parametrize(("path", "default"), DEFAULTS.items())
def test_absent_fields_read_as_the_documented_default(path: str, default: Json) -> None:
    parent, _, _ = path.rpartition(".")
    assert read(path, spec_with(parent, {}) if parent else {}) == default


def test_every_field_of_the_models_has_a_row() -> None:
    def paths(model: Any, prefix: str = "") -> set[str]:
        found = set()
        for field in model.model_fields.values():
            path = f"{prefix}{field.alias}"
            inner = [
                a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(a, "model_fields")
            ]
            found |= {path} if not inner or inner[0] is PoolSpec else paths(inner[0], f"{path}.")
        return found

    rows = {path for path in DEFAULTS if not any(p.startswith(f"{path}.") for p in DEFAULTS)}
    assert paths(MemcachedClusterSpec) == rows | {"memcached"}


HASHES = [
    *("one_at_a_time", "md5", "crc16", "crc32", "crc32a", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32", "hsieh"),
    *("murmur", "jenkins"),
]
RANGES: dict[str, tuple[list[Json], list[Json]]] = {
    "shards": ([1, 64], [0, 65]),
    "replicasPerShard": ([1, 8], [0, 9]),
    "proxy.replicas": ([0, 64], [-1, 65]),
    "proxy.port": ([1, 65535], [0, 65536]),
    "proxy.twemproxy.hash": (HASHES, ["sha1", ""]),
    "proxy.twemproxy.distribution": (["ketama", "modula", "random"], ["jump"]),
    "proxy.twemproxy.serverFailureLimit": ([1, 1000], [0]),
    "proxy.twemproxy.serverRetryTimeout": ([1, 30000], [0]),
    "proxy.mcrouter.debugFifoRoot": (
        ["", "/var/mcrouter/fifos", "/d/", "/" + "d" * 254],
        ["d", "/", "/.d", "//d", "/d/../e", "/..", "/d:ro", "/d\n", "/" + "d" * 255],
    ),
    "proxy.readPolicy": (["failover", "random", "latest"], ["first"]),
    "proxy.writePolicy": (["fastest", "all"], ["sync"]),
    "proxy.priorityClassName": (["high"], ["n" * 254]),
    "proxy.podLabels": ([{"app": "mcrouter"}], [{"a": "b c"}]),
    "memcached.memcached.maxMemoryMB": ([16, 65536], [15, 65537]),
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (good, _) in RANGES.items() for value in good])
def test_values_at_the_bounds_are_read_unchanged(path: str, value: Json) -> None:
    assert read(path, spec_with(path, value)) == value


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, (_, bad) in RANGES.items() for value in bad])
def test_values_out_of_range_are_refused(path: str, value: Json) -> None:
    with pytest.raises(ValidationError):
        MemcachedClusterSpec.model_validate_json(json.dumps(spec_with(path, value)))


def properties(node: Json, path: str = "") -> Json:
    """The schema at a path."""
    for step in path.split(".") if path else ():
        node = node["properties"][step]
    return node["properties"]


def test_the_pool_has_every_field_of_a_memcached_but_for_size_and_identity() -> None:
    """In the CRD: with the same words, bounds and rules."""
    (version,) = crd(MEMCACHED_CLUSTER)["spec"]["versions"]
    ours = properties(version["schema"]["openAPIV3Schema"], "spec.memcached")
    theirs = properties(crd(MEMCACHED)["spec"]["versions"][-1]["schema"]["openAPIV3Schema"], "spec")
    assert theirs.keys() - ours.keys() == {"replicas", "replicasFrom", "autoscaling", "podIdentity"}
    assert ours == {name: schema for name, schema in theirs.items() if name in ours}


def test_a_memcached_reads_a_pools_spec() -> None:
    given = {"image": "m:1", "security": {"tls": {"enabled": True}}, "podLabels": {"a": "b"}}
    pool, memcached = PoolSpec.model_validate(given), MemcachedSpec.model_validate(given)
    assert pool.model_dump() == {name: memcached.model_dump()[name] for name in pool.model_dump()}
    assert pool.enabled_tls == memcached.enabled_tls is not None


@pytest.mark.parametrize(
    ("spec", "kind"),
    [({}, "builtin"), ({"builtin": {}}, "builtin"), ({"twemproxy": {}}, "twemproxy"), ({"mcrouter": {}}, "mcrouter")],
)
def test_the_kind_of_proxy_is_the_one_given_and_builtin_by_default(spec: Json, kind: str) -> None:
    assert Proxy.model_validate(spec).kind == kind


def test_names_subresources_and_columns_are_the_published_ones() -> None:
    manifest = crd(MEMCACHED_CLUSTER)
    assert manifest["metadata"] == {"name": "memcachedclusters.memcached.c5c3.io"}
    assert manifest["spec"]["scope"] == "Namespaced"
    assert manifest["spec"]["names"] == {
        "kind": "MemcachedCluster",
        "listKind": "MemcachedClusterList",
        "plural": "memcachedclusters",
        "singular": "memcachedcluster",
        "shortNames": ["mcc"],
    }
    (version,) = manifest["spec"]["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.shards",
            "statusReplicasPath": ".status.shards",
            "labelSelectorPath": ".status.selector",
        },
    }
    columns = [column["name"] for column in version["additionalPrinterColumns"]]
    assert columns == ["Shards", "Copies", "Available", "Endpoint", "Age"]


def test_constants_are_the_published_ones() -> None:
    assert DEFAULT_BUILTIN_IMAGE == "memcached:1.6.38"
    assert DEFAULT_MCROUTER_IMAGE == "ghcr.io/dragoangel/mcrouter:v2026.06.29.00"
    assert MEMCACHED_CLUSTER.api_version == "memcached.c5c3.io/v1alpha1"


def test_the_longest_name_leaves_every_copy_one_that_a_stable_memcached_may_have() -> None:
    copies = [f"{'n' * MAX_CLUSTER_NAME_LENGTH}-r{copy}" for copy in range(MAX_COPIES)]
    assert {len(name) for name in copies} == {MAX_STABLE_NAME_LENGTH}


def test_an_absent_status_reads_as_nothing_seen() -> None:
    status = MemcachedClusterStatus()
    assert (status.shards, status.replicas_per_shard, status.observed_generation) == (0, 0, 0)
    assert (status.conditions, status.endpoint, status.selector, status.config_hash) == ([], "", "", "")
