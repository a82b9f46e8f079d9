"""`Memshack` of example.memshack.com: N x M behind mcrouter, gateway Service `<name>-memshack` on mcrouter's port."""

from memop.api.memcached_cluster import MEMCACHED_CLUSTER
from memop.api.memshack import DEFAULT_MCROUTER_IMAGE, DEFAULT_MEMCACHED_IMAGE, MEMCACHED_PORT, SUFFIX, MemshackSpec
from memop.translate.foreign import (
    Json,
    Remark,
    Served,
    Told,
    Translation,
    Untranslatable,
    native,
    read_metadata,
    read_spec,
)


def translate(foreign: Json) -> Translation:
    """Raises: Untranslatable."""
    metadata = read_metadata(foreign, suffix=SUFFIX)
    given, notes = read_spec(foreign, MemshackSpec)
    if given.mcrouter_port == MEMCACHED_PORT:
        what = f"{MEMCACHED_PORT} is memcached's own port: give another, such as 5000"
        raise Untranslatable(foreign, [Remark(("spec", "mcrouter_port"), what)])
    spec = {
        "shards": given.num_shards,
        "replicasPerShard": given.num_replicas,
        "memcached": {"image": given.memcached_image or DEFAULT_MEMCACHED_IMAGE},
        "proxy": {
            "replicas": given.mcrouter_pool_size,
            "port": given.mcrouter_port,
            "mcrouter": {"image": given.mcrouter_image or DEFAULT_MCROUTER_IMAGE},
            "readPolicy": "latest",
            "writePolicy": "all",
        },
    }
    return Translation(native(MEMCACHED_CLUSTER, metadata, spec), notes)


def status(served: Served) -> Told:
    """The fields of the other operator's status."""
    return Told({"phase": "Error" if served.error else "Running", "message": served.error or served.message})
