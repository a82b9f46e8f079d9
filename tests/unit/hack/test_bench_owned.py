"""The bodies that an operator must have written, read from managedFields."""

from typing import Any

import pytest

from hack.bench.errors import BenchError
from hack.bench.owned import written

Tree = dict[str, Any]
IDENTITY = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "ns"}}


def live(*entries: tuple[str, Tree], subresource: str = "", **fields: Any) -> dict[str, Any]:
    """An object in which each manager owns the fields of a tree."""
    managed = [
        {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": tree}
        | ({"subresource": subresource} if subresource else {})
        for manager, tree in entries
    ]
    meta = {"name": "a", "namespace": "ns", "uid": "u1", "resourceVersion": "7", **fields.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {**meta, "managedFields": managed}, **fields}


def body(*entries: tuple[str, Tree], **fields: Any) -> dict[str, Any]:
    """What is written, less the identity."""
    found = written(live(*entries, **fields), foreign={"other"})
    return {name: value for name, value in found.items() if name not in ("apiVersion", "kind", "metadata")}


def test_identity_is_in_every_body_and_what_the_server_sets_is_in_none() -> None:
    found = written(live(("op", {"f:spec": {"f:a": {}}}), spec={"a": 1, "defaulted": 2}), foreign=())

    assert found == {
        "apiVersion": "v1",
        "kind": "Thing",
        "metadata": {"name": "a", "namespace": "ns"},
        "spec": {"a": 1},
    }


def test_a_leaf_is_taken_as_it_is_even_where_it_is_a_map_or_a_list() -> None:
    tree: Tree = {"f:spec": {"f:selector": {}, "f:args": {}, "f:empty": {}}}
    spec = {"selector": {"x": "y"}, "args": ["-m", "64"], "empty": {}}

    assert body(("op", tree), spec={**spec, "other": 1}) == {"spec": spec}


def test_a_map_of_which_some_keys_are_owned_is_these_keys() -> None:
    tree: Tree = {"f:metadata": {"f:labels": {".": {}, "f:mine": {}}}}
    found = written(live(("op", tree), metadata={"labels": {"mine": "1", "theirs": "2"}}), foreign=())

    assert found["metadata"] == {"name": "a", "namespace": "ns", "labels": {"mine": "1"}}


def test_a_map_that_is_owned_without_any_key_is_there_and_empty() -> None:
    assert body(("op", {"f:data": {".": {}}}), data={"theirs": "2"}) == {"data": {}}


def test_elements_of_a_keyed_list_are_found_by_key_and_keep_their_order_and_keys() -> None:
    tree: Tree = {
        "f:ports": {
            'k:{"port":2,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}},
            'k:{"port":1,"protocol":"TCP"}': {".": {}, "f:port": {}},
        }
    }
    ports = [
        {"port": 1, "protocol": "TCP", "name": "defaulted", "targetPort": 1},
        {"port": 3, "protocol": "TCP", "name": "theirs"},
        {"port": 2, "protocol": "TCP", "name": "two", "targetPort": 2},
    ]

    assert body(("op", tree), ports=ports) == {
        "ports": [{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP", "name": "two"}]
    }


def test_an_atomic_element_of_a_keyed_list_is_whole() -> None:
    owner = {"uid": "u0", "kind": "Memcached", "controller": True}
    tree: Tree = {"f:metadata": {"f:ownerReferences": {'k:{"uid":"u0"}': {}}}}
    found = written(live(("op", tree), metadata={"ownerReferences": [{"uid": "x"}, owner]}), foreign=())

    assert found["metadata"]["ownerReferences"] == [owner]


def test_a_set_is_the_owned_values() -> None:
    tree: Tree = {"f:finalizers": {".": {}, 'v:"b"': {}, 'v:"gone"': {}}}

    assert body(("op", tree), finalizers=["a", "b"]) == {"finalizers": ["b"]}


def test_an_index_is_the_element_at_that_place() -> None:
    assert body(("op", {"f:items": {"i:1": {}}}), items=["a", "b"]) == {"items": ["b"]}


def test_what_was_owned_and_is_gone_is_left_out() -> None:
    assert body(("op", {"f:a": {}, "f:gone": {}}), a=None) == {"a": None}


def test_several_managers_of_the_operator_are_one_and_foreign_ones_are_none() -> None:
    entries: tuple[tuple[str, Tree], ...] = (
        ("op", {"f:spec": {"f:a": {}, "f:deep": {"f:x": {}}}}),
        ("op-update", {"f:spec": {"f:b": {}, "f:deep": {"f:y": {}}}}),
        ("other", {"f:spec": {"f:c": {}}}),
    )

    assert body(*entries, spec={"a": 1, "b": 2, "c": 3, "deep": {"x": 1, "y": 2, "z": 3}}) == {
        "spec": {"a": 1, "b": 2, "deep": {"x": 1, "y": 2}}
    }


def test_a_status_is_what_was_written_by_the_subresource() -> None:
    tree: Tree = {"f:status": {"f:conditions": {'k:{"type":"Ready"}': {".": {}, "f:type": {}, "f:status": {}}}}}
    status = {"conditions": [{"type": "Ready", "status": "True", "reason": "theirs"}], "replicas": 1}
    cr = live(("op", tree), subresource="status", status=status, spec={"replicas": 3})

    assert written(cr, foreign=(), subresource="status") == {
        **IDENTITY,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_an_object_of_which_the_operator_owns_nothing_is_an_error_that_names_it() -> None:
    with pytest.raises(BenchError, match="owns no field of Thing a/status"):
        written(live(("op", {"f:spec": {"f:a": {}}}), spec={"a": 1}), foreign=(), subresource="status")
