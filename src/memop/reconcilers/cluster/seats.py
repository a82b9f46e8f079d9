"""The addresses that proxies know servers by: one Service for each seat, whoever sits there.

A pod's own name moves to the address of the next pod of that name, and a cluster's DNS may keep the old one for half a
minute, in which a proxy asks nobody. A Service's address stays; while nobody sits there, connections are refused at
once. (Measured: docs/proxies.md.)
"""

from memop.reconcilers.cluster.instance import Instance, pool_name
from memop.reconcilers.cluster.labels import pool_labels
from memop.reconcilers.objects import Json, selector_labels
from memop.refs import SERVICES

POOL_PORT = 11211
POD_NAME = "statefulset.kubernetes.io/pod-name"


def seat_name(cluster: str, copy: int, shard: int) -> str:
    """Of the Service, and of the pod: shard `shard` of copy `copy`."""
    return f"{pool_name(cluster, copy)}-{shard}"


def seats(instance: Instance) -> list[Json]:
    return [_seat(instance, copy, shard) for copy in range(instance.copies) for shard in range(instance.servers)]


def _seat(instance: Instance, copy: int, shard: int) -> Json:
    cluster, namespace = instance.key.name, instance.key.namespace
    name = seat_name(cluster, copy, shard)
    return {
        "apiVersion": SERVICES.api_version,
        "kind": SERVICES.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": pool_labels(instance.key)},
        "spec": {
            "type": "ClusterIP",
            "publishNotReadyAddresses": True,  # the proxy, not readiness, decides which server is well
            "selector": {**selector_labels("memcached", pool_name(cluster, copy)), POD_NAME: name},
            "ports": [{"name": "memcached", "port": POOL_PORT, "targetPort": "memcached", "protocol": "TCP"}],
        },
    }
