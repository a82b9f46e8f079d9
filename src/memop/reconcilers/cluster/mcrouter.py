"""mcrouter: its configuration and its container."""

import json

from memop.api.memcached_cluster import Proxy, ReadPolicy, WritePolicy
from memop.reconcilers.cluster import topology
from memop.reconcilers.cluster.topology import CONFIG_DIRECTORY, Topology, listening_port
from memop.reconcilers.objects import Json

RELOADS = True
UID = 1001
GRACE_SECONDS = 30

_FILE = "config.json"
_STATS, _SPOOL, _FIFOS = "/var/mcrouter/stats", "/var/spool/mcrouter", "debug-fifos"
# Each that is not listed goes where writes go.
_READS = ("get", "gets", "gat", "gats", "lease-get", "metaget")
_READ: dict[ReadPolicy, str] = {"failover": "MissFailoverRoute", "random": "RandomRoute", "latest": "LatestRoute"}
_WRITE: dict[WritePolicy, str] = {"fastest": "AllFastestRoute", "all": "AllSyncRoute"}
# Copies have different cas ids for the same value: one would grant what the others refuse, and they would differ.
_CAS = "ErrorRoute|cas needs one copy of every shard"


def files(pool: Topology, proxy: Proxy) -> dict[str, str]:
    """The ConfigMap's data: file name → text."""
    names = [f"r{number}" for number in range(len(pool.copies))]
    # With TLS, the server's certificate is not checked and none of mcrouter's own is shown.
    access = ":ascii:ssl" if pool.tls else ""
    pools = {
        name: {"servers": [f"{host}:{pool.port}{access}" for host in copy]}
        for name, copy in zip(names, pool.copies, strict=True)
    }
    children = [f"PoolRoute|{name}" for name in names]
    route = children[0] if len(children) == 1 else _several_copies(children, proxy)
    return {_FILE: json.dumps({"pools": pools, "route": route}, indent=2) + "\n"}


def container(proxy: Proxy, image: str) -> Json:
    """The container `proxy`, less security context and resources.

    A dead server is tried again after a second, not ten. Without a directory for dumps, no older configuration can
    stand in for a bad one.
    """
    command = [
        "mcrouter",
        f"--port={listening_port(proxy)}",
        f"--config=file:{CONFIG_DIRECTORY}/{_FILE}",
        "--config-dump-root=",
        "--asynclog-disable",
        "--server-timeout=500",
        "--probe-timeout-initial=1000",
        "--probe-timeout-max=5000",
    ]
    mounts = {"stats": _STATS, "spool": _SPOOL}
    if root := _fifo_root(proxy):
        command.append(f"--debug-fifo-root={root}")
        mounts[_FIFOS] = root
    return topology.container(proxy, image, command, mounts)


def volumes(proxy: Proxy) -> list[Json]:
    """What it writes to, below a read-only root."""
    names = ["stats", "spool", *([_FIFOS] if _fifo_root(proxy) else [])]
    return [{"name": name, "emptyDir": {}} for name in names]


def _fifo_root(proxy: Proxy) -> str:
    return proxy.mcrouter.debug_fifo_root if proxy.mcrouter else ""


def _several_copies(children: list[str], proxy: Proxy) -> Json:
    read = {"type": _READ[proxy.read_policy], "children": children}
    return {
        "type": "OperationSelectorRoute",
        "default_policy": {"type": _WRITE[proxy.write_policy], "children": children},
        "operation_policies": {**dict.fromkeys(_READS, read), "cas": _CAS},
    }
