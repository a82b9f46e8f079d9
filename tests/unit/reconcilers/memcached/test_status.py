"""Observed in, status and events out."""

from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from memop.informers.store import Store
from memop.reconcilers.live import LiveCondition
from memop.reconcilers.memcached.instance import Options
from memop.reconcilers.memcached.metrics import InstanceCollector
from memop.reconcilers.memcached.observe import Observed, observe
from memop.reconcilers.memcached.status import status
from memop.reconcilers.objects import Live, decoder
from memop.reconcilers.report import turns
from memop.refs import DEPLOYMENTS, STATEFUL_SETS, Key
from tests.unit.reconcilers.memcached.instances import KEY, memcached

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"
OWNER = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": "cache", "uid": "cr-uid"}


def deployment(generation: int = 1, **rollout: Any) -> bytes:
    return msgspec.json.encode(
        {
            "metadata": {
                "namespace": KEY.namespace,
                "name": KEY.name,
                "uid": "d",
                "resourceVersion": "5",
                "generation": generation,
                "ownerReferences": [{**OWNER, "controller": True}],
            },
            "status": {"observedGeneration": 1, **rollout},
        }
    )


def seen(cr: bytes, workload: bytes | None = None) -> Observed:
    memcacheds: Store[Live] = Store()
    deployments: Store[Live] = Store()
    stateful_sets: Store[Live] = Store()
    memcacheds.changed(decoder("memop-memcached", subresource="status")(cr))
    if workload is not None:
        for store in (deployments, stateful_sets):
            store.changed(decoder("memop-memcached")(workload))
    workloads = {DEPLOYMENTS: deployments.reader, STATEFUL_SETS: stateful_sets.reader}
    found = observe(KEY, memcacheds=memcacheds.reader, workloads=workloads, options=Options())
    assert found is not None
    return found


def conditions(told: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {condition["type"]: (condition["status"], condition["reason"]) for condition in told["conditions"]}


FULL = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
AVAILABLE, UNAVAILABLE = ("True", "Available"), ("False", "Unavailable")
PROGRESSING, COMPLETE = ("True", "Progressing"), ("False", "ProgressingComplete")
DEGRADED, SOUND = ("True", "Degraded"), ("False", "NotDegraded")
READY, NOT_READY = ("True", "MemcachedReady"), ("False", "MemcachedNotReady")


@pytest.mark.parametrize(
    ("replicas", "workload", "expected"),
    [
        (2, deployment(**FULL), (AVAILABLE, COMPLETE, SOUND, READY)),
        (2, None, (UNAVAILABLE, PROGRESSING, DEGRADED, NOT_READY)),
        (2, deployment(generation=2, **FULL), (AVAILABLE, PROGRESSING, SOUND, READY)),
        (2, deployment(**{**FULL, "updatedReplicas": 1}), (AVAILABLE, PROGRESSING, SOUND, READY)),
        (2, deployment(**{**FULL, "replicas": 3}), (AVAILABLE, PROGRESSING, SOUND, READY)),
        (2, deployment(**{**FULL, "readyReplicas": 1}), (AVAILABLE, COMPLETE, DEGRADED, NOT_READY)),
        (2, deployment(replicas=2, updatedReplicas=2), (UNAVAILABLE, COMPLETE, DEGRADED, NOT_READY)),
        (3, deployment(**FULL), (AVAILABLE, PROGRESSING, DEGRADED, NOT_READY)),
        (1, deployment(**FULL), (AVAILABLE, PROGRESSING, SOUND, NOT_READY)),
        (0, deployment(), (UNAVAILABLE, COMPLETE, SOUND, NOT_READY)),
        (0, deployment(replicas=1, readyReplicas=1), (AVAILABLE, PROGRESSING, SOUND, NOT_READY)),
    ],
)
def test_the_four_conditions(replicas: int, workload: bytes | None, expected: tuple[tuple[str, str], ...]) -> None:
    told = conditions(status(seen(memcached({"replicas": replicas}), workload), [], unserved={}, now=NOW))
    assert told == dict(zip(("Available", "Progressing", "Degraded", "Ready"), expected, strict=True))


def test_fields_of_a_ready_pool() -> None:
    told = status(seen(memcached({"replicas": 2}, generation=4), deployment(**FULL)), [], unserved={}, now=NOW)
    del told["conditions"]
    assert told == {
        "observedGeneration": 4,
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "app.kubernetes.io/instance=cache,app.kubernetes.io/managed-by=memcached-operator,"
        "app.kubernetes.io/name=memcached",
        "serverList": ["cache.default:11211"],
    }


def test_the_server_list_goes_with_readiness() -> None:
    assert "serverList" not in status(seen(memcached({"replicas": 3}), deployment(**FULL)), [], unserved={}, now=NOW)


def test_problems_are_degraded_with_their_reason_and_every_message() -> None:
    problems = [("ObjectConflict", "Service is theirs"), ("Rejected", "quota")]
    told = status(seen(memcached({"replicas": 2}), deployment(**FULL)), problems, unserved={}, now=NOW)
    [degraded] = [condition for condition in told["conditions"] if condition["type"] == "Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "ObjectConflict")
    assert degraded["message"] == "Service is theirs; quota"


def test_a_deployment_of_somebody_else_does_not_count() -> None:
    workload = msgspec.json.decode(deployment(**FULL))
    workload["metadata"]["ownerReferences"][0]["uid"] = "other"
    told = status(seen(memcached({"replicas": 2}), msgspec.json.encode(workload)), [], unserved={}, now=NOW)
    assert told["readyReplicas"] == 0


def test_a_transition_time_moves_only_with_the_status() -> None:
    first = status(
        seen(memcached({"replicas": 2}), deployment(**{**FULL, "readyReplicas": 1})), [], unserved={}, now=NOW
    )
    second = status(seen(memcached({"replicas": 2}, status=first), deployment(**FULL)), [], unserved={}, now=LATER)
    times = {condition["type"]: condition["lastTransitionTime"] for condition in second["conditions"]}
    assert times == {"Available": NOW, "Progressing": NOW, "Degraded": LATER, "Ready": LATER}


def test_paused_is_stated_only_while_it_is() -> None:
    paused = seen(memcached(annotations={"memcached.c5c3.io/paused": "true"}))
    assert conditions(status(paused, [], unserved={}, now=NOW))["Paused"] == ("True", "Paused")
    assert "Paused" not in conditions(status(seen(memcached()), [], unserved={}, now=NOW))


def test_a_spec_that_cannot_be_read_is_said_and_not_guessed() -> None:
    observed = seen(memcached({"replicas": "many"}))
    assert observed.instance is None
    assert "spec.replicas" in observed.invalid


def test_events_tell_of_changes_and_of_nothing_else() -> None:
    starting = seen(memcached({"replicas": 2}))
    first = status(starting, [("ObjectConflict", "theirs")], unserved={}, now=NOW)
    assert [(e.type, e.reason, e.message) for e in turns(starting.conditions, first)] == [
        ("Warning", "ObjectConflict", "theirs")
    ]
    told = seen(memcached({"replicas": 2}, status=first), deployment(**FULL))
    assert turns(told.conditions, first) == []
    second = status(told, [], unserved={}, now=LATER)
    assert [(e.type, e.reason) for e in turns(told.conditions, second)] == [("Normal", "MemcachedReady")]
    assert turns(seen(memcached(status=second)).conditions, second) == []


READY_CONDITION = {"type": "Ready", "status": "True", "reason": "MemcachedReady", "lastTransitionTime": NOW}
READY_SEEN = LiveCondition("Ready", "True", "MemcachedReady", NOW)


@pytest.mark.parametrize(
    ("live", "seen_conditions", "generation"),
    [
        ({"conditions": [{**READY_CONDITION, "reason": ""}]}, [LiveCondition("Ready", "True", "", NOW)], 0),
        ({"conditions": [{**READY_CONDITION, "status": "Perhaps"}]}, None, 0),
        ({"conditions": [{"type": "Ready"}]}, [LiveCondition("Ready")], 0),
        ({"conditions": [{}]}, [LiveCondition()], 0),
        ({"conditions": [7, None, {"type": 7}, READY_CONDITION], "observedGeneration": 3}, [READY_SEEN], 3),
        ({"conditions": {"Ready": True}, "observedGeneration": 3}, [], 3),
        ({"conditions": None}, [], 0),
        ({"conditions": [READY_CONDITION], "observedGeneration": "three"}, [READY_SEEN], 0),
        ("ready", [], 0),
        ([], [], 0),
        (None, [], 0),
    ],
)
def test_an_odd_status_is_read_as_far_as_it_goes_and_written_anew(
    live: Any, seen_conditions: list[LiveCondition] | None, generation: int
) -> None:
    cr = msgspec.json.decode(memcached({"replicas": 2}))
    observed = seen(msgspec.json.encode({**cr, "status": live}), deployment(**FULL))
    if seen_conditions is not None:
        assert observed.conditions == seen_conditions
    assert observed.told_generation == generation
    told = status(observed, [], unserved={}, now=LATER)
    assert conditions(told)["Ready"] == READY
    assert all(condition["lastTransitionTime"] in (NOW, LATER) for condition in told["conditions"])
    turns(observed.conditions, told)


def test_a_cr_that_cannot_be_observed_takes_no_other_from_the_metrics() -> None:
    memcacheds: Store[Live] = Store()
    deployments: Store[Live] = Store()
    decode = decoder("memop-memcached", subresource="status")
    for version, (name, annotations) in enumerate((("a", b"{}"), ("b", b"7"), ("c", b"{}")), start=1):
        live = decode(memcached({"replicas": 2}, version=version, name=name, uid=name))
        memcacheds.changed(msgspec.structs.replace(live, annotations=annotations))
    registry = CollectorRegistry()
    with capture_logs() as logs:
        registry.register(
            InstanceCollector(
                memcacheds=memcacheds.reader,
                workloads={DEPLOYMENTS: deployments.reader, STATEFUL_SETS: deployments.reader},
                options=Options(),
            )
        )
        desired = {
            name: registry.get_sample_value(
                "memcached_operator_instance_replicas_desired", {"name": name, "namespace": KEY.namespace}
            )
            for name in "abc"
        }
    assert desired == {"a": 2, "b": None, "c": 2}
    assert {entry["key"] for entry in logs} == {str(Key(KEY.namespace, "b"))}


def message(told: dict[str, Any], type_: str) -> str:
    [found] = [condition["message"] for condition in told["conditions"] if condition["type"] == type_]
    return str(found)


def test_stable_pods_are_listed_by_name() -> None:
    told = status(
        seen(memcached({"replicas": 2, "podIdentity": "Stable"}), deployment(**FULL)), [], unserved={}, now=NOW
    )
    assert told["serverList"] == ["cache-0.cache.default:11211", "cache-1.cache.default:11211"]
    waiting = status(seen(memcached({"podIdentity": "Stable"})), [], unserved={}, now=NOW)
    assert message(waiting, "Progressing") == "no StatefulSet yet"


def test_under_autoscaling_the_workload_says_how_many_are_wanted() -> None:
    autoscaled = memcached({"autoscaling": {"enabled": True, "maxReplicas": 9}})
    told = status(seen(autoscaled, deployment(**FULL)), [], unserved={}, now=NOW)
    assert conditions(told)["Ready"] == READY
    assert message(told, "Ready") == "2 of 2 pods ready"


SASL = {"sasl": {"enabled": True, "credentialsSecretRef": {"name": "passwords"}}}


@pytest.mark.parametrize(
    ("spec", "unserved", "expected"),
    [
        ({}, {}, None),
        ({"monitoring": {"enabled": False, "serviceMonitor": {}}}, {"ServiceMonitor": "no such kind"}, None),
        ({"monitoring": {"enabled": True}}, {"ServiceMonitor": "no such kind"}, ("True", "MonitoringReady")),
        ({"monitoring": {"enabled": True, "serviceMonitor": {}}}, {}, ("True", "MonitoringReady")),
        (
            {"monitoring": {"enabled": True, "serviceMonitor": {}}},
            {"ServiceMonitor": "no such kind"},
            ("False", "ServiceMonitorUnavailable"),
        ),
        ({"monitoring": {"enabled": True}, "security": SASL}, {}, ("False", "ExporterCannotAuthenticate")),
    ],
)
def test_monitoring_ready_is_there_where_it_applies(
    spec: dict[str, Any], unserved: dict[str, str], expected: tuple[str, str] | None
) -> None:
    observed = seen(memcached(spec))
    told = status(observed, [], unserved=unserved, now=NOW)
    assert conditions(told).get("MonitoringReady") == expected
    news = [event.reason for event in turns(observed.conditions, told) if event.reason != "Degraded"]
    assert news == ([expected[1]] if expected and expected[0] == "False" else [])
