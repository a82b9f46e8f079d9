"""Objects as caches keep them, and whose they are."""

from typing import Any

import msgspec
import pytest

from memop.reconcilers.objects import Claim, Live, claim, decoder, selector_labels
from memop.refs import MEMCACHEDS, Key

SELECTOR = selector_labels("memcached", "cache")


def live(**metadata: Any) -> Live:
    body = {"metadata": {"name": "cache", "namespace": "default", "uid": "u", "resourceVersion": "7", **metadata}}
    return decoder("memop-memcached")(msgspec.json.encode({**body, "spec": {"replicas": 2}, "status": {"a": 1}}))


def controller(**changes: Any) -> dict[str, Any]:
    owner = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": "cache", "uid": "cr"}
    return {"ownerReferences": [{**owner, "controller": True, **changes}]}


CR = live(uid="cr")


def test_decoding_keeps_what_reconcilers_read() -> None:
    fields = [
        {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}},
        {"manager": "memop-memcached", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:status": {}}},
        {"manager": "memop-memcached", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]
    decoded = live(generation=3, labels={"a": "b"}, managedFields=fields, deletionTimestamp="2026-01-01T00:00:00Z")
    assert (decoded.key, decoded.uid, decoded.resource_version) == (Key("default", "cache"), "u", 7)
    assert (decoded.generation, decoded.deleting, decoded.status) == (3, True, b'{"a":1}')
    assert msgspec.json.decode(decoded.owned) == {"f:spec": {"f:replicas": {}}}
    assert decoded.fields()["spec"] == {"replicas": 2}
    assert decoded.fields()["metadata"]["labels"] == {"a": "b"}


def test_the_status_of_a_cr_is_compared_with_what_was_applied_to_the_subresource() -> None:
    body = {
        "metadata": {
            "name": "cache",
            "uid": "u",
            "resourceVersion": "7",
            "managedFields": [
                {"manager": "memop-memcached", "operation": "Apply", "fieldsV1": {"f:spec": {}}},
                {"manager": "memop-memcached", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:x": {}}},
            ],
        }
    }
    decoded = decoder("memop-memcached", subresource="status")(msgspec.json.encode(body))
    assert decoded.owned == b'{"f:x":{}}'


def test_kubectls_copy_of_the_manifest_is_not_kept() -> None:
    decoded = live(annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"})
    assert decoded.annotations == b'{"a":"b"}'


@pytest.mark.parametrize(
    ("metadata", "verdict"),
    [
        (controller(uid="cr"), Claim.OURS),
        ({"labels": SELECTOR}, Claim.ADOPTABLE),
        ({"labels": SELECTOR, **controller(uid="gone")}, Claim.ADOPTABLE),
        ({"labels": SELECTOR, **controller(uid="gone", apiVersion="memcached.c5c3.io/v1alpha1")}, Claim.ADOPTABLE),
        ({"labels": SELECTOR, **controller(uid="x", name="other")}, Claim.STRANGER),
        ({"labels": SELECTOR, **controller(uid="x", kind="MemcachedCluster")}, Claim.STRANGER),
        ({"labels": SELECTOR, **controller(uid="x", apiVersion="cache.example.com/v1")}, Claim.STRANGER),
        ({"labels": {**SELECTOR, "app.kubernetes.io/instance": "other"}}, Claim.STRANGER),
        ({"labels": {"app.kubernetes.io/name": "memcached"}}, Claim.STRANGER),
        (controller(uid="gone"), Claim.STRANGER),
        ({}, Claim.STRANGER),
        ({"labels": SELECTOR, "ownerReferences": controller(controller=False)["ownerReferences"]}, Claim.ADOPTABLE),
    ],
)
def test_whose_object_it_is(metadata: dict[str, Any], verdict: Claim) -> None:
    assert claim(live(**metadata), {"metadata": {"labels": SELECTOR}}, owner=CR, resource=MEMCACHEDS) is verdict
