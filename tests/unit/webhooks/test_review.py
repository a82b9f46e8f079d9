"""AdmissionReview in, AdmissionReview out, whatever comes in."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from memop.webhooks.review import TASKS, Reviewer, Task, path
from memop.webhooks.validation import Policy
from tests.unit.webhooks.bad_objects import BAD, Bad
from tests.unit.webhooks.test_validation import JSON, odd_objects

Json = Any
GOOD = {"metadata": {"name": "pool"}, "spec": {}}
REVIEWER = Reviewer(Policy())
MANIFESTS = Path(__file__).parents[3] / "manifests/webhook"


def asked(**request: Json) -> Json:
    kind = {"group": "memcached.c5c3.io", "version": "v1beta1", "kind": "Memcached"}
    given = {"uid": "u-1", "kind": kind, "operation": "CREATE", "name": "pool", "object": GOOD, "oldObject": None}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": given | request}


def answer(task: Task, review: Json) -> Json:
    body = review if isinstance(review, bytes) else msgspec.json.encode(review)
    told = msgspec.json.decode(REVIEWER.review(task, body))
    assert (told["apiVersion"], told["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    return told["response"]


def patch(response: Json) -> Json:
    assert response["patchType"] == "JSONPatch"
    return msgspec.json.decode(base64.b64decode(response["patch"]))


def test_paths_are_controller_runtimes_and_the_manifests() -> None:
    assert [path(task) for task in TASKS] == [
        "/mutate-memcached-c5c3-io-v1beta1-memcached",
        "/validate-memcached-c5c3-io-v1beta1-memcached",
    ]
    named = [yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text()) for name in ("mutating", "validating")]
    assert [one["webhooks"][0]["clientConfig"]["service"]["path"] for one in named] == [path(task) for task in TASKS]


def test_an_object_is_defaulted_by_a_patch() -> None:
    response = answer("mutate", asked())
    assert (response["uid"], response["allowed"]) == ("u-1", True)
    assert {step["path"] for step in patch(response)} == {"/spec/replicas", "/spec/memcached"}
    memcached = {"maxMemoryMB": 64, "maxConnections": 1024, "threads": 4, "maxItemSize": "1m", "verbosity": 0}
    full = GOOD | {"spec": {"replicas": 1, "memcached": memcached}}
    assert answer("mutate", asked(object=full)) == {"uid": "u-1", "allowed": True}


def test_on_update_the_old_object_is_looked_at() -> None:
    old = {"metadata": {"name": "pool"}, "spec": {"replicas": 1}}
    new = {"metadata": {"name": "pool"}, "spec": {"replicas": 1, "autoscaling": {"enabled": True, "maxReplicas": 3}}}
    update = asked(operation="UPDATE", object=new, oldObject=old)
    assert {"op": "remove", "path": "/spec/replicas"} in patch(answer("mutate", update))
    assert answer("validate", update)["status"]["details"]["causes"][0]["field"] == "spec.replicas"
    assert answer("validate", asked(operation="UPDATE", object=new, oldObject=new))["allowed"]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.errors[0].partition(": ")[0])
def test_a_refusal_is_the_api_servers_own_invalid(bad: Bad) -> None:
    response = answer("validate", asked(object=bad.manifest, name=bad.name))
    status = response["status"]
    assert (response["allowed"], status["code"], status["reason"]) == (False, 422, "Invalid")
    told = bad.errors[0] if len(bad.errors) == 1 else f"[{', '.join(bad.errors)}]"
    assert status["message"] == f'Memcached.memcached.c5c3.io "{bad.name}" is invalid: {told}'
    assert [f"{cause['field']}: {cause['message']}" for cause in status["details"]["causes"]] == bad.errors


def test_a_warning_comes_with_an_answer() -> None:
    response = answer("validate", asked(object={"metadata": {"name": "pool"}, "spec": {"image": "memcached"}}))
    assert response["allowed"]
    assert response["warnings"] == ["spec.image: no tag: pods may run different versions; name a version"]


BAD_SPEC = {"metadata": {"name": "pool"}, "spec": {"replicas": 70}}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "DELETE", "object": None, "oldObject": BAD_SPEC},
        {"operation": "CONNECT", "object": None},
        {"operation": "UPDATE", "subResource": "status", "object": BAD_SPEC, "oldObject": GOOD},
        {"operation": "UPDATE", "subResource": "scale", "object": {"kind": "Scale"}, "oldObject": {"kind": "Scale"}},
        {
            "operation": "UPDATE",
            "object": {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"replicas": 70}},
            "oldObject": GOOD,
        },
    ],
)
def test_what_is_not_ours_to_judge_passes(task: Task, request_: Json) -> None:
    assert answer(task, asked(**request_)) == {"uid": "u-1", "allowed": True}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("review", "uid", "words"),
    [
        (b"", "", "not an AdmissionReview"),
        (b"\xff{", "", "not an AdmissionReview"),
        (b"[" * 100_000, "", "not an AdmissionReview"),
        ([], "", "not an AdmissionReview"),
        ({"kind": "AdmissionReview"}, "", "not an AdmissionReview"),
        ({"request": {"uid": "u-2"}}, "u-2", "missing required field"),
        (
            asked() | {"apiVersion": "admission.k8s.io/v1beta1"},
            "u-1",
            "got AdmissionReview of admission.k8s.io/v1beta1",
        ),
        (asked(kind={"group": "apps", "version": "v1", "kind": "Deployment"}), "u-1", "not Deployment of apps"),
        (asked(object=None), "u-1", "CREATE without object"),
        (asked(object=[1]), "u-1", "CREATE without object"),
        (asked(operation="UPDATE"), "u-1", "UPDATE without object or oldObject"),
        (asked(operation=1), "u-1", "not an AdmissionReview"),
    ],
)
def test_odd_input_is_denied_and_told_why(task: Task, review: Json, uid: str, words: str) -> None:
    response = answer(task, review)
    assert (response["uid"], response["allowed"], response["status"]["code"]) == (uid, False, 400)
    assert words in response["status"]["message"]


@given(st.sampled_from(TASKS), odd_objects() | JSON, odd_objects() | JSON, st.sampled_from(["CREATE", "UPDATE"]))
def test_every_object_gets_an_answer(task: Task, new: Json, old: Json, operation: str) -> None:
    response = answer(task, asked(operation=operation, object=new, oldObject=old))
    assert response["uid"] == "u-1"
    assert isinstance(response["allowed"], bool)


@given(st.sampled_from(TASKS), st.binary() | JSON.map(msgspec.json.encode))
def test_all_bytes_get_an_answer(task: Task, body: bytes) -> None:
    assert answer(task, body)["allowed"] is False
