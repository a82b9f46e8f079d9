"""All that a cluster wants, in the order in which it is to be applied."""

from collections.abc import Iterator
from itertools import product

from memop.api.memcached_cluster import MAX_COPIES, MAX_SHARDS
from memop.reconcilers.cluster.config import config_map
from memop.reconcilers.cluster.disruption import pod_disruption_budget
from memop.reconcilers.cluster.instance import Instance, pool_name
from memop.reconcilers.cluster.monitoring import service_monitor
from memop.reconcilers.cluster.pool import pools
from memop.reconcilers.cluster.seats import seat_name, seats
from memop.reconcilers.cluster.service import service
from memop.reconcilers.cluster.workload import deployment
from memop.reconcilers.objects import Json
from memop.refs import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    MEMCACHEDS,
    POD_DISRUPTION_BUDGETS,
    SERVICE_MONITORS,
    SERVICES,
)

KINDS = (MEMCACHEDS, CONFIG_MAPS, DEPLOYMENTS, SERVICES, POD_DISRUPTION_BUDGETS)
OPTIONAL_KINDS = (SERVICE_MONITORS,)
# twemproxy reads its config once, as its pod starts: none may start with an older one under the newer one's hash.
BEFORE = {CONFIG_MAPS.kind: DEPLOYMENTS.kind}


def children(instance: Instance) -> list[Json]:
    """Apply bodies without owner reference. Proxies come after what they need: servers to ask, and their config."""
    monitor = service_monitor(instance)
    return [
        *pools(instance),
        *seats(instance),
        service(instance),
        config_map(instance),
        deployment(instance),
        pod_disruption_budget(instance),
        *([monitor] if monitor else []),
    ]


def names(kind: str, cluster: str) -> Iterator[str]:
    """All that a child of that kind may be called."""
    if kind == MEMCACHEDS.kind:
        yield from (pool_name(cluster, copy) for copy in range(MAX_COPIES))
    elif kind == SERVICES.kind:
        yield cluster
        yield from (seat_name(cluster, *seat) for seat in product(range(MAX_COPIES), range(MAX_SHARDS)))
    else:
        yield f"{cluster}-proxy"
