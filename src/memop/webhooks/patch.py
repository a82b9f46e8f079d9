"""JSON Patch (RFC 6902): what turns one JSON value into another."""

from typing import Any

Json = Any


def diff(before: Json, after: Json, path: str = "") -> list[dict[str, Json]]:
    """The fewest operations between two objects; lists that differ are replaced as a whole."""
    if before is after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        operations: list[dict[str, Json]] = []
        for name in (*before, *(name for name in after if name not in before)):
            where = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            if name not in after:
                operations.append({"op": "remove", "path": where})
            elif name not in before:
                operations.append({"op": "add", "path": where, "value": after[name]})
            else:
                operations += diff(before[name], after[name], where)
        return operations
    # Python holds True and 1, and 1 and 1.0, to be equal.
    return [] if before == after and type(before) is type(after) else [{"op": "replace", "path": path, "value": after}]
