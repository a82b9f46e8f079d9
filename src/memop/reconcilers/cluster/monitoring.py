"""The ServiceMonitor that has the proxies scraped as their pool is."""

from memop.reconcilers import monitoring
from memop.reconcilers.cluster.instance import Instance
from memop.reconcilers.cluster.labels import metadata
from memop.reconcilers.objects import Json


def service_monitor(instance: Instance) -> Json | None:
    """None where the pool has none, or the proxies are not scraped."""
    asked = instance.spec.memcached.enabled_monitoring if instance.monitored else None
    return monitoring.service_monitor(asked, metadata(instance, instance.proxy_name))
