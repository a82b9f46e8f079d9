"""Metrics for Prometheus: the exporter beside memcached, and the ServiceMonitor that has it scraped."""

from memop.api.memcached import Monitoring
from memop.reconcilers import monitoring
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import metadata
from memop.reconcilers.memcached.ports import CLIENT_PORT, LOOPBACK_PORT
from memop.reconcilers.memcached.security import sidecar_security_context
from memop.reconcilers.objects import Json


def exporter(instance: Instance, asked: Monitoring) -> Json:
    """The sidecar. It has no certificate, so with TLS it asks where memcached speaks plain text to the pod alone."""
    return monitoring.exporter(
        instance.exporter_image,
        CLIENT_PORT if instance.spec.enabled_tls is None else LOOPBACK_PORT,
        sidecar_security_context(instance),
        asked.exporter_resources,
    )


def service_monitor(instance: Instance) -> Json | None:
    """None where the spec asks for none."""
    return monitoring.service_monitor(instance.spec.enabled_monitoring, metadata(instance))
