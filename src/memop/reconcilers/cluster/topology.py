"""The pool as a proxy sees it, and what all proxies' containers share."""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from memop.api.memcached_cluster import Proxy
from memop.reconcilers.objects import Json

PORT_NAME = "proxy"
# Below this a port takes a capability, which restricted pods have not.
FIRST_UNPRIVILEGED_PORT, UNPRIVILEGED_PORT = 1024, 11211
CONFIG_VOLUME, CONFIG_DIRECTORY = "config", "/etc/proxy"
# Endpoints that have lost the pod take a moment to reach every node; until then new connections still come.
DRAIN_SECONDS = 10

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_PROBE: Json = {
    "tcpSocket": {"port": PORT_NAME},
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 3,
}


@dataclass(frozen=True, slots=True)
class Topology:
    """`copies[j][i]` is the host of shard i of copy j, where a memcached listens on `port`, speaking TLS or not.

    Every proxy hashes keys to places in this order, so the order is what keeps keys where they are.
    """

    copies: tuple[tuple[str, ...], ...]
    port: int
    tls: bool = False

    def __post_init__(self) -> None:
        """Refuse (ValueError) what is no pool, and hosts that would mean something else in a configuration's syntax."""
        if not self.copies or not self.copies[0]:
            raise ValueError("a pool has at least one copy and one shard")
        if len({len(copy) for copy in self.copies}) > 1:
            raise ValueError("every copy has every shard")
        for copy in self.copies:
            for host in copy:
                if not _HOST.fullmatch(host):
                    raise ValueError(f"{host!r} is no host name")


def listening_port(proxy: Proxy) -> int:
    """The container's: the Service's, where it may be; the Service finds it by name."""
    return proxy.port if proxy.port >= FIRST_UNPRIVILEGED_PORT else UNPRIVILEGED_PORT


def absolute(host: str) -> str:
    """The host with the dot that keeps a resolver from trying its search domains, of which none can have it."""
    try:
        ip_address(host)
    except ValueError:
        return f"{host}."
    return host


def container(proxy: Proxy, image: str, command: list[str], mounts: dict[str, str] | None = None) -> Json:
    """The container `proxy`, less security context and resources; `mounts` are scratch volumes, name → path.

    The probes ask for a connection alone, and no dead memcached fails them: the proxy listens once it has taken in its
    configuration, and goes on without its pool. A request would need a client, which not every image has. For the same
    reason the kubelet does the waiting before a stop; `sleep` as a program is not everywhere.
    """
    scratch = [{"name": name, "mountPath": path} for name, path in (mounts or {}).items()]
    return {
        "name": "proxy",
        "image": image,
        "command": command,
        "ports": [{"name": PORT_NAME, "containerPort": listening_port(proxy), "protocol": "TCP"}],
        "livenessProbe": {**_PROBE, "initialDelaySeconds": 10, "periodSeconds": 10},
        "readinessProbe": {**_PROBE, "periodSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
        "volumeMounts": [{"name": CONFIG_VOLUME, "mountPath": CONFIG_DIRECTORY, "readOnly": True}, *scratch],
    }
