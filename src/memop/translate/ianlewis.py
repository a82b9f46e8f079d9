"""`MemcachedCluster` of ianlewis.org: N x 1 behind twemproxy, Service of the same name on 11211."""

from memop.api.ianlewis import DEFAULT_MEMCACHED_IMAGE, DEFAULT_TWEMPROXY_IMAGE, MemcachedClusterSpec
from memop.api.memcached_cluster import MEMCACHED_CLUSTER
from memop.translate.foreign import Json, Served, Told, Translation, native, read_metadata, read_spec

PORT = 11211


def translate(foreign: Json) -> Translation:
    """Raises: Untranslatable."""
    metadata = read_metadata(foreign)
    given, notes = read_spec(foreign, MemcachedClusterSpec)
    twemproxy = given.proxy.twemproxy
    spec = {
        "shards": given.replicas,
        "replicasPerShard": 1,
        "memcached": {"image": given.memcached_image or DEFAULT_MEMCACHED_IMAGE},
        "proxy": {
            "port": PORT,
            "twemproxy": {
                "image": twemproxy.image or DEFAULT_TWEMPROXY_IMAGE,
                "hash": twemproxy.hash,
                "distribution": twemproxy.distribution,
                "serverFailureLimit": twemproxy.server_failure_limit,
                "serverRetryTimeout": twemproxy.server_retry_timeout,
            },
        },
    }
    return Translation(native(MEMCACHED_CLUSTER, metadata, spec), notes)


def status(served: Served) -> Told:
    """The fields of the other operator's status."""
    return Told({"replicas": served.shards, "serviceName": served.name})
