"""Models → CustomResourceDefinitions: structural schemas that the API server prunes, explains and validates by.

Embedded Kubernetes types carry their full schema, from `kubernetes.json` (`hack/extract_openapi.py` makes it from the
API server's own OpenAPI). There is no `default:` anywhere: defaults depend on the operator's flags and on other
fields, so defaulting is the operator's, and an object keeps saying what its user said.

`python -m memop.api.schema DIRECTORY [COMPAT]` writes one file per kind, the foreign ones into COMPAT.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from memop.api.base import KUBERNETES_TYPE, VALIDATIONS, Kind, Model
from memop.api.foreign import PRESERVE
from memop.api.ianlewis import IANLEWIS
from memop.api.mcrouter import MCROUTER
from memop.api.memcached import MEMCACHED
from memop.api.memcached_cluster import MEMCACHED_CLUSTER
from memop.api.memshack import MEMSHACK

_DROPPED = frozenset({"title", "default"})
_COPIED = frozenset(
    {
        *("type", "format", "description", "enum", "required", "pattern", "minimum", "maximum"),
        *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        *("x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"),
        *("x-kubernetes-map-type", PRESERVE, VALIDATIONS),
    }
)
_HEADER = "# Generated from src/memop/api by `python -m memop.api.schema`; do not edit.\n"


def kinds() -> tuple[Kind, ...]:
    """Every kind of memop's own."""
    return (MEMCACHED, MEMCACHED_CLUSTER)


def foreign_kinds() -> tuple[Kind, ...]:
    """Every kind of another operator's that memop serves; installed on request."""
    return (IANLEWIS, MCROUTER, MEMSHACK)


def crds() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of memop's own kinds (`apiextensions.k8s.io/v1`)."""
    return [crd(kind) for kind in kinds()]


def crd(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of one kind."""
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": kind.kind.lower(),
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "conversion": {"strategy": "None"},
            "versions": [_version(kind, version) for version in kind.versions],
        },
    }


def to_yaml(crds: Iterable[Mapping[str, Any]]) -> str:
    """Write the CRDs as one YAML stream, the same bytes for the same models.

    Meant for `kubectl apply --server-side`: client-side apply copies a manifest into an annotation of limited size.
    """
    documents = (yaml.dump(crd, Dumper=_PlainDumper, sort_keys=True, width=120, allow_unicode=True) for crd in crds)
    return _HEADER + "---\n".join(documents)


def kubernetes_types(models: Iterable[type[Model]]) -> set[str]:
    """Return the names of the Kubernetes types that the models embed."""

    def walk(node: Any) -> Iterable[str]:
        if isinstance(node, dict):
            if KUBERNETES_TYPE in node:
                yield node[KUBERNETES_TYPE]
            for child in node.values():
                yield from walk(child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    return {name for model in models for name in walk(model.model_json_schema())}


class _PlainDumper(yaml.SafeDumper):
    """Writes a value out each time it occurs, since readers of CRDs expect no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def _version(kind: Kind, version: str) -> dict[str, Any]:
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale is not None:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.spec_replicas,
            "statusReplicasPath": kind.scale.status_replicas,
            "labelSelectorPath": kind.scale.selector,
        }
    return {
        "name": version,
        "served": True,
        "storage": version == kind.versions[-1],
        "subresources": subresources,
        "additionalPrinterColumns": [
            {"name": c.name, "type": c.type, "jsonPath": c.json_path, "description": c.description}
            for c in kind.columns
        ],
        "schema": {"openAPIV3Schema": _root(kind)},
    }


def _root(kind: Kind) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "description": kind.description,
        "properties": {
            "apiVersion": {"type": "string", "description": "Group and version of this object's schema."},
            "kind": {"type": "string", "description": "Kind of this object."},
            # The name stands here for rules to point at; without the bound, Kubernetes' own, they would be too costly.
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": _block(kind.spec),
            "status": _block(kind.status),
        },
    }
    if kind.rules:
        schema[VALIDATIONS] = [rule.to_dict() for rule in kind.rules]
    return schema


def _block(model: type[Model]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return _structural(schema, schema.get("$defs", {}))


def _structural(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a JSON schema of pydantic's or an embedded type's into one without references, alternatives and titles.

    Raises ValueError for what a structural schema cannot say, so that a model never means more than its CRD.
    """
    node = _resolve(node, definitions)
    schema: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":
            schema[key] = {name: _structural(child, definitions) for name, child in sorted(value.items())}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            schema[key] = _structural(value, definitions)
        elif key == "const":
            schema["enum"] = [value]
        elif key in _COPIED:
            schema[key] = value
        elif key not in _DROPPED:
            raise ValueError(f"{key}: {value!r} has no place in a structural schema")
    if schema.get("type") == "integer":
        schema.setdefault("format", "int32")
    if schema.get("type") == "array":
        schema.setdefault("x-kubernetes-list-type", "atomic")
    return schema


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the node's reference, `X | None` or Kubernetes type by what it stands for."""
    outer = {key: value for key, value in node.items() if key not in ("$defs", "$ref", "anyOf", KUBERNETES_TYPE)}
    if "$ref" in node:
        inner = _resolve(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    elif "anyOf" in node:
        (variant,) = (variant for variant in node["anyOf"] if variant != {"type": "null"})
        inner = _resolve(variant, definitions)
    elif KUBERNETES_TYPE in node:
        inner = _structural({"$ref": node[KUBERNETES_TYPE]}, _kubernetes())
    else:
        return outer
    if VALIDATIONS in inner and VALIDATIONS in outer:
        outer[VALIDATIONS] = [*inner[VALIDATIONS], *outer[VALIDATIONS]]
    return {**inner, **outer}


@cache
def _kubernetes() -> dict[str, Any]:
    definitions: dict[str, Any] = json.loads(files("memop.api").joinpath("kubernetes.json").read_bytes())
    return definitions


if __name__ == "__main__":
    for directory, written in zip(sys.argv[1:], (kinds(), foreign_kinds()), strict=False):
        for kind in written:
            Path(directory, f"{kind.crd_name}.yaml").write_text(to_yaml([crd(kind)]), encoding="utf-8")
