"""A `MemcachedCluster` as the builders take it."""

from dataclasses import dataclass
from typing import NamedTuple

from memop.api.memcached import DEFAULT_EXPORTER_IMAGE
from memop.api.memcached_cluster import DEFAULT_BUILTIN_IMAGE, DEFAULT_MCROUTER_IMAGE, MemcachedClusterSpec, ProxyKind
from memop.reconcilers.objects import Json
from memop.refs import Key

CONFIG_HASH = "memcached.c5c3.io/config-hash"
# On the Deployment: which of the proxies its pods are.
PROXY_KIND = "memcached.c5c3.io/proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the operator's flags say of every cluster: as `memcached.instance.Options`, and each proxy's image."""

    builtin_image: str = DEFAULT_BUILTIN_IMAGE
    twemproxy_image: str = ""
    mcrouter_image: str = DEFAULT_MCROUTER_IMAGE
    exporter_image: str = DEFAULT_EXPORTER_IMAGE
    default_uid: bool = True
    allow_privileged_pods: bool = False
    cluster_domain: str = "cluster.local"

    def image(self, kind: ProxyKind) -> str:
        """The image of the proxies that name none."""
        return {"builtin": self.builtin_image, "twemproxy": self.twemproxy_image, "mcrouter": self.mcrouter_image}[kind]


class Layout(NamedTuple):
    """What proxies hash over: so many shards, each in so many copies."""

    shards: int
    copies: int

    def __str__(self) -> str:
        return f"{self.shards}x{self.copies}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The spec with what surrounds it.

    `pool` is `spec.memcached` as its user gave it. The proxies are told of `layout`; the pools have `servers` pods in
    each of `copies` copies: as many, or more while they come and go. `since` (RFC 3339) is when the proxies' config
    changed, "" for their first. `image` and `exporter_image` are the spec's, or else the operator's defaults.
    """

    key: Key
    spec: MemcachedClusterSpec
    pool: Json
    image: str
    exporter_image: str
    layout: Layout
    servers: int
    copies: int
    since: str = ""
    restart_trigger: str | None = None
    default_uid: bool = True
    cluster_domain: str = "cluster.local"

    @property
    def proxy_name(self) -> str:
        """Of ConfigMap, Deployment, PodDisruptionBudget and ServiceMonitor."""
        return f"{self.key.name}-proxy"

    @property
    def monitored(self) -> bool:
        """Whether the proxies, too, are scraped: of the three, memcached's own speaks to memcached's exporter."""
        return self.spec.memcached.enabled_monitoring is not None and self.spec.proxy.kind == "builtin"


def pool_name(cluster: str, copy: int) -> str:
    """The `Memcached` that is copy `copy` of every shard."""
    return f"{cluster}-r{copy}"
