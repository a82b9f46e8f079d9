"""twemproxy: its configuration and its container. It knows one copy of every shard, and no reload.

A server's name is its place on the ring, so servers are named after their seat: whoever sits there, and at whatever
address, has the seat's keys.
"""

import yaml

from memop.api.memcached_cluster import Proxy, Twemproxy
from memop.reconcilers.cluster import topology
from memop.reconcilers.cluster.topology import CONFIG_DIRECTORY, Topology, absolute, listening_port
from memop.reconcilers.objects import Json

RELOADS = False
UID = 11211
# SIGTERM does nothing to it as a container's first process: it serves to the end of this time, and is killed.
GRACE_SECONDS = 30

_FILE = "nutcracker.yml"
# Without a limit a request to a server that has gone silently waits for ever.
_TIMEOUT_MILLISECONDS = 500


def files(pool: Topology, proxy: Proxy) -> dict[str, str]:
    """The ConfigMap's data: file name → text. ValueError for what twemproxy cannot serve: a second copy."""
    if len(pool.copies) > 1:
        raise ValueError("twemproxy knows one copy of every shard")
    settings = proxy.twemproxy or Twemproxy()
    config = {
        "listen": f"0.0.0.0:{listening_port(proxy)}",
        "hash": settings.hash,
        "distribution": settings.distribution,
        "auto_eject_hosts": True,
        "server_failure_limit": settings.server_failure_limit,
        "server_retry_timeout": settings.server_retry_timeout,
        "timeout": _TIMEOUT_MILLISECONDS,
        "tcpkeepalive": True,
        "servers": [f"{absolute(host)}:{pool.port}:1 shard-{shard}" for shard, host in enumerate(pool.copies[0])],
    }
    return {_FILE: yaml.safe_dump({"memcached": config}, sort_keys=False)}


def container(proxy: Proxy, image: str) -> Json:
    """The container `proxy`, less security context and resources.

    Its log goes to stderr: some builds have a file for it, and none of them may write one here.
    """
    return topology.container(proxy, image, ["nutcracker", "-c", f"{CONFIG_DIRECTORY}/{_FILE}", "-o", "/dev/stderr"])


def volumes(_proxy: Proxy) -> list[Json]:
    """It writes nothing."""
    return []
