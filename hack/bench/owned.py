"""What an operator wrote of an object: the fields that the API server records as its own.

Format: structured-merge-diff, fieldpath/serialize.go. `f:` is a field, `k:` an element of a list that merges by keys,
`v:` an element of a set, `i:` an index; `.` says that the map or element itself is owned; an entry without children is
owned as a whole.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from hack.bench.errors import BenchError

Json = Any


def written(live: dict[str, Json], *, foreign: Collection[str], subresource: str = "") -> dict[str, Json]:
    """The apply body that would make `live`'s fields of all managers but the `foreign` ones, by `subresource`.

    Raises: BenchError when they own nothing.
    """
    fields: dict[str, Json] = {}
    for entry in live["metadata"].get("managedFields", ()):
        if entry["manager"] not in foreign and entry.get("subresource", "") == subresource:
            fields = _merged(fields, entry["fieldsV1"])
    if not fields:
        whose = f"{live['kind']} {live['metadata']['name']}" + (f"/{subresource}" if subresource else "")
        raise BenchError(f"the operator owns no field of {whose}, so the limit's writes are not known")
    body = _map(live, fields)
    identity = {name: live["metadata"][name] for name in ("name", "namespace")}
    top = {"apiVersion": live["apiVersion"], "kind": live["kind"]}
    return {**top, **body, "metadata": {**identity, **body.get("metadata", {})}}


def _merged(a: dict[str, Json], b: dict[str, Json]) -> dict[str, Json]:
    """Both trees in one. What either owns as a whole stays whole: an entry without children has its own meaning."""
    result = dict(a)
    for name, tree in b.items():
        known = result.get(name)
        result[name] = tree if known is None else _merged(known, tree) if known and tree else {}
    return result


def _value(live: Json, tree: dict[str, Json]) -> Json:
    if tree and isinstance(live, dict):
        return _map(live, tree)
    if tree and isinstance(live, list):
        return _list(live, tree)
    return live


def _map(live: dict[str, Json], tree: dict[str, Json]) -> dict[str, Json]:
    names = ((entry[2:], children) for entry, children in tree.items() if entry.startswith("f:"))
    return {name: _value(live[name], children) for name, children in names if name in live}


def _list(live: list[Json], tree: dict[str, Json]) -> list[Json]:
    """The owned elements, in the order in which they are stored."""
    entries = [
        (entry[:2], msgspec.json.decode(entry[2:]), children) for entry, children in tree.items() if entry != "."
    ]
    found = []
    for index, item in enumerate(live):
        for kind, identity, children in entries:
            if kind == "k:" and all(item.get(name) == value for name, value in identity.items()):
                # An apply names the keys of an element even where it owns none of them.
                found.append({**identity, **_map(item, children)} if children else item)
            elif (kind == "v:" and item == identity) or (kind == "i:" and index == identity):
                found.append(_value(item, children))
            else:
                continue
            break
    return found
