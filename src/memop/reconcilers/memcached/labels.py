"""What names a `Memcached`'s objects and tells them apart: metadata and labels."""

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.objects import VERSION_LABEL, Json, selector_labels
from memop.reconcilers.pods import image_tag
from memop.refs import Key


def metadata(instance: Instance) -> Json:
    """Name, namespace and labels of a child: all are named after the CR."""
    return {"name": instance.key.name, "namespace": instance.key.namespace, "labels": selector(instance.key)}


def selector(key: Key) -> dict[str, str]:
    """The three labels that everything of this pool carries and selects by."""
    return selector_labels("memcached", key.name)


def workload_labels(instance: Instance) -> dict[str, str]:
    """The selector, and the image's tag where it has one that a label can hold."""
    tag = image_tag(instance.image)
    return {**selector(instance.key), **({VERSION_LABEL: tag} if tag else {})}
