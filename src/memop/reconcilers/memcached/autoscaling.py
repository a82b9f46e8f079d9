"""The HorizontalPodAutoscaler of a pool."""

from memop.api.memcached import Autoscaling
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import metadata
from memop.reconcilers.objects import Json

_CPU = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
_BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": 300}}


def horizontal_pod_autoscaler(instance: Instance) -> Json | None:
    """None where the spec asks for none."""
    asked = instance.spec.enabled_autoscaling
    if asked is None:
        return None
    workload = instance.workload
    spec: Json = {
        "scaleTargetRef": {"apiVersion": workload.api_version, "kind": workload.kind, "name": instance.key.name},
        "metrics": asked.metrics or [_default_metric(instance)],
        "behavior": _behavior(asked),
    }
    if asked.min_replicas is not None:
        spec["minReplicas"] = asked.min_replicas
    if asked.max_replicas is not None:
        spec["maxReplicas"] = asked.max_replicas
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(instance),
        "spec": spec,
    }


def _behavior(asked: Autoscaling) -> Json:
    """As given, without empty blocks: they say nothing, and what an apply empties is not what it never had."""
    return {direction: rules for direction, rules in (asked.behavior or {}).items() if rules} or _BEHAVIOR


def _default_metric(instance: Instance) -> Json:
    """CPU at 80 % of the request: memcached's own beside an exporter.

    The autoscaler reads no utilisation of a pod in which any container has no request, and the exporter has none by
    default.
    """
    if instance.spec.enabled_monitoring is None:
        return {"type": "Resource", "resource": _CPU}
    return {"type": "ContainerResource", "containerResource": {"container": "memcached", **_CPU}}
