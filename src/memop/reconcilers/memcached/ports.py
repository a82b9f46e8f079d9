"""The ports of a pod."""

from memop.api.memcached import MemcachedSpec
from memop.reconcilers.monitoring import METRICS_PORT

CLIENT_PORT = 11211
TLS_PORT = 11212
# In plain text and on the pod's loopback alone, for the exporter: memcached's other listeners speak TLS.
LOOPBACK_PORT = 11213


def memcached_ports(spec: MemcachedSpec) -> dict[str, int]:
    """The ports on which clients reach memcached, by name; the name is the same on containers and Service."""
    ports = {"memcached": CLIENT_PORT}
    if spec.enabled_tls is not None:
        ports["memcached-tls"] = TLS_PORT
    return ports


def open_ports(spec: MemcachedSpec) -> dict[str, int]:
    """All ports on which the pod is to be reached, by name."""
    ports = memcached_ports(spec)
    if spec.enabled_monitoring is not None:
        ports["metrics"] = METRICS_PORT
    return ports
