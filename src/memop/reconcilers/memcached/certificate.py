"""The cert-manager Certificate of a pool whose TLS has an issuer instead of a Secret."""

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import metadata, selector
from memop.reconcilers.memcached.tls import secret_name
from memop.reconcilers.objects import Json


def certificate(instance: Instance) -> Json | None:
    """None without an issuer. The Secret is labelled like everything of the pool."""
    tls = instance.spec.enabled_tls
    if tls is None or tls.issuer_ref is None:
        return None
    spec = {
        "secretName": secret_name(instance, tls),
        "secretTemplate": {"labels": selector(instance.key)},
        "dnsNames": dns_names(instance),
        "usages": ["digital signature", "key encipherment", "server auth"],
        "issuerRef": tls.issuer_ref.model_dump(),
    }
    return {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": metadata(instance), "spec": spec}


def dns_names(instance: Instance) -> list[str]:
    """The Service's name as it may be spelled in a cluster, and any pod's below it where pods have names.

    A wildcard, so that a pool that grows keeps its certificate, and with it its pods. There is none below the bare
    name: OpenSSL wants two dots in a wildcard.
    """
    name, namespace = instance.key.name, instance.key.namespace
    qualified = [f"{name}.{namespace}{suffix}" for suffix in ("", ".svc", f".svc.{instance.cluster_domain}")]
    pods = [f"*.{service}" for service in qualified] if instance.spec.pod_identity == "Stable" else []
    return [name, *qualified, *pods]
