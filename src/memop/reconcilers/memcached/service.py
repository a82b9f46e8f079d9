"""The headless Service of a pool: one DNS record a pod, for clients that spread keys themselves."""

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import selector
from memop.reconcilers.memcached.workload import CLIENT_PORT
from memop.reconcilers.objects import Json


def service(instance: Instance) -> Json:
    metadata: Json = {
        "name": instance.key.name,
        "namespace": instance.key.namespace,
        "labels": selector(instance.key),
    }
    if instance.spec.service.annotations:
        metadata["annotations"] = dict(instance.spec.service.annotations)
    spec: Json = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": instance.spec.service.publish_not_ready_addresses,
        "selector": selector(instance.key),
        "ports": [{"name": "memcached", "port": CLIENT_PORT, "targetPort": "memcached", "protocol": "TCP"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
