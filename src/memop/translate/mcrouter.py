"""`Mcrouter` of mcrouter.example.com: N x 1 or 1 x N behind mcrouter, Service of the same name on mcrouter's port."""

from memop.api.mcrouter import DEFAULT_MCROUTER_IMAGE, DEFAULT_MEMCACHED_IMAGE, McrouterSpec
from memop.api.memcached_cluster import MAX_COPIES, MEMCACHED_CLUSTER
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

MEMCACHED_PORT = 11211


def translate(foreign: Json) -> Translation:
    """Raises: Untranslatable."""
    metadata = read_metadata(foreign)
    given, notes = read_spec(foreign, McrouterSpec)
    size, replicated = given.memcached_pool_size, given.pool_setup == "replicated"
    if replicated and size > MAX_COPIES:
        what = f"{size} is more than {MAX_COPIES} copies of each key: lower it, or set pool_setup to sharded"
        raise Untranslatable(foreign, [Remark(("spec", "memcached_pool_size"), what)])
    if given.memcached_port != MEMCACHED_PORT:
        what = f"memcached listens on {MEMCACHED_PORT} instead, where mcrouter alone asks it"
        notes.append(Remark(("spec", "memcached_port"), what))
    fifos = {"debugFifoRoot": given.debug_fifo_root} if given.debug_fifo_root else {}
    policies = {"readPolicy": "random", "writePolicy": "all"} if replicated else {}
    # Its README finds the pods by these labels.
    pool, proxies = {"app": f"{metadata['name']}-cache"}, {"app": "mcrouter"}
    spec = {
        "shards": 1 if replicated else size,
        "replicasPerShard": size if replicated else 1,
        "memcached": {"image": given.memcached_image or DEFAULT_MEMCACHED_IMAGE, "podLabels": pool},
        "proxy": {
            "port": given.mcrouter_port,
            "mcrouter": {"image": given.mcrouter_image or DEFAULT_MCROUTER_IMAGE, **fifos},
            **policies,
            "podLabels": proxies,
        },
    }
    return Translation(native(MEMCACHED_CLUSTER, metadata, spec), notes)


def status(served: Served) -> Told:
    """The condition that its README has people look at, in the words of the Ansible Operator SDK."""
    if served.error:
        return Told({}, ("Running", False, "Failed", served.error))
    if served.ready:
        return Told({}, ("Running", True, "Successful", "Awaiting next reconciliation"))
    return Told({}, ("Running", True, "Running", "Running reconciliation"))
