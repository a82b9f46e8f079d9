"""The compare: quiet about what we applied and what others added, loud about everything else."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memop.reconcilers.compare import Difference, FieldSet, difference
from tests.unit.reconcilers.fields_v1 import fields_v1

DESIRED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "cache",
        "namespace": "default",
        "uid": "u1",
        "labels": {"app.kubernetes.io/name": "memcached", "app.kubernetes.io/instance": "cache"},
        "ownerReferences": [{"uid": "o1", "kind": "Memcached", "name": "cache", "controller": True}],
    },
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "cache"}},
        "template": {
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "a", "operator": "Exists"}],
                "containers": [
                    {
                        "name": "memcached",
                        "image": "memcached:1.6",
                        "args": ["-m", "64"],
                        "ports": [{"name": "memcached", "containerPort": 11211, "protocol": "TCP"}],
                        "resources": {"limits": {"cpu": "1000m", "memory": "1Gi", "example.com/x.y": "1"}},
                        "securityContext": {"capabilities": {"drop": ["ALL"]}},
                    }
                ],
            }
        },
    },
}


def live(**changes: Any) -> dict[str, Any]:
    """The object as the server stores DESIRED: defaults added, quantities in canonical form."""
    body = copy.deepcopy(DESIRED)
    body["spec"]["revisionHistoryLimit"] = 10
    body["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["imagePullPolicy"] = "IfNotPresent"
    container["resources"]["limits"] = {"cpu": "1", "memory": "1Gi", "example.com/x.y": "1"}
    for path, value in changes.items():
        set_at(body, path, value)
    return body


def set_at(body: Any, path: str, value: Any) -> None:
    *parents, last = path.split("__")
    for part in parents:
        body = body[int(part) if part.isdigit() else part]
    body[last] = value


def text(found: Difference | None) -> str:
    return found.message if found else ""


OWNED = fields_v1(DESIRED)
CONTAINER = "spec__template__spec__containers__0"


def test_what_the_server_made_of_our_own_apply_is_no_difference() -> None:
    assert difference(DESIRED, live(), FieldSet(OWNED)) is None


def test_what_others_added_beside_ours_is_no_difference() -> None:
    added = live()
    added["metadata"]["labels"]["team"] = "blue"
    added["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "mesh"})
    added["spec"]["paused"] = True
    assert difference(DESIRED, added, FieldSet(OWNED)) is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"spec__replicas": 5}, "spec.replicas is 5, wanted 2"),
        ({f"{CONTAINER}__args": ["-m", "1"]}, 'containers[memcached].args is ["-m","1"]'),
        ({f"{CONTAINER}__args": ["-m", "64", "-v"]}, "args"),
        ({f"{CONTAINER}__resources__limits__memory": "1G"}, "resources.limits.memory"),
        ({f"{CONTAINER}__resources__limits__example.com/x.y": "2"}, "limits.example.com/x.y"),
        ({"spec__template__spec__nodeSelector": {"disk": "ssd", "zone": "a"}}, "nodeSelector"),
        ({"spec__template__spec__tolerations": []}, "tolerations"),
        ({"spec__template__spec__containers": []}, "containers[memcached]"),
    ],
)
def test_a_changed_value_is_named_with_its_path(changes: dict[str, Any], field: str) -> None:
    assert field in text(difference(DESIRED, live(**changes), FieldSet(OWNED)))


def test_a_value_taken_over_by_somebody_else_is_a_difference_even_when_it_agrees() -> None:
    owned = copy.deepcopy(OWNED)
    del owned["f:spec"]["f:replicas"]
    found = difference(DESIRED, live(), FieldSet(owned))
    assert found is not None
    assert (found.message, found.foreign) == ("spec.replicas is 2, not as applied; wanted 2", True)


@pytest.mark.parametrize("path", ["spec__replicas", "metadata__labels", "spec__template__spec__nodeSelector"])
def test_a_field_no_longer_wanted_is_a_difference(path: str) -> None:
    desired = copy.deepcopy(DESIRED)
    *parents, last = path.split("__")
    body = desired
    for part in parents:
        body = body[part]
    del body[last]
    assert f"{last} is no longer wanted" in text(difference(desired, live(), FieldSet(OWNED)))


def test_an_element_no_longer_wanted_is_a_difference() -> None:
    desired = copy.deepcopy(DESIRED)
    desired["metadata"]["ownerReferences"] = []
    assert "ownerReferences[o1] is no longer wanted" in text(difference(desired, live(), FieldSet(OWNED)))


def test_an_object_that_we_never_applied_differs() -> None:
    assert difference(DESIRED, live(), FieldSet({})) is not None


@pytest.mark.parametrize(
    ("mine", "stored"),
    [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1e3", "1k"),
        (2, "2"),
        ("1.5Gi", "1536Mi"),
        ("100u", "1m"),
        ("0.0015", "2m"),
    ],
)
def test_quantities_are_equal_by_value(mine: Any, stored: Any) -> None:
    body = {"spec": {"limits": {"memory": mine}}}
    assert difference(body, {"spec": {"limits": {"memory": stored}}}, FieldSet(fields_v1(body))) is None


@pytest.mark.parametrize(("mine", "stored"), [("100u", "1m"), ("0.0015", "2m"), ("1n", "1m")])
def test_resources_are_rounded_up_to_thousandths_as_the_server_does(mine: str, stored: str) -> None:
    body = {"spec": {"limits": {"cpu": mine}}}
    assert difference(body, {"spec": {"limits": {"cpu": stored}}}, FieldSet(fields_v1(body))) is None


@pytest.mark.parametrize("path", ["args", "labels"])
def test_strings_elsewhere_are_not_quantities(path: str) -> None:
    body = {"spec": {path: {"x": "1000m"}}}
    assert difference(body, {"spec": {path: {"x": "1"}}}, FieldSet(fields_v1(body))) is not None


def test_empties_that_the_server_drops_are_no_difference() -> None:
    body = {"spec": {"tolerations": [], "resources": {}, "nodeSelector": {}, "note": "", "hostNetwork": False}}
    assert difference(body, {"spec": {}}, FieldSet(fields_v1(body))) is None


WORDS = st.text("abc", max_size=2)
MAPS = st.dictionaries(st.sampled_from(["p", "q"]), WORDS, max_size=2)
BLOCKS: st.SearchStrategy[dict[str, Any]] = st.deferred(
    lambda: st.fixed_dictionaries(
        {},
        optional={
            "replicas": st.integers(0, 2),
            "args": st.lists(WORDS, max_size=2),
            "labels": MAPS,
            "nodeSelector": MAPS,
            "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": st.sampled_from("xyz")}), unique_by=str),
            "block": BLOCKS,
        },
    )
)
BODIES = BLOCKS.map(lambda block: {"spec": block})


@given(BODIES)
def test_any_body_equals_itself_as_applied(body: dict[str, Any]) -> None:
    assert difference(body, body, FieldSet(fields_v1(body))) is None


@given(BODIES, BODIES)
def test_a_changed_wish_never_goes_unnoticed(applied: dict[str, Any], wanted: dict[str, Any]) -> None:
    if not _agree(wanted, applied):
        assert difference(wanted, applied, FieldSet(fields_v1(applied))) is not None


def _agree(wanted: Any, applied: Any) -> bool:
    """Equal but for empties, which the server does not store, and the order of lists that merge by key."""
    return bool(_plain(wanted) == _plain(applied))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: plain for name, item in value.items() if (plain := _plain(item)) not in ({}, [], "", frozenset())}
    if isinstance(value, list):
        return frozenset(item["name"] for item in value) if value and isinstance(value[0], dict) else value
    return value
