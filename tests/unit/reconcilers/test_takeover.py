"""Whose fields are taken over, and whose are not."""

from typing import Any

from memop.reconcilers.takeover import taken_over

MARK = ("metadata", "ownerReferences")


def entry(manager: str, fields: dict[str, Any], operation: str = "Update", subresource: str = "") -> dict[str, Any]:
    result = {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields, "time": manager}
    return {**result, "subresource": subresource} if subresource else result


OWNERS: dict[str, Any] = {"f:ownerReferences": {'k:{"uid":"u"}': {}}}
MADE = {"f:metadata": {**OWNERS, "f:labels": {"f:a": {}}}, "f:spec": {"f:x": {}}}


def test_only_the_updates_of_who_set_the_mark_become_ours() -> None:
    others = [
        entry("kubectl-edit", {"f:metadata": {"f:labels": {"f:b": {}}}}),
        entry("kube-controller-manager", {"f:status": OWNERS}, subresource="status"),
        entry("gitops", MADE, operation="Apply"),
        entry("scaler", {"f:metadata": OWNERS}, subresource="scale"),
    ]
    after = taken_over([entry("manager", MADE), *others], MARK, manager="memop")
    assert after[:-1] == others
    assert after[-1] == {**entry("manager", MADE), "manager": "memop", "operation": "Apply"}


def test_several_entries_become_one() -> None:
    """An operator that changed its API version, or its name, has left one for each."""
    older = {"f:metadata": {**OWNERS, "f:labels": {"f:b": {}}}, "f:spec": {"f:y": {".": {}}}}
    [ours] = taken_over([entry("a", MADE), entry("b", older)], MARK, manager="memop")
    assert ours["fieldsV1"] == {
        "f:metadata": {**OWNERS, "f:labels": {"f:a": {}, "f:b": {}}},
        "f:spec": {"f:x": {}, "f:y": {".": {}}},
    }
    assert ours["time"] == "b"


def test_where_there_is_nothing_to_take_over_nothing_changes() -> None:
    before = [entry("kubectl", {"f:spec": {}}), entry("odd", {"f:metadata": {}})]
    assert taken_over(before, MARK, manager="memop") is before
