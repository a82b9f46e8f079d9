"""The proxies' configuration: the files of whichever proxy is in use, and their hash."""

import hashlib
from collections.abc import Mapping
from typing import Protocol

import msgspec

from memop.api.memcached_cluster import Proxy, ProxyKind
from memop.reconcilers.cluster import builtin, mcrouter, twemproxy
from memop.reconcilers.cluster.instance import CONFIG_HASH, Instance
from memop.reconcilers.cluster.labels import metadata
from memop.reconcilers.cluster.seats import POOL_PORT, seat_name
from memop.reconcilers.cluster.topology import Topology
from memop.reconcilers.objects import Json
from memop.refs import CONFIG_MAPS


class ProxyModule(Protocol):
    """What there is to know of one kind of proxy: see `builtin`, `twemproxy`, `mcrouter`."""

    RELOADS: bool  # it takes in a changed file by itself
    UID: int
    GRACE_SECONDS: int  # from the beginning of a stop to its end

    def files(self, pool: Topology, proxy: Proxy) -> dict[str, str]: ...
    def container(self, proxy: Proxy, image: str, /) -> Json: ...
    def volumes(self, proxy: Proxy, /) -> list[Json]: ...


PROXIES: Mapping[ProxyKind, ProxyModule] = {"builtin": builtin, "twemproxy": twemproxy, "mcrouter": mcrouter}

# On the ConfigMap: what it lays out, and since when it is what it is.
LAYOUT = "memcached.c5c3.io/layout"
SINCE = "memcached.c5c3.io/config-since"


def topology(instance: Instance) -> Topology:
    domain = f"{instance.key.namespace}.svc.{instance.cluster_domain}"
    shards, copies = instance.layout
    return Topology(
        copies=tuple(
            tuple(f"{seat_name(instance.key.name, copy, shard)}.{domain}" for shard in range(shards))
            for copy in range(copies)
        ),
        port=POOL_PORT,
        tls=instance.spec.memcached.enabled_tls is not None,
    )


def files(instance: Instance) -> dict[str, str]:
    """File name → text."""
    return PROXIES[instance.spec.proxy.kind].files(topology(instance), instance.spec.proxy)


def config_hash(instance: Instance) -> str:
    return hashlib.sha256(msgspec.json.encode(files(instance), order="sorted")).hexdigest()[:16]


def config_map(instance: Instance) -> Json:
    annotations = {LAYOUT: str(instance.layout), CONFIG_HASH: config_hash(instance)}
    if instance.since:
        annotations[SINCE] = instance.since
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {**metadata(instance, instance.proxy_name), "annotations": annotations},
        "data": files(instance),
    }
