"""What the API server would record of an apply: fieldsV1 of a body, for the merge keys of the kinds under test."""

from typing import Any

import msgspec

_MERGE_KEYS = {"containers": ("name",), "containerPorts": ("containerPort", "protocol"), "ownerReferences": ("uid",)}
_MERGE_KEYS |= {"servicePorts": ("port", "protocol"), "imagePullSecrets": ("name",), "conditions": ("type",)}
_ATOMIC = ("nodeSelector", "selector")
_IDENTITY = ("apiVersion", "kind", "name", "namespace", "uid", "resourceVersion")


def fields_v1(body: dict[str, Any]) -> dict[str, Any]:
    """The entry for a whole apply body."""
    top = {name: value for name, value in body.items() if name not in ("apiVersion", "kind")}
    if "metadata" in top:
        top["metadata"] = {name: value for name, value in top["metadata"].items() if name not in _IDENTITY}
    return _tree("", top)


def _tree(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict) and name not in _ATOMIC:
        return {f"f:{key}": _tree(key, item) for key, item in value.items()}
    keys = _merge_keys(name, value)
    if keys:
        return {_entry(item, keys): _element(name, item) for item in value}
    return {}


def _element(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {} if name == "ownerReferences" else {".": {}, **_tree("", item)}  # an owner reference is atomic


def _merge_keys(name: str, value: Any) -> tuple[str, ...]:
    if name == "ports" and value:
        name = "containerPorts" if "containerPort" in value[0] else "servicePorts"
    return _MERGE_KEYS.get(name, ()) if isinstance(value, list) else ()


def _entry(item: dict[str, Any], keys: tuple[str, ...]) -> str:
    return "k:" + msgspec.json.encode({key: item[key] for key in keys}).decode()
