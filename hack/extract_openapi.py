"""Makes src/memop/api/kubernetes.json: the schemas of the Kubernetes types that memop's CRDs embed.

Source is the API server's own OpenAPI, which the Go module k8s.io/kubernetes carries. Run after a model embeds a new
type or hack/versions.toml changes, with `go` on the PATH:

    python -m hack.extract_openapi
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from hack.cluster.versions import load_versions
from memop.api.schema import kinds, kubernetes_types

VERSION = load_versions()["kubernetes"]
OUTPUT = Path(__file__).parents[1] / "src/memop/api/kubernetes.json"

KEPT = {
    *("type", "format", "description", "required", "enum", "$ref", "properties", "items", "additionalProperties"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
}
# The OpenAPI says "string or number" of a Quantity; a CRD says "integer or string", and the grammar is that of
# apimachinery's pkg/api/resource.
_NUMBER = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
QUANTITY = {
    "x-kubernetes-int-or-string": True,
    "pattern": rf"^(\+|-)?{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_NUMBER}))?$",
}
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": QUANTITY,
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"x-kubernetes-int-or-string": True},
}


def main() -> None:
    source = definitions(module_directory())
    wanted = sorted(kubernetes_types(model for kind in kinds() for model in (kind.spec, kind.status)))
    extracted: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in extracted:
            extracted[name] = SCALARS.get(name) or simplified(source[name])
            wanted += references(extracted[name])
    OUTPUT.write_text(json.dumps(extracted, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def module_directory() -> Path:
    command = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@{VERSION}"]
    return Path(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["Dir"])


def definitions(module: Path) -> dict[str, Any]:
    """All schemas of all group versions, by name; a name means the same wherever it occurs."""
    found: dict[str, Any] = {}
    for path in sorted((module / "api/openapi-spec/v3").glob("api*_openapi.json")):
        found |= json.loads(path.read_bytes()).get("components", {}).get("schemas", {})
    return found


def simplified(node: dict[str, Any]) -> dict[str, Any]:
    """Drop defaults and patch hints; a reference becomes a plain name instead of `allOf` around a URL."""
    if "allOf" in node:
        (only,) = node["allOf"]
        node = {**node, **only}
    result = {key: value for key, value in node.items() if key in KEPT}
    if "$ref" in result:
        result["$ref"] = result["$ref"].removeprefix("#/components/schemas/")
    if "properties" in result:
        result["properties"] = {name: simplified(child) for name, child in result["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in result:
            result[key] = simplified(result[key])
    return result


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for child in node for name in references(child)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [name for child in node.values() for name in references(child)]


if __name__ == "__main__":
    main()
