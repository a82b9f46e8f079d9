"""Spec in, the addresses of its servers out."""

from memop.reconcilers.cluster.config import topology
from memop.reconcilers.cluster.instance import Layout
from memop.reconcilers.cluster.seats import seats
from tests.unit.reconcilers.cluster.instances import POOL_LABELS, instance


def test_a_seat_leads_to_the_one_pod_of_its_name_ready_or_not() -> None:
    [first, *_] = seats(instance({"shards": 2, "replicasPerShard": 2}))
    assert first["metadata"] == {"name": "cache-r0-0", "namespace": "default", "labels": POOL_LABELS}
    assert first["spec"] == {
        "type": "ClusterIP",
        "publishNotReadyAddresses": True,
        "selector": {
            "app.kubernetes.io/name": "memcached",
            "app.kubernetes.io/instance": "cache-r0",
            "app.kubernetes.io/managed-by": "memcached-operator",
            "statefulset.kubernetes.io/pod-name": "cache-r0-0",
        },
        "ports": [{"name": "memcached", "port": 11211, "targetPort": "memcached", "protocol": "TCP"}],
    }


def test_every_server_has_a_seat_also_one_that_the_proxies_are_not_told_of() -> None:
    spec = {"shards": 2, "replicasPerShard": 1}
    told = instance(spec, layout=Layout(2, 1), servers=3, copies=2)
    names = [seat["metadata"]["name"] for seat in seats(told)]
    assert names == [f"cache-r{copy}-{shard}" for copy in (0, 1) for shard in (0, 1, 2)]
    hosts = [host for copy in topology(told).copies for host in copy]
    assert hosts == ["cache-r0-0.default.svc.cluster.local", "cache-r0-1.default.svc.cluster.local"]
