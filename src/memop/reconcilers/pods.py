"""What pods of all kinds have in common: the restricted security contexts, placement, labels."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from memop.api.memcached import RESERVED_POD_LABELS, PodSettings
from memop.reconcilers.objects import INSTANCE_LABEL, NAME_LABEL, VERSION_LABEL, Json

# The official image's user has a name, and runAsNonRoot needs a number to believe it.
MEMCACHED_UID = 11211

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")

# What every pod of ours says of itself; a token of the API server is nothing for a cache to have.
ISOLATION: Json = {
    "automountServiceAccountToken": False,
    "hostNetwork": False,
    "hostPID": False,
    "hostIPC": False,
}
_POD: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
# What the default is anyway is said, too: only what is applied can be put back.
_CONTAINER: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"add": [], "drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
}


def pod_security_context(given: Json, uid: int | None) -> Json:
    """Restricted (Pod Security Standards), with the `given` fields on top; `uid` None leaves it to image or cluster."""
    return _merged(_base(uid), given)


def container_security_context(given: Json, pod: Json, uid: int | None) -> Json:
    """The same for a container. It says again what the pod's context, `pod`, says, with what the user gave there."""
    return _merged({**_CONTAINER, **{field: pod[field] for field in _base(uid)}}, given)


def _base(uid: int | None) -> Json:
    """The restricted profile of a pod. OpenShift gives each namespace a range of uids, and refuses all others."""
    return _POD if uid is None else {**_POD, "runAsUser": uid, "runAsGroup": uid}


def _merged(base: Json, given: Json) -> Json:
    """`base` with what is given, and what follows from that: the API server or kubelet would refuse a contradiction."""
    implied: Json = {}
    if given.get("runAsUser") == 0:
        implied["runAsNonRoot"] = False
    if given.get("privileged") or "CAP_SYS_ADMIN" in ((given.get("capabilities") or {}).get("add") or ()):
        implied["allowPrivilegeEscalation"] = True
    return _overlay({**base, **implied}, given)


def _overlay(base: Json, given: Json) -> Json:
    """Field by field, at all depths; null gives nothing. A block with a `type` (seccompProfile) is taken as a whole."""
    result = dict(base)
    for field, value in given.items():
        below = base.get(field)
        if isinstance(below, dict) and isinstance(value, dict) and value.get("type") is None:
            result[field] = _overlay(below, value)
        elif value is not None:
            result[field] = value
    return result


def metadata(
    settings: PodSettings,
    labels: Mapping[str, str],
    annotations: Mapping[str, str | None],
    *,
    reserved: Collection[str],
) -> Json:
    """A pod template's, of what the user gives and what is ours, None left out.

    What memop and Kubernetes set, `reserved` annotations among it, is never the user's, whatever admission let through.
    """
    given = {name: value for name, value in settings.pod_labels.items() if name not in RESERVED_POD_LABELS}
    noted = {
        **{name: value for name, value in settings.pod_annotations.items() if name not in reserved},
        **{name: value for name, value in annotations.items() if value is not None},
    }
    return {"labels": {**given, **labels}, **({"annotations": noted} if noted else {})}


def placement(settings: PodSettings) -> Json:
    """Where pods may run, before whom, and with whose credentials their images are pulled."""
    result: Json = {}
    if settings.node_selector:
        result["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        result["tolerations"] = settings.tolerations
    if settings.priority_class_name:
        result["priorityClassName"] = settings.priority_class_name
    if pull_secrets := each_once(settings.image_pull_secrets, "name"):
        result["imagePullSecrets"] = pull_secrets
    return result


def anti_affinity(labels: Mapping[str, str], preset: Literal["soft", "hard"]) -> Json:
    """Keeps pods with the name and instance of `labels` on different nodes, if it can, or at all costs."""
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {name: labels[name] for name in (NAME_LABEL, INSTANCE_LABEL)}},
    }
    if preset == "hard":
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}


def container_ports(ports: Mapping[str, int]) -> list[Json]:
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()]


def labels(selector: Mapping[str, str], image: str) -> dict[str, str]:
    """The selector, and the image's tag where it has one that a label can hold."""
    tag = image_tag(image)
    return {**selector, **({VERSION_LABEL: tag} if tag else {})}


def image_tag(image: str) -> str | None:
    """`registry:5000/memcached:1.6` → `1.6`; None for a digest, no tag, or one that is no label value."""
    if "@" in image:
        return None
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag if _LABEL_VALUE.fullmatch(tag) else None


def each_once(items: Iterable[Json], *keys: str) -> list[Json]:
    """The items of a list that merges by `keys`, the first of each: server-side apply refuses another.

    An item that lacks one of them is left out.
    """
    found: dict[tuple[str, ...], Json] = {}
    for item in items:
        key = tuple(item.get(name) or "" for name in keys)
        if all(key):
            found.setdefault(key, item)
    return list(found.values())
