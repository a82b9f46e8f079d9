"""The status of a `MemcachedCluster`: observed → fields and conditions."""

from collections.abc import Iterable, Mapping, Sequence

from memop.api.conditions import DesiredCondition, Problem, merge_conditions
from memop.reconcilers.cluster.config import config_hash
from memop.reconcilers.cluster.instance import Instance, pool_name
from memop.reconcilers.cluster.observe import RELOAD_SECONDS, Observed
from memop.reconcilers.monitoring import ready_condition
from memop.reconcilers.objects import INSTANCE_LABEL, NAME_LABEL, Json, Live

_Condition = tuple[str, bool, str, str]


def status(observed: Observed, problems: Sequence[Problem], *, unserved: Mapping[str, str], now: str) -> Json:
    """The status to apply; `unserved` and `now` as for a `Memcached`."""
    cr, instance = observed.cr, observed.instance
    conditions = [
        DesiredCondition(type_, "True" if holds else "False", reason, message, cr.generation)
        for type_, holds, reason, message in (
            *_conditions(observed, [*problems, *_pools_problems(observed)]),
            *_monitoring(observed, unserved),
        )
    ]
    result: Json = {
        "conditions": merge_conditions(observed.conditions, conditions, now),
        "observedGeneration": cr.generation,
        "selector": _selector(observed),
    }
    if observed.named is not None:
        result |= {"shards": observed.named.shards, "replicasPerShard": observed.named.copies}
    if instance is not None:
        result["endpoint"] = f"{cr.key.name}.{cr.key.namespace}:{instance.spec.proxy.port}"
        if told := config_hash(instance) if observed.settled else observed.told_hash:
            result["configHash"] = told
    return result


def _selector(observed: Observed) -> str:
    """All memcached pods; the copies' names are the instances."""
    copies = max(observed.wanted.copies, 1)
    names = ",".join(pool_name(observed.cr.key.name, copy) for copy in range(copies))
    return f"{NAME_LABEL}=memcached,{INSTANCE_LABEL} in ({names})"


def _conditions(observed: Observed, problems: Sequence[Problem]) -> Iterable[_Condition]:
    rollout, instance = observed.rollout, observed.instance
    proxies = instance.spec.proxy.replicas if instance else 0
    proxy_count = f"{rollout.ready_replicas} of {proxies} proxies ready"
    pool_ready, pool_count = _pool_ready(observed)
    proxy_ready = proxies > 0 and rollout.ready_replicas == proxies
    count = f"{proxy_count}, {pool_count}"

    serving = rollout.ready_replicas > 0 and any(pool.status.ready_replicas for pool in observed.pools.values())
    yield "Available", serving, "Available" if serving else "Unavailable", count
    waiting = _progress(observed)
    yield "Progressing", bool(waiting), "Progressing" if waiting else "ProgressingComplete", waiting or "rolled out"
    if problems:
        yield "Degraded", True, problems[0][0], "; ".join(message for _, message in problems)
    elif rollout.ready_replicas < proxies or not pool_ready:
        yield "Degraded", True, "Degraded", count
    else:
        yield "Degraded", False, "NotDegraded", count
    yield "PoolReady", pool_ready, "PoolReady" if pool_ready else "PoolNotReady", pool_count
    yield "ProxyReady", proxy_ready, "ProxyReady" if proxy_ready else "ProxyNotReady", proxy_count
    ready = pool_ready and proxy_ready and observed.settled
    yield "Ready", ready, "MemcachedClusterReady" if ready else "MemcachedClusterNotReady", count
    if observed.paused:
        yield (
            "Paused",
            True,
            "Paused",
            "the paused annotation is set: memop changes nothing of this cluster until it goes",
        )


def _pool_ready(observed: Observed) -> tuple[bool, str]:
    """Whether every server that is wanted is ready."""
    shards, copies = observed.wanted
    counts, ready = [], copies > 0
    for copy in range(copies):
        pool = observed.pools.get(copy)
        count = pool.status.ready_replicas if pool else 0
        counts.append(f"{pool_name(observed.cr.key.name, copy)}: {count} of {shards} pods ready")
        ready = ready and pool is not None and pool.holds(shards)
    return ready, ", ".join(counts) or "no pool yet"


def _pools_problems(observed: Observed) -> Iterable[Problem]:
    """What is wrong with a pool, beside pods that are not ready."""
    for copy, pool in observed.pools.items():
        for condition in pool.status.conditions:
            if (condition.type, condition.status) == ("Degraded", "True") and condition.reason != "Degraded":
                name = pool_name(observed.cr.key.name, copy)
                yield condition.reason, f"Memcached {name}: {condition.reason}; its own status says more"


def _progress(observed: Observed) -> str:
    """What the next step waits for; empty when all is done."""
    instance, workload = observed.instance, observed.workload
    if instance is None:
        return "the spec cannot be read, and all is left as it is"
    if workload is None:
        return "no Deployment of proxies yet"
    if observed.wanted != instance.layout:
        return f"the proxies go on with {instance.layout} (shards x copies) until all of {observed.wanted} is ready"
    return _proxies_wait(observed, workload, instance) or _pools_wait(observed) or _pools_roll(observed)


def _proxies_wait(observed: Observed, workload: Live, instance: Instance) -> str:
    rollout, proxies = observed.rollout, instance.spec.proxy.replicas
    if rollout.observed_generation < workload.generation:
        return "the Deployment's newest generation is not observed yet"
    if rollout.updated_replicas < proxies or rollout.replicas != proxies:
        return f"{rollout.updated_replicas} of {proxies} proxies updated, {rollout.replicas} in all"
    if observed.reload_due is not None:
        return f"the config changed at {instance.since}; within {RELOAD_SECONDS:.0f} s kubelets bring it to the proxies"
    return ""


def _pools_wait(observed: Observed) -> str:
    shards, copies = observed.wanted
    if len(observed.pools) == copies and all(pool.servers == shards for pool in observed.pools.values()):
        return ""
    return f"the pools become {observed.wanted} (shards x copies)"


def _pools_roll(observed: Observed) -> str:
    """Of several copies one is changed after the other."""
    cluster = observed.cr.key.name
    rolling = ", ".join(pool_name(cluster, copy) for copy, pool in observed.pools.items() if pool.progressing)
    return f"pods of {rolling} are made or replaced" if rolling else ""


def _monitoring(observed: Observed, unserved: Mapping[str, str]) -> Iterable[_Condition]:
    """Nothing where Prometheus is not meant to see anything."""
    instance = observed.instance
    if instance is None or (monitoring := instance.spec.memcached.enabled_monitoring) is None:
        return
    obstacle = None
    if not instance.monitored:
        message = f"the pool has exporters; memcached's exporter cannot ask {instance.spec.proxy.kind}: bring your own"
        obstacle = "ProxyNotMonitored", message
    yield ready_condition(monitoring, obstacle, unserved)
