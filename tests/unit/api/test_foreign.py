"""The foreign kinds are as api.md's table has them, and their CRDs keep what they do not know."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from memop.api.base import Kind, Model
from memop.api.schema import crd, foreign_kinds, to_yaml

ROOT = Path(__file__).parents[3]
COMPAT = ROOT / "manifests/compat"
PRESERVE = "x-kubernetes-preserve-unknown-fields"
BANNED = {"$ref", "allOf", "oneOf", "not", "anyOf", "nullable", "default", "title", "const", "additionalProperties"}


def schemas(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    if "items" in node:
        yield from schemas(node["items"], f"{path}[]")


def root(kind: Kind) -> dict[str, Any]:
    (version,) = crd(kind)["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("kind", foreign_kinds(), ids=lambda kind: kind.kind)
def test_the_checked_in_manifest_is_up_to_date(kind: Kind) -> None:
    path = COMPAT / f"{kind.crd_name}.yaml"
    hint = "run: python -m memop.api.schema manifests/crd manifests/compat"
    assert path.read_text(encoding="utf-8") == to_yaml([crd(kind)]), hint


def test_kustomize_finds_all_of_them_and_nothing_else() -> None:
    listed = yaml.safe_load((COMPAT / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(f"{kind.crd_name}.yaml" for kind in foreign_kinds())
    assert {path.name for path in COMPAT.iterdir()} == {*listed, "kustomization.yaml"}


def test_names_versions_and_scope_are_those_of_the_other_operators() -> None:
    found = {(kind.crd_name, kind.kind, *kind.versions) for kind in foreign_kinds()}
    assert found == {
        ("memcachedclusters.ianlewis.org", "MemcachedCluster", "v1alpha1"),
        ("mcrouters.mcrouter.example.com", "Mcrouter", "v1alpha3"),
        ("memshacks.example.memshack.com", "Memshack", "v1"),
    }
    for kind in foreign_kinds():
        spec = crd(kind)["spec"]
        assert (spec["scope"], spec["versions"][0]["subresources"]) == ("Namespaced", {"status": {}})


# Fields as they are written, with what they are where absent.
DEFAULTS = {
    "ianlewis.org": {
        "replicas": 5,
        "memcachedImage": "memcached:1.4.36-alpine",
        "proxy.twemproxy.distribution": "ketama",
        "proxy.twemproxy.hash": "fnv1a_64",
        "proxy.twemproxy.image": "asia.gcr.io/ian-corp-dev/twemproxy:v0.4.1-0",
        "proxy.twemproxy.serverFailureLimit": 1,
        "proxy.twemproxy.serverRetryTimeout": 2000,
    },
    "mcrouter.example.com": {
        "mcrouter_image": "devan2502/mcrouter:latest",
        "mcrouter_port": 5000,
        "memcached_image": "memcached:1.5-alpine",
        "memcached_pool_size": 2,
        "memcached_port": 11211,
        "pool_setup": "replicated",
        "debug_fifo_root": "",
    },
    "example.memshack.com": {
        "mcrouter_pool_size": 2,
        "num_shards": 3,
        "num_replicas": 2,
        "memcached_image": "memcached:1.6-alpine",
        "mcrouter_image": "mcrouter/mcrouter:latest",
        "mcrouter_port": 5000,
    },
}


def leaves(block: Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in block.model_dump().items():
        inner = getattr(block, name, None)
        if isinstance(inner, Model):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.mark.parametrize("kind", foreign_kinds(), ids=lambda kind: kind.kind)
def test_all_fields_are_optional_with_the_defaults_of_the_other_operator(kind: Kind) -> None:
    assert dict(leaves(kind.spec.model_validate({}))) == DEFAULTS[kind.group]
    given = {path.removeprefix(".spec."): schema for path, schema in schemas(root(kind)) if path.startswith(".spec.")}
    assert {path for path, schema in given.items() if "properties" not in schema} == set(DEFAULTS[kind.group])
    assert not any("required" in schema for schema in (root(kind), root(kind)["properties"]["spec"], *given.values()))


@pytest.mark.parametrize("kind", foreign_kinds(), ids=lambda kind: kind.kind)
def test_every_block_of_a_spec_keeps_unknown_fields_and_the_status_keeps_none(kind: Kind) -> None:
    for path, schema in schemas(root(kind)):
        assert not BANNED & set(schema), path
        kept = schema["type"] == "object" and (path == ".spec" or path.startswith(".spec."))
        assert schema.get(PRESERVE, False) is kept, path


@pytest.mark.parametrize("kind", foreign_kinds(), ids=lambda kind: kind.kind)
def test_the_status_has_the_fields_that_are_told(kind: Kind) -> None:
    own = {"ianlewis.org": {"replicas", "serviceName"}, "example.memshack.com": {"phase", "message"}}
    fields = set(root(kind)["properties"]["status"]["properties"])
    assert fields == {"conditions", "endpoint", "observedGeneration"} | own.get(kind.group, set())
