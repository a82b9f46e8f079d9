"""The security contexts: restricted (Pod Security Standards), with the spec's own fields on top.

What asks for root or for rights over the node has left the spec by now (`webhooks.validation.effective`), unless the
operator runs with `--allow-privileged-pods`.
"""

from memop.api.memcached import MemcachedSpec
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.objects import Json

# The official image's user has a name, and runAsNonRoot needs a number to believe it.
MEMCACHED_UID = 11211

_POD: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_UID: Json = {"runAsUser": MEMCACHED_UID, "runAsGroup": MEMCACHED_UID}
# What the default is anyway is said, too: only what is applied can be put back.
_CONTAINER: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"add": [], "drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
}


def pod_security_context(instance: Instance) -> Json:
    pod, _ = _given(instance.spec)
    return _merged(_base(instance), pod)


def container_security_context(instance: Instance) -> Json:
    """memcached's."""
    _, container = _given(instance.spec)
    return _merged(sidecar_security_context(instance), container)


def sidecar_security_context(instance: Instance) -> Json:
    """Any other container's. It says again what the pod says, with what the user gave there."""
    pod = pod_security_context(instance)
    return {**_CONTAINER, **{field: pod[field] for field in _base(instance)}}


def _given(spec: MemcachedSpec) -> tuple[Json, Json]:
    """The pod's and the container's."""
    if spec.security is None:
        return {}, {}
    return spec.security.pod_security_context or {}, spec.security.container_security_context or {}


def _base(instance: Instance) -> Json:
    """The restricted profile of a pod. OpenShift gives each namespace a range of uids, and refuses all others."""
    return {**_POD, **_UID} if instance.default_uid else _POD


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
