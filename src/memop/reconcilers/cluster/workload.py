"""The proxies' Deployment."""

from memop.api.memcached_cluster import RESERVED_PROXY_ANNOTATIONS
from memop.reconcilers import pods
from memop.reconcilers.cluster.config import PROXIES, config_hash
from memop.reconcilers.cluster.instance import CONFIG_HASH, PROXY_KIND, Instance
from memop.reconcilers.cluster.labels import metadata, proxy_labels, proxy_selector
from memop.reconcilers.cluster.topology import listening_port
from memop.reconcilers.monitoring import exporter
from memop.reconcilers.objects import RESTART_TRIGGER, Json
from memop.refs import DEPLOYMENTS

# Proxies wait for each name that they look up, and serve nobody meanwhile.
_DNS_OPTIONS = ({"name": "timeout", "value": "1"}, {"name": "attempts", "value": "1"})
_RESOURCES: Json = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


def deployment(instance: Instance) -> Json:
    return {
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "metadata": {
            **metadata(instance, instance.proxy_name),
            "labels": proxy_labels(instance),
            "annotations": {PROXY_KIND: instance.spec.proxy.kind},
        },
        "spec": {
            "replicas": instance.spec.proxy.replicas,
            "paused": False,
            "selector": {"matchLabels": proxy_selector(instance.key)},
            # One after the other, and a new one is there before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod_template(instance),
        },
    }


def pod_template(instance: Instance) -> Json:
    proxy, labels = instance.spec.proxy, proxy_selector(instance.key)
    module = PROXIES[proxy.kind]
    uid = module.UID if instance.default_uid else None
    given = proxy.security
    pod_context = pods.pod_security_context((given and given.pod_security_context) or {}, uid)
    container = {
        "args": [],
        **module.container(proxy, instance.image),
        "resources": proxy.resources or _RESOURCES,
        "securityContext": pods.container_security_context(
            (given and given.container_security_context) or {}, pod_context, uid
        ),
    }
    containers = [container]
    monitoring = instance.spec.memcached.enabled_monitoring
    if instance.monitored and monitoring is not None:
        context = pods.container_security_context({}, pod_context, uid)
        containers.append(
            exporter(instance.exporter_image, listening_port(proxy), context, monitoring.exporter_resources)
        )
    return {
        "metadata": _pod_metadata(instance),
        "spec": {
            **pods.ISOLATION,
            "securityContext": pod_context,
            "dnsConfig": {"options": [dict(option) for option in _DNS_OPTIONS]},
            "terminationGracePeriodSeconds": module.GRACE_SECONDS,
            "affinity": {"podAntiAffinity": pods.anti_affinity(labels, "soft")},
            "containers": containers,
            "volumes": [
                {"name": "config", "configMap": {"name": instance.proxy_name, "defaultMode": 0o444}},
                *module.volumes(proxy),
            ],
            **pods.placement(proxy),
        },
    }


def _pod_metadata(instance: Instance) -> Json:
    """A proxy that does not read its config anew is replaced when that changes."""
    proxy = instance.spec.proxy
    ours = {
        RESTART_TRIGGER: instance.restart_trigger,
        CONFIG_HASH: None if PROXIES[proxy.kind].RELOADS else config_hash(instance),
    }
    return pods.metadata(proxy, proxy_labels(instance), ours, reserved=RESERVED_PROXY_ANNOTATIONS)
