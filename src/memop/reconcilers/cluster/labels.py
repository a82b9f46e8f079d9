"""What names a `MemcachedCluster`'s objects and tells them apart: metadata and labels."""

from memop.reconcilers.cluster.instance import Instance
from memop.reconcilers.objects import VERSION_LABEL, Json, selector_labels
from memop.reconcilers.pods import image_tag
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
    """The selector, and the image's tag where it has one that a label can hold."""
    tag = image_tag(instance.image)
    return {**proxy_selector(instance.key), **({VERSION_LABEL: tag} if tag else {})}


def metadata(instance: Instance, name: str) -> Json:
    """Name, namespace and labels of one of the proxies' objects."""
    return {"name": name, "namespace": instance.key.namespace, "labels": proxy_selector(instance.key)}
