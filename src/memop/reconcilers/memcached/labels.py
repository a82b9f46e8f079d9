"""What names a `Memcached`'s objects and tells them apart: metadata and labels."""

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.objects import Json, selector_labels
from memop.reconcilers.pods import labels
from memop.refs import Key


def metadata(instance: Instance) -> Json:
    """Name, namespace and labels of a child: all are named after the CR."""
    return {"name": instance.key.name, "namespace": instance.key.namespace, "labels": selector(instance.key)}


def selector(key: Key) -> dict[str, str]:
    """The three labels that everything of this pool carries and selects by."""
    return selector_labels("memcached", key.name)


def workload_labels(instance: Instance) -> dict[str, str]:
    return labels(selector(instance.key), instance.image)
