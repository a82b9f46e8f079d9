"""AdmissionReview in, AdmissionReview out, whatever comes in."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from memop.webhooks.cluster import ClusterPolicy
from memop.webhooks.review import KINDS, TASKS, Reviewer, Task, path
from memop.webhooks.validation import Policy
from tests.unit.webhooks.bad_clusters import BAD_CLUSTERS, BadCluster
from tests.unit.webhooks.bad_objects import BAD, Bad
from tests.unit.webhooks.test_cluster import odd_clusters
from tests.unit.webhooks.test_validation import JSON, odd_objects

Json = Any
GOOD = {"metadata": {"name": "pool"}, "spec": {}}
REVIEWER = Reviewer(Policy())
MANIFESTS = Path(__file__).parents[3] / "manifests/webhook"


MEMCACHED = {"group": "memcached.c5c3.io", "version": "v1beta1", "kind": "Memcached"}
CLUSTER = {"group": "memcached.c5c3.io", "version": "v1alpha1", "kind": "MemcachedCluster"}


def asked(**request: Json) -> Json:
    given = {"uid": "u-1", "kind": MEMCACHED, "operation": "CREATE", "name": "pool", "object": GOOD, "oldObject": None}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": given | request}


def answer(task: Task, review: Json) -> Json:
    body = review if isinstance(review, bytes) else msgspec.json.encode(review)
    told = msgspec.json.decode(REVIEWER.review(task, body))
    assert (told["apiVersion"], told["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    return told["response"]


def patch(response: Json) -> Json:
    assert response["patchType"] == "JSONPatch"
    return msgspec.json.decode(base64.b64decode(response["patch"]))


def test_paths_are_controller_runtimes() -> None:
    assert [path(task, kind) for kind in KINDS for task in TASKS] == [
        "/mutate-memcached-c5c3-io-v1beta1-memcached",
        "/validate-memcached-c5c3-io-v1beta1-memcached",
        "/mutate-memcached-c5c3-io-v1alpha1-memcachedcluster",
        "/validate-memcached-c5c3-io-v1alpha1-memcachedcluster",
    ]


@pytest.mark.parametrize(("task", "file"), [("mutate", "mutating"), ("validate", "validating")])
def test_the_manifests_ask_for_the_stored_version_of_every_kind_at_its_path(task: Task, file: str) -> None:
    manifest = yaml.safe_load((MANIFESTS / f"{file}.yaml").read_text(encoding="utf-8"))
    asked_for = [
        (webhook["clientConfig"]["service"]["path"], rule["apiGroups"], rule["apiVersions"], rule["resources"])
        for webhook in manifest["webhooks"]
        for rule in webhook["rules"]
    ]
    assert asked_for == [(path(task, kind), [kind.group], [kind.versions[-1]], [kind.plural]) for kind in KINDS]
    assert len({webhook["name"] for webhook in manifest["webhooks"]}) == len(KINDS)
    but_for_whom = [
        {name: value for name, value in webhook.items() if name not in ("name", "clientConfig", "rules")}
        for webhook in manifest["webhooks"]
    ]
    assert but_for_whom == [but_for_whom[0]] * len(KINDS), "one kind is as well kept as the other"


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


def test_a_cluster_is_defaulted_by_a_patch() -> None:
    steps = patch(answer("mutate", asked(kind=CLUSTER)))
    filled = ("shards", "replicasPerShard", "memcached", "proxy")
    assert {step["path"] for step in steps} == {f"/spec/{name}" for name in filled}


@pytest.mark.parametrize("bad", BAD_CLUSTERS, ids=lambda bad: bad.errors[0].partition(": ")[0])
def test_a_refusal_of_a_cluster_is_the_api_servers_own_invalid(bad: BadCluster) -> None:
    response = answer("validate", asked(kind=CLUSTER, object=bad.manifest, name=bad.name))
    status = response["status"]
    assert (response["allowed"], status["code"], status["reason"]) == (False, 422, "Invalid")
    assert status["message"].startswith(f'MemcachedCluster.memcached.c5c3.io "{bad.name}" is invalid: ')
    assert {name: status["details"][name] for name in ("name", "group", "kind")} == {
        "name": bad.name,
        "group": "memcached.c5c3.io",
        "kind": "MemcachedCluster",
    }
    assert [f"{cause['field']}: {cause['message']}" for cause in status["details"]["causes"]] == bad.errors


def test_on_update_a_cluster_is_held_against_the_old_one() -> None:
    old = {"metadata": {"name": "cache"}, "spec": {"shards": 6}}
    update = asked(kind=CLUSTER, operation="UPDATE", object={**old, "spec": {"shards": 3}}, oldObject=old)
    response = answer("validate", update)
    assert response["allowed"]
    assert response["warnings"] == ["spec.shards: from 6 to 3: the last shards' keys are lost"]


def test_the_operators_policy_holds_for_a_cluster() -> None:
    bare = asked(kind=CLUSTER, object={"metadata": {"name": "cache"}, "spec": {"proxy": {"twemproxy": {}}}})
    assert not answer("validate", bare)["allowed"]
    provided = Reviewer(ClusterPolicy(twemproxy_image="registry.example.com/twemproxy:0.5.0"))
    told = msgspec.json.decode(provided.review("validate", msgspec.json.encode(bare)))
    assert told["response"]["allowed"]


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


ODD = odd_objects() | odd_clusters() | JSON


@given(st.sampled_from(TASKS), st.sampled_from([MEMCACHED, CLUSTER]), ODD, ODD, st.sampled_from(["CREATE", "UPDATE"]))
def test_every_object_gets_an_answer(task: Task, kind: Json, new: Json, old: Json, operation: str) -> None:
    response = answer(task, asked(kind=kind, operation=operation, object=new, oldObject=old))
    assert response["uid"] == "u-1"
    assert isinstance(response["allowed"], bool)


@given(st.sampled_from(TASKS), st.binary() | JSON.map(msgspec.json.encode))
def test_all_bytes_get_an_answer(task: Task, body: bytes) -> None:
    assert answer(task, body)["allowed"] is False
