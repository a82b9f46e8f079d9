"""All that a pool wants, in the order in which it is to be applied."""

from memop.reconcilers.memcached.autoscaling import horizontal_pod_autoscaler
from memop.reconcilers.memcached.certificate import certificate
from memop.reconcilers.memcached.disruption import pod_disruption_budget
from memop.reconcilers.memcached.instance import Instance
from memop.reconcilers.memcached.monitoring import service_monitor
from memop.reconcilers.memcached.network import network_policy
from memop.reconcilers.memcached.service import service
from memop.reconcilers.memcached.workload import workload
from memop.reconcilers.objects import Json
from memop.refs import (
    CERTIFICATES,
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    NETWORK_POLICIES,
    POD_DISRUPTION_BUDGETS,
    SERVICE_MONITORS,
    SERVICES,
    STATEFUL_SETS,
)

KINDS = (
    DEPLOYMENTS,
    STATEFUL_SETS,
    SERVICES,
    POD_DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    HORIZONTAL_POD_AUTOSCALERS,
)
# Kinds of the Prometheus operator and of cert-manager, which a cluster may not serve.
OPTIONAL_KINDS = (SERVICE_MONITORS, CERTIFICATES)

# Before the workload comes what its pods need from their first moment: the Secret, their names, protection.
_BUILDERS = (
    certificate,
    service,
    network_policy,
    workload,
    pod_disruption_budget,
    horizontal_pod_autoscaler,
    service_monitor,
)


def children(instance: Instance) -> list[Json]:
    """Apply bodies without owner reference; those of `OPTIONAL_KINDS` are wanted whether or not they are served."""
    return [child for build in _BUILDERS if (child := build(instance)) is not None]
