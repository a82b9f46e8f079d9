"""The fields of the API that this version does not act on yet; the one that completes `Memcached` deletes this file.

A pool without the TLS or the policy that its manifest asks for would be worse than none, so nothing of a pool is made
or changed while its spec asks for one of these: the CR says so in its condition.
"""

from memop.api.memcached import MemcachedSpec


def unbuilt(spec: MemcachedSpec) -> list[str]:
    """The paths of the given fields that ask for what is not built, in the order of the API."""
    security = spec.security
    asked = {
        "highAvailability": spec.high_availability is not None,
        "monitoring": spec.monitoring is not None and spec.monitoring.enabled,
        "security.podSecurityContext": security is not None and bool(security.pod_security_context),
        "security.containerSecurityContext": security is not None and bool(security.container_security_context),
        "security.sasl": security is not None and security.sasl is not None and security.sasl.enabled,
        "security.tls": security is not None and security.tls is not None and security.tls.enabled,
        "security.networkPolicy": security is not None
        and security.network_policy is not None
        and security.network_policy.enabled,
        "autoscaling": spec.autoscaling is not None and spec.autoscaling.enabled,
        "podIdentity": spec.pod_identity == "Stable",
        "replicasFrom": spec.replicas_from is not None,
    }
    return [f"spec.{path}" for path, wanted in asked.items() if wanted]
