"""The security contexts: restricted (Pod Security Standards), with the spec's own fields on top.

What asks for root or for rights over the node has left the spec by now (`webhooks.validation.effective`), unless the
operator runs with `--allow-privileged-pods`.
"""

from memop.api.memcached import MemcachedSpec
from memop.reconcilers import pods
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.objects import Json


def pod_security_context(instance: Instance) -> Json:
    pod, _ = _given(instance.spec)
    return pods.pod_security_context(pod, _uid(instance))


def container_security_context(instance: Instance) -> Json:
    """memcached's."""
    _, container = _given(instance.spec)
    return pods.container_security_context(container, pod_security_context(instance), _uid(instance))


def sidecar_security_context(instance: Instance) -> Json:
    """Any other container's."""
    return pods.container_security_context({}, pod_security_context(instance), _uid(instance))


def _given(spec: MemcachedSpec) -> tuple[Json, Json]:
    """The pod's and the container's."""
    if spec.security is None:
        return {}, {}
    return spec.security.pod_security_context or {}, spec.security.container_security_context or {}


def _uid(instance: Instance) -> int | None:
    return pods.MEMCACHED_UID if instance.default_uid else None
