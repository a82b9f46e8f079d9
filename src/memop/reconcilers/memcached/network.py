"""The NetworkPolicy of a pool: who may connect to its ports."""

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import metadata, selector
from memop.reconcilers.memcached.ports import open_ports
from memop.reconcilers.objects import Json


def network_policy(instance: Instance) -> Json | None:
    """None where the spec asks for none. Without sources everyone may connect, to these ports alone."""
    asked = instance.spec.enabled_network_policy
    if asked is None:
        return None
    rule: Json = {"ports": [{"protocol": "TCP", "port": port} for port in open_ports(instance.spec).values()]}
    if asked.allowed_sources:
        rule["from"] = asked.allowed_sources
    spec = {
        "podSelector": {"matchLabels": selector(instance.key)},
        "policyTypes": ["Ingress"],
        "ingress": [rule],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(instance),
        "spec": spec,
    }
