"""The headless Service of a pool: one DNS record a pod, for clients that spread keys themselves."""

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import metadata, selector
from memop.reconcilers.memcached.ports import open_ports
from memop.reconcilers.objects import Json


def service(instance: Instance) -> Json:
    annotations = instance.spec.service.annotations
    spec: Json = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": instance.spec.service.publish_not_ready_addresses,
        "selector": selector(instance.key),
        "ports": [
            {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
            for name, port in open_ports(instance.spec).items()
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**metadata(instance), **({"annotations": dict(annotations)} if annotations else {})},
        "spec": spec,
    }
