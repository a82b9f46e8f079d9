"""What Prometheus needs of pods of any kind: the exporter beside memcached, the ServiceMonitor, and word of both."""

from collections.abc import Mapping

from memop.api.memcached import Monitoring
from memop.reconcilers.objects import Json
from memop.reconcilers.pods import container_ports
from memop.refs import SERVICE_MONITORS

METRICS_PORT = 9150


def exporter(image: str, port: int, security_context: Json, resources: Json | None) -> Json:
    """The sidecar that tells Prometheus of the memcached that listens on `port` of the pod's loopback."""
    container: Json = {
        "name": "exporter",
        "image": image,
        "command": [],
        "args": [f"--memcached.address=127.0.0.1:{port}"],
        "ports": container_ports({"metrics": METRICS_PORT}),
        "securityContext": security_context,
    }
    if resources:
        container["resources"] = resources
    return container


def service_monitor(monitoring: Monitoring | None, metadata: Json) -> Json | None:
    """The ServiceMonitor of `metadata` for the Services with its labels; None where none is asked for."""
    if monitoring is None or monitoring.service_monitor is None:
        return None
    asked = monitoring.service_monitor
    endpoint = {"port": "metrics", "interval": asked.interval, "scrapeTimeout": asked.scrape_timeout}
    return {
        "apiVersion": SERVICE_MONITORS.api_version,
        "kind": SERVICE_MONITORS.kind,
        "metadata": {**metadata, "labels": {**asked.additional_labels, **metadata["labels"]}},
        "spec": {
            "selector": {"matchLabels": metadata["labels"]},
            "namespaceSelector": {"matchNames": [metadata["namespace"]]},
            "endpoints": [{name: value for name, value in endpoint.items() if value}],
        },
    }


def ready_condition(
    monitoring: Monitoring, obstacle: tuple[str, str] | None, unserved: Mapping[str, str]
) -> tuple[str, bool, str, str]:
    """Whether Prometheus gets to see what it was meant to: type, status, reason and message.

    `obstacle` is a reason and a message of the kind's own; `unserved` says of kinds that the cluster lacks why.
    """
    if obstacle is not None:
        return "MonitoringReady", False, *obstacle
    missing = unserved.get(SERVICE_MONITORS.kind)
    if monitoring.service_monitor is not None and missing:
        message = f"no ServiceMonitor is made until the cluster serves them: {missing}"
        return "MonitoringReady", False, "ServiceMonitorUnavailable", message
    return "MonitoringReady", True, "MonitoringReady", f"each pod has an exporter on port {METRICS_PORT}"
