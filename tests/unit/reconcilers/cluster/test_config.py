"""Spec in, the proxies' ConfigMap out; what is in the files is tested beside each proxy."""

from typing import Any

import pytest

from memop.reconcilers.cluster.config import config_hash, config_map, topology
from memop.reconcilers.cluster.instance import Layout
from tests.unit.reconcilers.cluster.instances import PROXY_SELECTOR, instance

KINDS: dict[str, dict[str, Any]] = {
    "builtin": {},
    "twemproxy": {"twemproxy": {}},
    "mcrouter": {"mcrouter": {}},
}


def test_hosts_are_the_pods_names_shard_by_shard_copy_by_copy() -> None:
    built = topology(instance({"shards": 2, "replicasPerShard": 2}, cluster_domain="corp.example"))
    assert built.port == 11211
    assert built.copies == (
        (
            "cache-r0-0.default.svc.corp.example",
            "cache-r0-1.default.svc.corp.example",
        ),
        (
            "cache-r1-0.default.svc.corp.example",
            "cache-r1-1.default.svc.corp.example",
        ),
    )


def test_the_config_is_of_the_layout_and_not_of_all_that_is_there() -> None:
    built = instance({"shards": 5, "replicasPerShard": 3}, layout=Layout(4, 2), servers=6, copies=3)
    assert [len(copy) for copy in topology(built).copies] == [4, 4]


def test_what_grows_only_appends() -> None:
    small = topology(instance({"shards": 2, "replicasPerShard": 1})).copies
    large = topology(instance({"shards": 4, "replicasPerShard": 3})).copies
    assert [copy[:2] for copy in large[:1]] == list(small)


@pytest.mark.parametrize("kind", KINDS)
def test_the_config_map_says_what_it_lays_out(kind: str) -> None:
    built = config_map(instance({"shards": 2, "proxy": KINDS[kind]}))
    data = built.pop("data")
    assert built == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "cache-proxy",
            "namespace": "default",
            "labels": PROXY_SELECTOR,
            "annotations": {
                "memcached.c5c3.io/layout": "2x1",
                "memcached.c5c3.io/config-hash": config_hash(instance({"shards": 2, "proxy": KINDS[kind]})),
            },
        },
    }
    for shard in range(2):
        assert any(f"cache-r0-{shard}.default.svc.cluster.local" in text for text in data.values())


def test_a_config_that_changed_says_since_when() -> None:
    built = config_map(instance(since="2026-01-01T00:00:00Z"))
    assert built["metadata"]["annotations"]["memcached.c5c3.io/config-since"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        ({"shards": 3}, True),
        ({"replicasPerShard": 2}, True),
        ({"proxy": {"mcrouter": {}}}, True),
        ({"proxy": {"twemproxy": {}}}, True),
        ({"memcached": {"image": "memcached:2"}}, False),
        ({"proxy": {"replicas": 7, "port": 5000, "builtin": {"image": "mirror/memcached:1.6.38"}}}, False),
    ],
)
def test_the_hash_is_of_what_proxies_read(spec: dict[str, Any], changes: bool) -> None:
    before, after = instance({"shards": 2}), instance({"shards": 2, **spec})
    assert (config_hash(before) != config_hash(after)) is changes
    assert len(config_hash(after)) == 16
