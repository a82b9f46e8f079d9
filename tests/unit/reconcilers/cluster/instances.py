"""`MemcachedCluster`s for tests: as builders take them, and as the API server would send them."""

from typing import Any

import msgspec

from memop.api.memcached import DEFAULT_EXPORTER_IMAGE
from memop.api.memcached_cluster import MemcachedClusterSpec
from memop.reconcilers.cluster.instance import Instance, Layout, Options
from memop.refs import Key
from memop.webhooks.cluster import ClusterPolicy, effective

KEY = Key("default", "cache")
OPTIONS = Options(twemproxy_image="mirror/twemproxy:0.5.0")

PROXY_SELECTOR = {
    "app.kubernetes.io/name": "memcached-proxy",
    "app.kubernetes.io/instance": "cache",
    "app.kubernetes.io/managed-by": "memcached-operator",
}
POOL_LABELS = {**PROXY_SELECTOR, "app.kubernetes.io/name": "memcached-cluster"}

OWNER = {
    "apiVersion": "memcached.c5c3.io/v1alpha1",
    "kind": "MemcachedCluster",
    "name": "cache",
    "uid": "cr-uid",
    "controller": True,
    "blockOwnerDeletion": True,
}


def instance(spec: dict[str, Any] | None = None, **around: Any) -> Instance:
    """As `observe` makes it of a cluster in which everything is as the spec says."""
    full = effective(spec or {}, policy=ClusterPolicy(twemproxy_image=OPTIONS.twemproxy_image)).spec
    parsed = MemcachedClusterSpec.model_validate(full)
    monitoring, proxy = parsed.memcached.enabled_monitoring, parsed.proxy
    block = proxy.twemproxy or proxy.mcrouter or proxy.builtin
    fields: dict[str, Any] = {
        "key": KEY,
        "spec": parsed,
        "pool": full["memcached"],
        "image": (block and block.image) or OPTIONS.image(proxy.kind),
        "exporter_image": (monitoring and monitoring.exporter_image) or DEFAULT_EXPORTER_IMAGE,
        "layout": Layout(parsed.shards, parsed.replicas_per_shard),
        "servers": parsed.shards,
        "copies": parsed.replicas_per_shard,
        **around,
    }
    return Instance(**fields)


def cluster(
    spec: dict[str, Any] | None = None,
    *,
    version: int = 1,
    generation: int = 1,
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    managed_fields: list[dict[str, Any]] | None = None,
    **metadata: Any,
) -> bytes:
    return msgspec.json.encode(
        {
            "apiVersion": "memcached.c5c3.io/v1alpha1",
            "kind": "MemcachedCluster",
            "metadata": {
                "namespace": KEY.namespace,
                "name": KEY.name,
                "uid": "cr-uid",
                "resourceVersion": str(version),
                "generation": generation,
                "annotations": annotations or {},
                "managedFields": managed_fields or [],
                **metadata,
            },
            "spec": spec or {},
            "status": status or {},
        }
    )


def live(body: dict[str, Any], *, generation: int = 1, status: dict[str, Any] | None = None, **metadata: Any) -> bytes:
    """A child of the cluster as the API server has it, once `body` was applied."""
    around = {"uid": f"{body['kind']}-{body['metadata']['name']}", "resourceVersion": "5", "generation": generation}
    owned = {"ownerReferences": [OWNER], **around, **body["metadata"], **metadata}
    return msgspec.json.encode({**body, "metadata": owned, "status": status or {}})
