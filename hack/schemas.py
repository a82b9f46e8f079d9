"""JSON schemas for kubeconform, from the API server's own OpenAPI and from CRDs; unknown fields are refused.

A schema lies where `LOCATION` says: `apps/deployment_v1.json`, and `v1/pod_v1.json` for the core group.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hack.cluster.errors import ClusterError
from hack.cluster.versions import HACK
from hack.extract_openapi import SCALARS, definitions, simplified

LOCATION = "{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json"
_SHARED = "definitions.json"
_OBJECT_META = f"../{_SHARED}#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
Json = dict[str, Any]


def write_kubernetes(directory: Path, project: str) -> None:
    """The schemas of every kind that the API server of `project`, a directory under hack/go, serves of itself."""
    found = definitions(_module(project))
    shared: Json = {name: SCALARS.get(name) or simplified(schema) for name, schema in found.items()}
    _write(directory / _SHARED, {"definitions": {name: _strict(schema) for name, schema in shared.items()}})
    for name, schema in found.items():
        for served in schema.get("x-kubernetes-group-version-kind", ()):
            path = _path(directory, served["group"], served["version"], served["kind"])
            _write(path, {"$ref": f"../{_SHARED}#/definitions/{name}"})


def write_custom(directory: Path, crds: Iterable[Json]) -> None:
    """The schemas of every version of the given CustomResourceDefinitions, beside those of `write_kubernetes`."""
    for crd in crds:
        for version in crd["spec"]["versions"]:
            source = version["schema"]["openAPIV3Schema"]
            schema = _strict(source)
            # A CRD may restrict a name's length, and says nothing of the rest, which every object has.
            metadata = {"allOf": [{"$ref": _OBJECT_META}, source["properties"].get("metadata", {})]}
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": metadata}
            _write(_path(directory, crd["spec"]["group"], version["name"], crd["spec"]["names"]["kind"]), schema)


def _module(project: str) -> Path:
    """Where Go keeps the source of Kubernetes, in the version that the go.mod of `project` names."""
    command = ["go", "mod", "download", "-json", "k8s.io/kubernetes"]
    done = subprocess.run(command, cwd=HACK / "go" / project, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)} failed: {done.stdout}{done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])


def _path(directory: Path, group: str, version: str, kind: str) -> Path:
    return directory / (group or version) / f"{kind.lower()}_{version}.json"


def _write(path: Path, schema: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(schema))


def _strict(node: Json) -> Json:
    """Only fields that are known. `allOf` and its like stay as they are: they restrict values, and know few fields."""
    result = dict(node)
    if "$ref" in result:
        return {"$ref": f"#/definitions/{result['$ref']}"}
    if result.pop("x-kubernetes-int-or-string", False):
        result["type"] = ["integer", "string"]
    if result.pop("nullable", False):
        result["type"] = [result["type"], "null"]
    if "properties" in result:
        result["properties"] = {name: _strict(child) for name, child in result["properties"].items()}
        if not result.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = _strict(result[key])
    return result
