"""The PodDisruptionBudget of the proxies: a drain takes one at a time."""

from memop.reconcilers.cluster.instance import Instance
from memop.reconcilers.cluster.labels import metadata, proxy_selector
from memop.reconcilers.objects import Json
from memop.refs import POD_DISRUPTION_BUDGETS


def pod_disruption_budget(instance: Instance) -> Json:
    return {
        "apiVersion": POD_DISRUPTION_BUDGETS.api_version,
        "kind": POD_DISRUPTION_BUDGETS.kind,
        "metadata": metadata(instance, instance.proxy_name),
        "spec": {"selector": {"matchLabels": proxy_selector(instance.key)}, "maxUnavailable": 1},
    }
