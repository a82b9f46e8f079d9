"""What is read of a workload."""

from typing import Any

import msgspec
import pytest

from memop.reconcilers.sync.source import Source, decode, fed, matters
from memop.refs import Key

LABEL = "memcached-operator/associated-memcached-deployment-name"
OWNER = {"apiVersion": "memcached.c5c3.io/v1alpha1", "kind": "Memcached", "name": "cache", "controller": True}


def read(spec: Any = None, **metadata: Any) -> Source:
    known = {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7"}
    body = {"metadata": {**known, **metadata}, "status": {"replicas": 9}}
    return decode(msgspec.json.encode(body if spec is None else {**body, "spec": spec}))


def test_a_deployment_is_its_size_and_its_label() -> None:
    source = read({"replicas": 3, "template": {}}, labels={LABEL: "cache", "app": "web"})
    assert source == Source(Key("shop", "web"), "u", 7, 3, deleting=False, feeds="cache", made_for="")
    assert list(fed(source)) == ["shop/cache"]


@pytest.mark.parametrize(
    ("spec", "replicas"), [(None, 1), ({}, 1), ({"replicas": 0}, 0), ({"replicas": 2147483647}, 2147483647)]
)
def test_a_size_that_is_not_given_is_one(spec: Any, replicas: int) -> None:
    assert read(spec).replicas == replicas


@pytest.mark.parametrize("labels", [{}, {LABEL: ""}, {"app": "web"}])
def test_without_the_label_it_gives_its_size_to_nobody(labels: dict[str, str]) -> None:
    assert (read(labels=labels).feeds, list(fed(read(labels=labels)))) == ("", [])


@pytest.mark.parametrize(
    ("owner", "made_for"),
    [
        (OWNER, "cache"),
        ({**OWNER, "apiVersion": "memcached.c5c3.io/v1beta1"}, "cache"),
        ({**OWNER, "apiVersion": "example.com/v1beta1"}, ""),
        ({**OWNER, "kind": "MemcachedCluster"}, ""),
        ({**OWNER, "controller": False}, ""),
    ],
)
def test_whose_pods_they_are_is_what_the_controller_says(owner: dict[str, Any], made_for: str) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "beside"}
    assert read(ownerReferences=[other, owner]).made_for == made_for


def test_what_is_being_deleted_says_so() -> None:
    assert read(deletionTimestamp="2026-01-01T00:00:00Z").deleting


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({"replicas": 4}, True),
        ({"deleting": True}, True),
        ({"feeds": "other"}, True),
        ({"made_for": "other"}, True),
        ({"resource_version": 8}, False),
    ],
)
def test_that_its_pods_come_and_go_is_no_news(change: dict[str, Any], news: bool) -> None:
    source = read({"replicas": 3}, labels={LABEL: "cache"})
    assert matters(source, msgspec.structs.replace(source, **change)) is news
