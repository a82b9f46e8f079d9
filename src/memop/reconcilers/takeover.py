"""Taking over objects that another operator keeps by updates: its fields become fields that memop applied.

The API server records who set which field, and an apply removes only what the same manager applied before. So what
another operator set, and memop does not want, would stay for ever, unless the record is rewritten first. That changes
no field of the object. The counterpart in client-go: util/csaupgrade.
"""

from typing import Any

Json = Any


def taken_over(managed_fields: list[Json], mark: tuple[str, ...], *, manager: str) -> list[Json]:
    """`managedFields` in which `manager` has applied what was updated by whoever set the field at `mark`.

    `mark` is a path of names that only an operator sets; users and other controllers, who set other fields, keep
    theirs. Returns the same list where there is nothing to take over.
    """
    theirs = [
        entry
        for entry in managed_fields
        if entry.get("operation") == "Update" and not entry.get("subresource") and _has(entry, mark)
    ]
    if not theirs:
        return managed_fields
    ours: Json = {}
    for entry in theirs:
        ours = _union(ours, entry["fieldsV1"])
    # The time is that of the newest update: the API server sorts by it.
    applied = {**theirs[-1], "manager": manager, "operation": "Apply", "fieldsV1": ours}
    return [*(entry for entry in managed_fields if entry not in theirs), applied]


def _has(entry: Json, mark: tuple[str, ...]) -> bool:
    node = entry.get("fieldsV1")
    for name in mark:
        node = node.get(f"f:{name}") if isinstance(node, dict) else None
    return node is not None


def _union(one: Json, other: Json) -> Json:
    return {**one, **{name: _union(one.get(name, {}), below) for name, below in other.items()}}
