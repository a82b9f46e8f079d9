"""The one endpoint of a cluster."""

from memop.reconcilers.cluster.instance import Instance
from memop.reconcilers.cluster.labels import metadata, proxy_selector
from memop.reconcilers.monitoring import METRICS_PORT
from memop.reconcilers.objects import Json
from memop.refs import SERVICES


def service(instance: Instance) -> Json:
    annotations = instance.spec.proxy.service.annotations
    # Target ports go by name, so that pods of before and after a change of the port are both reached.
    ports = {"memcached": (instance.spec.proxy.port, "proxy")}
    if instance.monitored:
        ports["metrics"] = (METRICS_PORT, "metrics")
    return {
        "apiVersion": SERVICES.api_version,
        "kind": SERVICES.kind,
        "metadata": {
            **metadata(instance, instance.key.name),
            **({"annotations": dict(annotations)} if annotations else {}),
        },
        "spec": {
            "type": "ClusterIP",
            "publishNotReadyAddresses": False,
            "selector": proxy_selector(instance.key),
            "ports": [
                {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}
                for name, (port, target) in ports.items()
            ],
        },
    }
