"""The ServiceMonitor that has the proxies scraped as their pool is."""

from memop.reconcilers.cluster.instance import Instance
from memop.reconcilers.cluster.labels import metadata, proxy_selector
from memop.reconcilers.objects import Json
from memop.refs import SERVICE_MONITORS


def service_monitor(instance: Instance) -> Json | None:
    """None where the pool has none, or the proxies are not scraped."""
    monitoring = instance.spec.memcached.enabled_monitoring
    if not instance.monitored or monitoring is None or monitoring.service_monitor is None:
        return None
    asked = monitoring.service_monitor
    endpoint = {"port": "metrics", "interval": asked.interval, "scrapeTimeout": asked.scrape_timeout}
    base = metadata(instance, instance.proxy_name)
    return {
        "apiVersion": SERVICE_MONITORS.api_version,
        "kind": SERVICE_MONITORS.kind,
        "metadata": {**base, "labels": {**asked.additional_labels, **base["labels"]}},
        "spec": {
            "selector": {"matchLabels": proxy_selector(instance.key)},
            "namespaceSelector": {"matchNames": [instance.key.namespace]},
            "endpoints": [{name: value for name, value in endpoint.items() if value}],
        },
    }
