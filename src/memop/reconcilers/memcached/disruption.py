"""The PodDisruptionBudget of a pool: how many pods a drain may take at once."""

from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.labels import metadata, selector
from memop.reconcilers.objects import Json


def pod_disruption_budget(instance: Instance) -> Json | None:
    """None where the spec asks for none."""
    asked = instance.spec.enabled_pod_disruption_budget
    if asked is None:
        return None
    spec: Json = {"selector": {"matchLabels": selector(instance.key)}}
    if asked.min_available is not None:
        spec["minAvailable"] = asked.min_available
    if asked.max_unavailable is not None:
        spec["maxUnavailable"] = asked.max_unavailable
    if asked.min_available is None and asked.max_unavailable is None:
        spec["minAvailable"] = 1
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata(instance), "spec": spec}
