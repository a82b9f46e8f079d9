"""The pools: one Stable `Memcached` for each copy, so that growing in either direction only appends."""

from memop.reconcilers.cluster.instance import Instance, pool_name
from memop.reconcilers.cluster.labels import pool_labels, proxy_selector
from memop.reconcilers.objects import RESTART_TRIGGER, Json
from memop.refs import MEMCACHEDS


def pools(instance: Instance) -> list[Json]:
    return [_pool(instance, copy) for copy in range(instance.copies)]


def _pool(instance: Instance, copy: int) -> Json:
    spec = {
        **_admitting_proxies(instance),
        "replicas": instance.servers,
        "podIdentity": "Stable",
        # The proxy, not readiness, decides which server is well.
        "service": {**(instance.pool.get("service") or {}), "publishNotReadyAddresses": True},
    }
    metadata: Json = {
        "name": pool_name(instance.key.name, copy),
        "namespace": instance.key.namespace,
        "labels": pool_labels(instance.key),
    }
    if instance.restart_trigger is not None:
        metadata["annotations"] = {RESTART_TRIGGER: instance.restart_trigger}
    return {"apiVersion": MEMCACHEDS.api_version, "kind": MEMCACHEDS.kind, "metadata": metadata, "spec": spec}


def _admitting_proxies(instance: Instance) -> Json:
    """The user's pool; a NetworkPolicy that names sources admits the proxies too (without sources, it admits all)."""
    asked = instance.spec.memcached.enabled_network_policy
    if asked is None or not asked.allowed_sources:
        return instance.pool
    proxies = {"podSelector": {"matchLabels": proxy_selector(instance.key)}}
    security = instance.pool["security"]
    policy = {**security["networkPolicy"], "allowedSources": [*asked.allowed_sources, proxies]}
    return {**instance.pool, "security": {**security, "networkPolicy": policy}}
