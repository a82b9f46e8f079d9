"""The CRDs are structural, complete, and the checked-in files are what the models say."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from memop.api.base import Kind, Kubernetes, Model, Rule, rules
from memop.api.memcached import MEMCACHED, MemcachedSpec, MemcachedStatus
from memop.api.schema import crd, crds, foreign_kinds, kinds, to_yaml

ROOT = Path(__file__).parents[3]
BANNED = {"$ref", "allOf", "oneOf", "not", "anyOf", "nullable", "default", "title", "const", "definitions"}


def schemas(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from schemas(node[key], f"{path}[]")


def roots() -> Iterator[dict[str, Any]]:
    for one in crds():
        for version in one["spec"]["versions"]:
            yield version["schema"]["openAPIV3Schema"]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.kind)
def test_the_checked_in_manifest_is_up_to_date(kind: Kind) -> None:
    path = ROOT / "manifests/crd" / f"{kind.crd_name}.yaml"
    assert path.read_text(encoding="utf-8") == to_yaml([crd(kind)]), "run: python -m memop.api.schema manifests/crd"


def test_yaml_reads_back_as_the_same_objects_without_anchors() -> None:
    text = to_yaml(crds())
    assert list(yaml.safe_load_all(text)) == crds()
    assert "&id" not in text


def test_the_schema_is_structural() -> None:
    for root in roots():
        for path, schema in schemas(root):
            assert not BANNED & set(schema), path
            assert "type" in schema or schema.get("x-kubernetes-int-or-string") is True, path
            assert not ("properties" in schema and "additionalProperties" in schema), path


def test_lists_say_how_they_merge_and_map_keys_are_required() -> None:
    for root in roots():
        for path, schema in schemas(root):
            if schema.get("type") == "array":
                assert schema["x-kubernetes-list-type"] in ("atomic", "map", "set"), path
            for key in schema.get("x-kubernetes-list-map-keys", ()):
                assert key in schema["items"]["required"], path


def test_every_field_is_described_with_its_default() -> None:
    def walk(model: type[Model]) -> None:
        for name, field in model.model_fields.items():
            description = field.description or ""
            where = f"{model.__name__}.{name}"
            if field.is_required():
                assert description.endswith("Required."), where
                continue
            _, given, default = description.rpartition("Default: ")
            assert given, where
            value = field.default
            if isinstance(value, bool):
                assert default == f"{json.dumps(value)}.", where
            elif isinstance(value, int | str) and value != "":
                assert default.startswith(str(value)), where
        for inner in model.__subclasses__():
            if inner.__module__.startswith("memop."):
                walk(inner)

    walk(Model)


def test_all_versions_have_one_schema_and_the_last_is_stored() -> None:
    one = crd(MEMCACHED)
    old, new = one["spec"]["versions"]
    assert [(v["name"], v["served"], v["storage"]) for v in (old, new)] == [
        ("v1alpha1", True, False),
        ("v1beta1", True, True),
    ]
    assert {**old, "name": "", "storage": None} == {**new, "name": "", "storage": None}
    assert one["spec"]["conversion"] == {"strategy": "None"}


def test_names_subresources_and_columns_are_the_published_ones() -> None:
    one = crd(MEMCACHED)
    assert one["metadata"] == {"name": "memcacheds.memcached.c5c3.io"}
    assert one["spec"]["scope"] == "Namespaced"
    assert one["spec"]["names"] == {
        "kind": "Memcached",
        "listKind": "MemcachedList",
        "plural": "memcacheds",
        "singular": "memcached",
        "shortNames": ["mc"],
    }
    version = one["spec"]["versions"][-1]
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    assert [column["name"] for column in version["additionalPrinterColumns"]] == [
        "Replicas",
        "Ready",
        "Available",
        "Age",
    ]


def test_spec_and_status_are_optional_as_a_whole() -> None:
    for root in roots():
        assert "required" not in root
        assert set(root["properties"]) == {"apiVersion", "kind", "metadata", "spec", "status"}


def test_conditions_are_a_list_map_by_type() -> None:
    conditions = next(roots())["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert set(conditions["items"]["required"]) == {"type", "status", "reason", "message", "lastTransitionTime"}


def test_embedded_types_carry_their_fields() -> None:
    by_path = dict(schemas(next(roots())))
    limits = by_path[".spec.resources.limits"]
    assert limits["additionalProperties"]["x-kubernetes-int-or-string"] is True
    assert by_path[".spec.security.podSecurityContext.seccompProfile.type"]["type"] == "string"
    assert by_path[".spec.security.networkPolicy.allowedSources[].ipBlock"]["required"] == ["cidr"]
    assert (
        by_path[".spec.highAvailability.topologySpreadConstraints[].labelSelector"]["x-kubernetes-map-type"] == "atomic"
    )
    assert ".spec.autoscaling.metrics[].resource.target.averageUtilization" in by_path
    assert ".spec.autoscaling.behavior.scaleDown.policies[].periodSeconds" in by_path


def test_every_rule_says_what_to_do_on_one_line() -> None:
    for root in roots():
        for path, schema in schemas(root):
            for rule in schema.get("x-kubernetes-validations", ()):
                assert ": " in rule["message"], path
                assert "\n" not in rule["message"], path


def one_kind(model: type[Model]) -> Kind:
    return Kind("example.com", "Thing", "things", ("v1",), "A thing.", model, MemcachedStatus)


def test_a_type_that_a_structural_schema_cannot_express_is_an_error() -> None:
    class Exclusive(Model):
        number: int = Field(gt=0)

    with pytest.raises(ValueError, match="exclusiveMinimum"):
        crd(one_kind(Exclusive))


def test_a_kubernetes_type_that_was_not_extracted_is_an_error() -> None:
    class Unknown(Model):
        pod: Annotated[dict[str, Any], Kubernetes("io.k8s.api.core.v1.Pod")]

    with pytest.raises(KeyError, match=r"io\.k8s\.api\.core\.v1\.Pod"):
        crd(one_kind(Unknown))


def test_rules_of_a_field_and_of_its_type_are_both_kept() -> None:
    class Outer(Model):
        spec: MemcachedSpec = Field(json_schema_extra=rules(Rule("true", "never: nothing to do")))

    by_path = dict(schemas(crd(one_kind(Outer))["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    own = dict(schemas(next(roots())))[".spec"]["x-kubernetes-validations"]
    assert [rule["message"] for rule in by_path[".spec.spec"]["x-kubernetes-validations"]] == [
        *(rule["message"] for rule in own),
        "never: nothing to do",
    ]


def test_samples_are_read_by_the_models() -> None:
    samples = ROOT / "manifests/samples"
    paths = [*samples.glob("*.yaml"), *(samples / "cluster").glob("*.yaml")]
    documents = [document for path in paths for document in yaml.safe_load_all(path.read_text())]
    models = {kind.kind: kind.spec for kind in kinds()}
    for document in documents:
        models[document["kind"]].model_validate(document["spec"])
    versions = {(document["kind"], document["apiVersion"]) for document in documents}
    assert versions == {(kind.kind, f"{kind.group}/{version}") for kind in kinds() for version in kind.versions}


def test_run_as_a_program_it_writes_a_file_for_each_kind_and_foreign_ones_elsewhere(tmp_path: Path) -> None:
    own, foreign = tmp_path / "crd", tmp_path / "compat"
    for directory in (own, foreign):
        directory.mkdir()
    # S603: the program is ours.
    subprocess.run([sys.executable, "-m", "memop.api.schema", str(own), str(foreign)], check=True)
    written = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.yaml")}
    assert written == {
        directory / f"{kind.crd_name}.yaml": to_yaml([crd(kind)])
        for directory, of in ((own, kinds()), (foreign, foreign_kinds()))
        for kind in of
    }
