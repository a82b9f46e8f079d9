"""Observed in, status out."""

from dataclasses import replace
from typing import Any

import pytest

from memop.api.memcached_cluster import MemcachedClusterStatus
from memop.reconcilers.cluster.config import config_hash
from memop.reconcilers.cluster.observe import Observed
from memop.reconcilers.cluster.status import status
from tests.unit.reconcilers.cluster.instances import instance
from tests.unit.reconcilers.cluster.seen import NOTHING, NOW, Around, see

LATER = "2026-01-01T00:20:00Z"
SPEC: dict[str, Any] = {"shards": 3, "replicasPerShard": 2}
DONE = Around()
PAUSED = {"memcached.c5c3.io/paused": "true"}

AVAILABLE, UNAVAILABLE = ("True", "Available"), ("False", "Unavailable")
PROGRESSING, COMPLETE = ("True", "Progressing"), ("False", "ProgressingComplete")
DEGRADED, SOUND = ("True", "Degraded"), ("False", "NotDegraded")
POOL, NO_POOL = ("True", "PoolReady"), ("False", "PoolNotReady")
PROXY, NO_PROXY = ("True", "ProxyReady"), ("False", "ProxyNotReady")
READY, NOT_READY = ("True", "MemcachedClusterReady"), ("False", "MemcachedClusterNotReady")
TYPES = ("Available", "Progressing", "Degraded", "PoolReady", "ProxyReady", "Ready")


def tell(observed: Observed, *problems: tuple[str, str], now: str = NOW, **unserved: str) -> dict[str, Any]:
    return status(observed, problems, unserved=unserved, now=now)


def conditions(told: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in told["conditions"]}


def message(told: dict[str, Any], type_: str) -> str:
    [found] = [condition["message"] for condition in told["conditions"] if condition["type"] == type_]
    return str(found)


def shape(shards: int, copies: int, **proxy: Any) -> dict[str, Any]:
    return {"shards": shards, "replicasPerShard": copies, "proxy": proxy}


@pytest.mark.parametrize(
    ("spec", "around", "expected"),
    [
        (SPEC, DONE, (AVAILABLE, COMPLETE, SOUND, POOL, PROXY, READY)),
        (SPEC, NOTHING, (UNAVAILABLE, PROGRESSING, DEGRADED, NO_POOL, NO_PROXY, NOT_READY)),
        (
            SPEC,
            replace(DONE, ready={0: 3, 1: 2}),
            (AVAILABLE, COMPLETE, DEGRADED, NO_POOL, PROXY, NOT_READY),
        ),
        (
            SPEC,
            replace(DONE, ready={0: 0, 1: 0}),
            (UNAVAILABLE, COMPLETE, DEGRADED, NO_POOL, PROXY, NOT_READY),
        ),
        (
            SPEC,
            replace(DONE, rollout={"readyReplicas": 1}),
            (AVAILABLE, COMPLETE, DEGRADED, POOL, NO_PROXY, NOT_READY),
        ),
        (
            SPEC,
            replace(DONE, rollout={"readyReplicas": 0}),
            (UNAVAILABLE, COMPLETE, DEGRADED, POOL, NO_PROXY, NOT_READY),
        ),
        (
            SPEC,
            replace(DONE, rollout={"updatedReplicas": 1}),
            (AVAILABLE, PROGRESSING, SOUND, POOL, PROXY, NOT_READY),
        ),
        (
            SPEC,
            replace(DONE, workload={"generation": 2}),
            (AVAILABLE, PROGRESSING, SOUND, POOL, PROXY, NOT_READY),
        ),
        # Kubelets have yet to bring the config.
        (SPEC, replace(DONE, since=NOW), (AVAILABLE, PROGRESSING, SOUND, POOL, PROXY, NOT_READY)),
        # Two servers more in each copy, yet to come.
        (shape(5, 2), DONE, (AVAILABLE, PROGRESSING, DEGRADED, NO_POOL, PROXY, NOT_READY)),
        # A copy less, yet to go.
        (shape(3, 1), DONE, (AVAILABLE, PROGRESSING, SOUND, POOL, PROXY, NOT_READY)),
        (
            shape(3, 2, replicas=0),
            Around(made=shape(3, 2, replicas=0)),
            (UNAVAILABLE, COMPLETE, SOUND, POOL, NO_PROXY, NOT_READY),
        ),
    ],
)
def test_the_conditions(spec: dict[str, Any], around: Around, expected: tuple[tuple[str, str], ...]) -> None:
    assert conditions(tell(see(spec, around))) == dict(zip(TYPES, expected, strict=True))


@pytest.mark.parametrize(
    ("spec", "around", "words"),
    [
        (SPEC, DONE, "rolled out"),
        (SPEC, NOTHING, "no Deployment of proxies yet"),
        ({"shards": "many"}, DONE, "the spec cannot be read, and all is left as it is"),
        (shape(5, 2), DONE, "the proxies go on with 3x2 (shards x copies) until all of 5x2 is ready"),
        (SPEC, replace(DONE, workload={"generation": 2}), "the Deployment's newest generation is not observed yet"),
        (SPEC, replace(DONE, rollout={"replicas": 3}), "2 of 2 proxies updated, 3 in all"),
        (SPEC, replace(DONE, since=NOW), f"the config changed at {NOW}; within 120 s kubelets bring it to the proxies"),
        (shape(2, 2), DONE, "the pools become 2x2 (shards x copies)"),
        (shape(3, 1), DONE, "the pools become 3x1 (shards x copies)"),
    ],
)
def test_what_the_next_step_waits_for_is_said(spec: dict[str, Any], around: Around, words: str) -> None:
    assert message(tell(see(spec, around)), "Progressing") == words


def test_fields_of_a_ready_cluster() -> None:
    told = tell(see({**SPEC, "proxy": {"port": 5000}}, DONE, generation=4))
    del told["conditions"]
    assert told == {
        "observedGeneration": 4,
        "endpoint": "cache.default:5000",
        "shards": 3,
        "replicasPerShard": 2,
        "selector": "app.kubernetes.io/name=memcached,app.kubernetes.io/instance in (cache-r0,cache-r1)",
        "configHash": config_hash(instance(SPEC)),
    }


@pytest.mark.parametrize(
    ("spec", "around"), [(SPEC, DONE), (SPEC, NOTHING), ({"shards": "many"}, DONE), (shape(5, 1), DONE)]
)
def test_a_status_is_one_that_the_crd_admits(spec: dict[str, Any], around: Around) -> None:
    told = tell(see(spec, around), ("ObjectConflict", "theirs"))
    assert MemcachedClusterStatus.model_validate(told).observed_generation == 1


@pytest.mark.parametrize(
    ("spec", "around", "layout"),
    [
        (shape(5, 2), DONE, (3, 2)),
        (shape(3, 1), replace(DONE, since=NOW), (3, 2)),
        (SPEC, NOTHING, (None, None)),
        (SPEC, replace(DONE, config={"annotations": {"memcached.c5c3.io/layout": "2x1"}}), (2, 1)),
    ],
)
def test_the_shards_told_of_are_those_that_the_config_names(
    spec: dict[str, Any], around: Around, layout: tuple[int | None, int | None]
) -> None:
    told = tell(see(spec, around, annotations=PAUSED))
    assert (told.get("shards"), told.get("replicasPerShard")) == layout


def test_the_config_hash_is_the_one_that_all_proxies_have() -> None:
    before = {"configHash": "before"}
    assert tell(see(SPEC, replace(DONE, since=NOW), status=before))["configHash"] == "before"
    assert tell(see(SPEC, DONE, status=before))["configHash"] == config_hash(instance(SPEC))
    assert "configHash" not in tell(see(SPEC))


def test_problems_are_degraded_with_their_reason_and_every_message() -> None:
    told = tell(see(SPEC, DONE), ("ObjectConflict", "Service is theirs"), ("Rejected", "quota"))
    assert conditions(told)["Degraded"] == ("True", "ObjectConflict")
    assert message(told, "Degraded") == "Service is theirs; quota"
    assert conditions(told)["Ready"] == READY


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"type": "Degraded", "status": "True", "reason": "SecretNotFound"}, ("True", "SecretNotFound")),
        ({"type": "Degraded", "status": "True", "reason": "Degraded"}, SOUND),
        ({"type": "Degraded", "status": "False", "reason": "NotDegraded"}, SOUND),
        ({"type": "Other", "status": "True", "reason": "SecretNotFound"}, SOUND),
    ],
)
def test_the_trouble_of_a_pool_is_the_clusters(condition: dict[str, str], expected: tuple[str, str]) -> None:
    told = tell(see(SPEC, replace(DONE, pool_status={"conditions": [condition]})))
    assert conditions(told)["Degraded"] == expected
    if expected != SOUND:
        assert "Memcached cache-r0: SecretNotFound" in message(told, "Degraded")


def test_counts_are_of_each_pool_and_of_the_proxies() -> None:
    told = tell(see(SPEC, replace(DONE, ready={0: 3, 1: 1}, rollout={"readyReplicas": 1})))
    assert message(told, "Ready") == ("1 of 2 proxies ready, cache-r0: 3 of 3 pods ready, cache-r1: 1 of 3 pods ready")


def test_a_transition_time_moves_only_with_the_status() -> None:
    first = tell(see(SPEC, replace(DONE, ready={0: 3, 1: 2})))
    second = tell(see(SPEC, DONE, status=first), now=LATER)
    times = {condition["type"]: condition["lastTransitionTime"] for condition in second["conditions"]}
    moved = {"Degraded", "PoolReady", "Ready"}
    assert times == {type_: LATER if type_ in moved else NOW for type_ in TYPES}


def test_paused_is_stated_only_while_it_is() -> None:
    assert conditions(tell(see(SPEC, DONE, annotations=PAUSED)))["Paused"] == ("True", "Paused")
    assert "Paused" not in conditions(tell(see(SPEC, DONE)))


MONITORED: dict[str, Any] = {"enabled": True, "serviceMonitor": {}}


@pytest.mark.parametrize(
    ("monitoring", "proxy", "unserved", "expected"),
    [
        ({}, {}, {}, None),
        ({"enabled": False, "serviceMonitor": {}}, {}, {"ServiceMonitor": "no such kind"}, None),
        ({"enabled": True}, {}, {"ServiceMonitor": "no such kind"}, ("True", "MonitoringReady")),
        (MONITORED, {}, {}, ("True", "MonitoringReady")),
        (MONITORED, {}, {"ServiceMonitor": "no such kind"}, ("False", "ServiceMonitorUnavailable")),
        (MONITORED, {"mcrouter": {}}, {}, ("False", "ProxyNotMonitored")),
        ({"enabled": True}, {"twemproxy": {}}, {}, ("False", "ProxyNotMonitored")),
    ],
)
def test_monitoring_ready_is_there_where_it_applies(
    monitoring: dict[str, Any], proxy: dict[str, Any], unserved: dict[str, str], expected: tuple[str, str] | None
) -> None:
    observed = see({"memcached": {"monitoring": monitoring}, "proxy": proxy})
    assert conditions(tell(observed, **unserved)).get("MonitoringReady") == expected
