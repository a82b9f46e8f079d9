"""Metrics for Prometheus: the exporter beside memcached, and the ServiceMonitor that has it scraped."""

from memop.api.memcached import Monitoring
from memop.reconcilers import pods
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import metadata, selector
from memop.reconcilers.memcached.ports import CLIENT_PORT, LOOPBACK_PORT
from memop.reconcilers.memcached.security import sidecar_security_context
from memop.reconcilers.objects import Json


def exporter(instance: Instance, monitoring: Monitoring) -> Json:
    """The sidecar. It has no certificate, so with TLS it asks where memcached speaks plain text to the pod alone."""
    return pods.exporter(
        instance.exporter_image,
        CLIENT_PORT if instance.spec.enabled_tls is None else LOOPBACK_PORT,
        sidecar_security_context(instance),
        monitoring.exporter_resources,
    )


def service_monitor(instance: Instance) -> Json | None:
    """None where the spec asks for none."""
    monitoring = instance.spec.enabled_monitoring
    if monitoring is None or monitoring.service_monitor is None:
        return None
    asked = monitoring.service_monitor
    endpoint = {"port": "metrics", "interval": asked.interval, "scrapeTimeout": asked.scrape_timeout}
    spec = {
        "selector": {"matchLabels": selector(instance.key)},
        "namespaceSelector": {"matchNames": [instance.key.namespace]},
        "endpoints": [{name: value for name, value in endpoint.items() if value}],
    }
    base = metadata(instance)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": {**base, "labels": {**asked.additional_labels, **base["labels"]}},
        "spec": spec,
    }
