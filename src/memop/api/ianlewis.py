"""`MemcachedCluster` of ianlewis.org: the kind of github.com/ianlewis/memcached-operator, as designed."""

from pydantic import Field

from memop.api.base import Kind
from memop.api.foreign import COLUMNS, ForeignBlock, ForeignStatus, name_rule
from memop.api.memcached_cluster import MAX_SHARDS, TwemproxyDistribution, TwemproxyHash

MAX_INT32 = (1 << 31) - 1

DEFAULT_MEMCACHED_IMAGE = "memcached:1.4.36-alpine"
DEFAULT_TWEMPROXY_IMAGE = "asia.gcr.io/ian-corp-dev/twemproxy:v0.4.1-0"


class Twemproxy(ForeignBlock):
    """twemproxy (nutcracker)."""

    image: str = Field(
        default=DEFAULT_TWEMPROXY_IMAGE, description=f"Image of twemproxy. Default: {DEFAULT_TWEMPROXY_IMAGE}."
    )
    hash: TwemproxyHash = Field(default="fnv1a_64", description="Hash of the keys. Default: fnv1a_64.")
    distribution: TwemproxyDistribution = Field(
        default="ketama", description="How hashes become servers. Default: ketama."
    )
    server_failure_limit: int = Field(
        default=1,
        description="Failures in a row until a server leaves the ring for a time. Default: 1.",
        ge=1,
        le=MAX_INT32,
    )
    server_retry_timeout: int = Field(
        default=2000,
        description="Milliseconds until such a server is tried again. Default: 2000.",
        ge=1,
        le=MAX_INT32,
    )


class Proxy(ForeignBlock):
    """The proxy before the pool."""

    twemproxy: Twemproxy = Field(default_factory=Twemproxy, description="twemproxy. Default: its fields' defaults.")


class MemcachedClusterSpec(ForeignBlock):
    """What the user wants."""

    replicas: int = Field(
        default=5, description="memcached pods that keys are hashed over, 1 to 64. Default: 5.", ge=1, le=MAX_SHARDS
    )
    memcached_image: str = Field(
        default=DEFAULT_MEMCACHED_IMAGE, description=f"Image of memcached. Default: {DEFAULT_MEMCACHED_IMAGE}."
    )
    proxy: Proxy = Field(default_factory=Proxy, description="The proxy. Default: its fields' defaults.")


class MemcachedClusterStatus(ForeignStatus):
    """What memop saw; `replicas` and `serviceName` are the other operator's."""

    replicas: int = Field(default=0, description="memcached pods that keys are hashed over. Default: 0.", ge=0)
    service_name: str = Field(default="", description='Name of the Service. Default: "".')


IANLEWIS = Kind(
    group="ianlewis.org",
    kind="MemcachedCluster",
    plural="memcachedclusters",
    versions=("v1alpha1",),
    description="Shards of memcached behind twemproxy; memop serves it by a MemcachedCluster of its own group.",
    spec=MemcachedClusterSpec,
    status=MemcachedClusterStatus,
    columns=COLUMNS,
    rules=(name_rule(),),
)
