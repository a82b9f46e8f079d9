"""What names a `MemcachedCluster`'s objects and tells them apart: metadata and labels."""

from memop.reconcilers.cluster.instance import Instance
from memop.reconcilers.objects import Json, selector_labels
from memop.reconcilers.pods import labels
from memop.refs import Key

PROXY = "memcached-proxy"
POOL = "memcached-cluster"


def proxy_selector(key: Key) -> dict[str, str]:
    """The three labels of everything that belongs to the proxies."""
    return selector_labels(PROXY, key.name)


def pool_labels(key: Key) -> dict[str, str]:
    """Those of the `Memcached` objects; what these make is labelled as every pool's children are."""
    return selector_labels(POOL, key.name)


def proxy_labels(instance: Instance) -> dict[str, str]:
    return labels(proxy_selector(instance.key), instance.image)


def metadata(instance: Instance, name: str) -> Json:
    """Name, namespace and labels of one of the proxies' objects."""
    return {"name": name, "namespace": instance.key.namespace, "labels": proxy_selector(instance.key)}
