"""The fields of the API that this version does not act on yet; the one that completes `Memcached` deletes this file.

A pool without the TLS or the policy that its manifest asks for would be worse than none, so nothing of a pool is made
or changed while its spec asks for one of these: the CR says so in its condition.
"""

from memop.api.memcached import MemcachedSpec


def unbuilt(spec: MemcachedSpec) -> list[str]:
    """The paths of the given fields that ask for what is not built, in the order of the API."""
    security = spec.security
    asked = {
        "monitoring": spec.enabled_monitoring,
        "security.podSecurityContext": security and security.pod_security_context,
        "security.containerSecurityContext": security and security.container_security_context,
        "security.sasl": spec.enabled_sasl,
        "security.tls": spec.enabled_tls,
        "security.networkPolicy": spec.enabled_network_policy,
        "autoscaling": spec.enabled_autoscaling,
        "podIdentity": spec.pod_identity == "Stable",
        "replicasFrom": spec.replicas_from,
    }
    return [f"spec.{path}" for path, wanted in asked.items() if wanted]
