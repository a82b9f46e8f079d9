"""What names a `Memcached`'s objects and tells them apart: metadata and labels."""

import re

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.objects import VERSION_LABEL, Json, selector_labels
from memop.refs import Key

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


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


def image_tag(image: str) -> str | None:
    """`registry:5000/memcached:1.6` → `1.6`; None for a digest, no tag, or one that is no label value."""
    if "@" in image:
        return None
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag if _LABEL_VALUE.fullmatch(tag) else None
