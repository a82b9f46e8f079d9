"""Spec in, the pools' `Memcached`s out."""

from typing import Any

import pytest

from memop.api.memcached import MemcachedSpec
from memop.reconcilers.cluster.instance import Layout
from memop.reconcilers.cluster.pool import pools
from memop.webhooks.validation import Policy, effective
from tests.unit.reconcilers.cluster.instances import POOL_LABELS, PROXY_SELECTOR, instance


def specs(spec: dict[str, Any], **around: Any) -> list[dict[str, Any]]:
    return [pool["spec"] for pool in pools(instance(spec, **around))]


def test_each_copy_is_a_stable_memcached_with_a_pod_for_each_shard() -> None:
    built = pools(instance({"shards": 3, "replicasPerShard": 2}))
    assert [pool["metadata"]["name"] for pool in built] == ["cache-r0", "cache-r1"]
    for pool in built:
        assert (pool["apiVersion"], pool["kind"]) == ("memcached.c5c3.io/v1beta1", "Memcached")
        assert pool["metadata"].items() >= {"namespace": "default", "labels": POOL_LABELS}.items()
        assert "annotations" not in pool["metadata"]
        spec = MemcachedSpec.model_validate(pool["spec"])
        assert (spec.replicas, spec.pod_identity, spec.service.publish_not_ready_addresses) == (3, "Stable", True)


def test_the_pool_is_as_its_user_gave_it() -> None:
    asked = {
        "image": "mirror/memcached:1",
        "memcached": {"maxMemoryMB": 128},
        "highAvailability": {"antiAffinityPreset": "hard"},
        "service": {"annotations": {"a": "b"}},
        "nodeSelector": {"disk": "ssd"},
    }
    [spec] = specs({"memcached": asked})
    assert (spec["image"], spec["nodeSelector"]) == ("mirror/memcached:1", {"disk": "ssd"})
    assert spec["memcached"]["maxMemoryMB"] == 128
    assert spec["highAvailability"]["antiAffinityPreset"] == "hard"
    assert spec["service"] == {"annotations": {"a": "b"}, "publishNotReadyAddresses": True}


@pytest.mark.parametrize("service", [{}, {"publishNotReadyAddresses": False}])
def test_addresses_are_published_whatever_was_given(service: dict[str, Any]) -> None:
    [spec] = specs({"memcached": {"service": service}})
    assert spec["service"]["publishNotReadyAddresses"] is True


def test_what_comes_and_goes_is_there_beside_what_the_proxies_know() -> None:
    built = specs({"shards": 3, "replicasPerShard": 1}, servers=5, copies=2, layout=Layout(3, 1))
    assert [spec["replicas"] for spec in built] == [5, 5]


def test_the_restart_trigger_reaches_every_pool() -> None:
    built = pools(instance({"replicasPerShard": 2}, restart_trigger="now"))
    assert [pool["metadata"]["annotations"] for pool in built] == [{"memcached.c5c3.io/restart-trigger": "now"}] * 2


SOURCE = {"podSelector": {"matchLabels": {"team": "blue"}}}
PROXIES = {"podSelector": {"matchLabels": PROXY_SELECTOR}}


@pytest.mark.parametrize(
    ("policy", "sources"),
    [
        ({"enabled": True, "allowedSources": [SOURCE]}, [SOURCE, PROXIES]),
        ({"enabled": True, "allowedSources": []}, []),
        ({"enabled": True}, None),
        ({"enabled": False, "allowedSources": [SOURCE]}, [SOURCE]),
    ],
)
def test_a_network_policy_with_sources_admits_the_proxies(policy: dict[str, Any], sources: list[Any] | None) -> None:
    security = {"networkPolicy": policy, "podSecurityContext": {"fsGroup": 7}}
    [spec] = specs({"memcached": {"security": security}})
    assert spec["security"]["networkPolicy"].get("allowedSources") == sources
    assert spec["security"]["networkPolicy"]["enabled"] == policy["enabled"]
    assert spec["security"]["podSecurityContext"] == {"fsGroup": 7}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"monitoring": {"enabled": True, "serviceMonitor": {}}},
        {"highAvailability": {"podDisruptionBudget": {"enabled": True, "minAvailable": 1}}},
        {"security": {"networkPolicy": {"enabled": True, "allowedSources": [SOURCE]}}},
    ],
)
def test_a_pool_is_one_that_its_own_reconciler_finds_nothing_wrong_with(asked: dict[str, Any]) -> None:
    for spec in specs({"shards": 2, "replicasPerShard": 2, "memcached": asked}):
        assert effective(spec, policy=Policy()).errors == []
