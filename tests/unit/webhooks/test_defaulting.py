"""What is stored by default, what is not, and when a default goes again."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memop.reconcilers.sync.reconciler import FIELD_MANAGER
from memop.webhooks.defaulting import default
from memop.webhooks.patch import diff
from tests.apiserver.test_crd import GOOD
from tests.unit.webhooks.bad_objects import BAD
from tests.unit.webhooks.test_validation import JSON, odd_objects

Json = Any

CONFIG = {"maxMemoryMB": 64, "maxConnections": 1024, "threads": 4, "maxItemSize": "1m", "verbosity": 0}
AUTOSCALING = {"autoscaling": {"enabled": True, "maxReplicas": 3}}
FOLLOW = {"replicasFrom": {"kind": "Deployment", "name": "web"}}


def defaulted(spec: Json, old: Json = None) -> Json:
    return default({"spec": spec}, None if old is None else {"spec": old})["spec"]


@pytest.mark.parametrize(
    ("spec", "stored"),
    [
        (None, {"replicas": 1, "memcached": CONFIG}),
        ({}, {"replicas": 1, "memcached": CONFIG}),
        ({"replicas": 0, "memcached": {"threads": 8}}, {"replicas": 0, "memcached": {**CONFIG, "threads": 8}}),
        (AUTOSCALING, {**AUTOSCALING, "memcached": CONFIG}),
        (FOLLOW, {**FOLLOW, "memcached": CONFIG}),
        ({"autoscaling": {"enabled": False}}, {"autoscaling": {"enabled": False}, "replicas": 1, "memcached": CONFIG}),
        (
            {"highAvailability": {"gracefulShutdown": {"enabled": True}, "podDisruptionBudget": {"enabled": True}}},
            {
                "replicas": 1,
                "memcached": CONFIG,
                "highAvailability": {
                    "antiAffinityPreset": "soft",
                    "gracefulShutdown": {
                        "enabled": True,
                        "preStopDelaySeconds": 10,
                        "terminationGracePeriodSeconds": 30,
                    },
                    "podDisruptionBudget": {"enabled": True},
                },
            },
        ),
        (
            {"monitoring": {"enabled": True, "serviceMonitor": {"interval": "1m"}}},
            {
                "replicas": 1,
                "memcached": CONFIG,
                "monitoring": {"enabled": True, "serviceMonitor": {"interval": "1m", "scrapeTimeout": "10s"}},
            },
        ),
        ({"monitoring": {"enabled": True}}, {"monitoring": {"enabled": True}, "replicas": 1, "memcached": CONFIG}),
    ],
)
def test_defaults_that_are_stored(spec: Json, stored: Json) -> None:
    assert defaulted(spec) == stored


def managed(replicas_by: str | None) -> Json:
    spec: Json = {"f:spec": {"f:autoscaling": {}, **({"f:replicas": {}} if replicas_by else {})}}
    return {"managedFields": [{"manager": replicas_by or "kubectl", "fieldsV1": spec}]}


@pytest.mark.parametrize("other", [AUTOSCALING, FOLLOW])
@pytest.mark.parametrize("metadata", [{}, managed(None)])
def test_a_defaulted_replicas_goes_when_another_takes_over(other: Json, metadata: Json) -> None:
    old = default({"metadata": metadata, "spec": {}})
    new = default({"metadata": metadata, "spec": {**old["spec"], **other}}, old)
    assert "replicas" not in new["spec"]
    assert default(new, new) == new


@pytest.mark.parametrize("before", [{}, FOLLOW])
def test_a_size_that_was_followed_goes_when_an_autoscaler_takes_over(before: Json) -> None:
    metadata = managed(FIELD_MANAGER)
    old = {"metadata": metadata, "spec": {"replicas": 5, **before}}
    assert "replicas" not in default({"metadata": metadata, "spec": {"replicas": 5, **AUTOSCALING}}, old)["spec"]
    # Where it is followed on, it is written anew at once: nothing is to be gained, and a pool without a size.
    assert default({"metadata": metadata, "spec": {"replicas": 5, **FOLLOW}}, old)["spec"]["replicas"] == 5


@pytest.mark.parametrize(
    ("old", "new", "metadata"),
    [
        ({"replicas": 3}, {"replicas": 3, **AUTOSCALING}, {}),
        ({"replicas": 3}, {"replicas": 4, **AUTOSCALING}, managed(FIELD_MANAGER)),
        ({"replicas": 3}, {"replicas": 1, **AUTOSCALING}, {}),
        ({"replicas": 1}, {"replicas": 1, **AUTOSCALING}, managed("argocd")),
        ({**AUTOSCALING}, {"replicas": 1, **AUTOSCALING}, {}),
        ({"replicas": 1, **AUTOSCALING}, {"replicas": 1, **AUTOSCALING}, {}),
        (None, {"replicas": 1, **AUTOSCALING}, {}),
    ],
)
def test_a_replicas_that_somebody_gave_stays_for_validation_to_refuse(old: Json, new: Json, metadata: Json) -> None:
    before = None if old is None else {"metadata": metadata, "spec": old}
    assert default({"metadata": metadata, "spec": new}, before)["spec"]["replicas"] == new["replicas"]


SPECS = st.sampled_from([*GOOD, *(bad.spec for bad in BAD)])


@given(SPECS, st.none() | SPECS)
def test_defaulting_twice_is_defaulting_once_and_changes_nothing_given(spec: Json, old: Json) -> None:
    given_spec = deepcopy(spec)
    once = defaulted(spec, old)
    assert defaulted(once, old) == once
    assert spec == given_spec
    added = diff({"spec": spec}, {"spec": once})
    assert all(step["op"] == "add" or step == {"op": "remove", "path": "/spec/replicas"} for step in added)


@given(odd_objects() | JSON, st.none() | odd_objects() | JSON)
def test_no_shape_of_an_object_is_too_odd(new: Json, old: Json) -> None:
    once = default(new, old)
    assert default(once, old) == once


# --- JSON Patch


def applied(document: Json, operations: list[Json]) -> Json:
    """RFC 6902, as far as objects go."""
    box = {"": deepcopy(document)}
    for step in operations:
        *parents, name = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")]
        node: Json = box
        for part in parents:
            assert part in node, step
            node = node[part]
        if step["op"] == "remove":
            del node[name]
        else:
            assert (name in node) is (step["op"] == "replace"), step
            node[name] = step["value"]
    return box[""]


OBJECTS = st.dictionaries(st.text("a/~0", max_size=3), JSON, max_size=4)


@given(OBJECTS, OBJECTS)
def test_a_patch_makes_of_one_object_the_other(before: Json, after: Json) -> None:
    operations = diff(before, after)
    assert repr(applied(before, operations)) == repr(after) or applied(before, operations) == after
    assert diff(after, after) == []
    assert len({step["path"] for step in operations}) == len(operations)


@given(SPECS)
def test_the_patch_of_a_defaulted_object_adds_only_what_is_missing(spec: Json) -> None:
    before = {"metadata": {"name": "x"}, "spec": spec}
    after = default(before)
    operations = diff(before, after)
    assert applied(before, operations) == after
    assert diff(after, default(after)) == []
