"""Of several copies one is changed after the other, so that a shard never loses all of them."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from memop.reconcilers.cluster.observe import Pool, PoolStatus
from memop.reconcilers.cluster.pool import pools
from memop.reconcilers.cluster.reconciler import careful
from memop.reconcilers.objects import decoder
from tests.unit.reconcilers.cluster.instances import instance, live
from tests.unit.reconcilers.cluster.seen import see

TRIGGER = "memcached.c5c3.io/restart-trigger"
ROLLED_OUT = {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3}
_decode = decoder("memop-cluster")


def workload(template: dict[str, str] | None = None, **status: int) -> bytes:
    body = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "cache-r0", "namespace": "default"},
        "spec": {"template": {"metadata": {"annotations": template or {}}}},
    }
    return live(body, status={**ROLLED_OUT, **status})


def pool(copy: int, stateful_set: bytes | None, trigger: str | None = None, **status: Any) -> Pool:
    body = pools(instance({"shards": 3, "replicasPerShard": 3}, restart_trigger=trigger))[copy]
    told = msgspec.convert({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, **status}, PoolStatus)
    return Pool(_decode(live(body)), 3, told, None if stateful_set is None else _decode(stateful_set))


@pytest.mark.parametrize(
    ("seen", "rolled_out"),
    [
        (pool(0, workload()), True),
        (pool(0, None), False),
        (pool(0, workload(), observedGeneration=0), False),
        (pool(0, workload(observedGeneration=0)), False),
        (pool(0, workload(updatedReplicas=2)), False),
        (pool(0, workload(readyReplicas=2)), False),
        (pool(0, workload(replicas=4)), False),
        (pool(0, workload(), trigger="now"), False),
        (pool(0, workload({TRIGGER: "now"}), trigger="now"), True),
    ],
)
def test_a_copy_is_rolled_out_when_all_its_pods_are_as_it_wants_them(seen: Pool, rolled_out: bool) -> None:
    assert seen.rolled_out is rolled_out


WELL, AILING = pool(0, workload()), pool(0, workload(readyReplicas=2))


@pytest.mark.parametrize(
    ("copies", "care"),
    [
        ([], {"in_turn": []}),
        ([WELL], {"in_turn": ["cache-r0"]}),
        ([AILING], {"keep": []}),
        ([WELL, WELL], {"in_turn": ["cache-r0", "cache-r1"]}),
        ([WELL, AILING], {"keep": ["cache-r0"]}),
        ([AILING, AILING], {"keep": []}),
        ([WELL, AILING, WELL], {"keep": ["cache-r0", "cache-r2"]}),
    ],
)
def test_a_copy_that_is_well_is_changed_only_while_all_others_are(copies: list[Pool], care: dict[str, Any]) -> None:
    assert careful(replace(see({}), pools=dict(enumerate(copies)))) == care
