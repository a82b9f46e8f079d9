"""What a reconcile of one `MemcachedCluster` goes by: its spec, its pools and proxies, from the caches in one go.

A cluster is changed in steps, so that no proxy is told of servers that are not there, and none loses servers that it
still asks. What grows, grows first in the pools, and is told to the proxies when all of it is ready; what shrinks is
first told to the proxies, and leaves the pools when all proxies have taken that in. Where a step stands is read from
the objects themselves: the ConfigMap carries the layout that it describes, and since when.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

import msgspec
from pydantic import ValidationError

from memop.api.memcached_cluster import MAX_COPIES, MAX_SHARDS, MemcachedClusterSpec
from memop.informers.store import StoreReader
from memop.reconcilers.cluster.config import LAYOUT, PROXIES, SINCE, config_hash
from memop.reconcilers.cluster.instance import (
    CONFIG_HASH,
    PROXY_KIND,
    Instance,
    Layout,
    Options,
    pool_name,
)
from memop.reconcilers.live import LiveCondition, LiveStatus, Rollout, read_status
from memop.reconcilers.objects import PAUSED, RESTART_TRIGGER, Json, Live
from memop.refs import CONFIG_MAPS, DEPLOYMENTS, MEMCACHEDS, Key, Resource
from memop.webhooks.cluster import ClusterPolicy, effective

MAX_SPECS = 64  # that are kept read

# kubelet brings a changed ConfigMap into a pod within its sync period (60 s, jittered by half) and the life of its
# cache; the proxies look every second.
RELOAD_SECONDS = 120.0


class PoolStatus(LiveStatus, frozen=True):
    """What is read of the status of a `Memcached`."""

    replicas: int = 0
    ready_replicas: int = 0


class _PoolSpec(msgspec.Struct, frozen=True, rename="camel"):
    replicas: int = 0


class _Told(msgspec.Struct, frozen=True, rename="camel"):
    config_hash: str = ""
    shards: int = 0
    replicas_per_shard: int = 0

    @property
    def layout(self) -> Layout | None:
        return _possible(self.shards, self.replicas_per_shard)


@dataclass(frozen=True, slots=True)
class Pool:
    """One copy, as it is now; `servers` are the pods that it is to have."""

    live: Live
    servers: int
    status: PoolStatus
    workload: Live | None

    def holds(self, servers: int) -> bool:
        """Whether so many pods are wanted and all that are wanted were ready when it was last told of."""
        return servers <= self.servers <= self.status.ready_replicas and self.told and not self.live.deleting

    @property
    def rolled_out(self) -> bool:
        """Whether all its pods are as it wants them, and ready."""
        if self.workload is None or not self.told or self.live.deleting:
            return False
        rollout = msgspec.json.decode(self.workload.status, type=Rollout)
        return (
            rollout.observed_generation >= self.workload.generation
            and rollout.updated_replicas == rollout.ready_replicas == rollout.replicas == self.servers
            and _template_annotations(self.workload).get(RESTART_TRIGGER)
            == _annotations(self.live).get(RESTART_TRIGGER)
        )

    @property
    def progressing(self) -> bool:
        """Whether its pods are being made or replaced, by its own word."""
        conditions = {condition.type: condition.status for condition in self.status.conditions}
        return not self.told or conditions.get("Progressing") == "True"

    @property
    def told(self) -> bool:
        """Whether its status speaks of the spec as it is."""
        return self.status.observed_generation == self.live.generation


@dataclass(frozen=True, slots=True)
class Observed:
    """One `MemcachedCluster` and what the caches know of it.

    `instance` is None where the spec cannot be read, and `invalid` says what is wrong with it, read or not. `wanted` is
    the layout that the spec asks for, `named` the one that the proxies were last told of, if any. `settled`: all
    proxies have the config of `instance`, as far as can be known; `reload_due` in how many seconds that will be so
    where only time tells.
    """

    cr: Live
    conditions: list[LiveCondition]
    told_generation: int
    told_hash: str
    instance: Instance | None
    wanted: Layout
    named: Layout | None
    invalid: str
    paused: bool
    pools: Mapping[int, Pool]
    workload: Live | None
    rollout: Rollout
    settled: bool
    reload_due: float | None


def observe(
    key: Key,
    *,
    clusters: StoreReader[Live],
    children: Mapping[Resource, StoreReader[Live]],
    pool_workloads: StoreReader[Live],
    options: Options,
    now: str,
) -> Observed | None:
    """None where there is no such CR, or it is being deleted: garbage collection does the rest. `now` is RFC 3339."""
    cr = clusters.get(key)
    if cr is None or cr.deleting:
        return None

    def own(kind: Resource, name: str) -> Live | None:
        live = children[kind].get(Key(key.namespace, name))
        return live if live is not None and live.owner is not None and live.owner.uid == cr.uid else None

    annotations: Mapping[str, str] = msgspec.json.decode(cr.annotations)
    policy = ClusterPolicy(allow_privileged_pods=options.allow_privileged_pods, twemproxy_image=options.twemproxy_image)
    spec, pool, invalid = _read_spec(cr.spec, policy)
    found = {copy: own(MEMCACHEDS, pool_name(key.name, copy)) for copy in range(MAX_COPIES)}
    pools = {copy: _pool(live, pool_workloads.get(live.key)) for copy, live in found.items() if live is not None}
    config = own(CONFIG_MAPS, f"{key.name}-proxy")
    workload = own(DEPLOYMENTS, f"{key.name}-proxy")
    rollout = msgspec.json.decode(workload.status, type=Rollout) if workload is not None else Rollout()
    status, told = read_status(cr.status), _told(cr.status)
    # Without its ConfigMap a cluster is no new one.
    named = _named(config) or told.layout
    wanted = Layout(0, 0) if spec is None else Layout(spec.shards, spec.replicas_per_shard)
    instance, settled, due = None, False, None
    if spec is not None:
        instance = _instance(
            key,
            spec,
            pool,
            options=options,
            layout=_layout(wanted, named, pools),
            restart_trigger=annotations.get(RESTART_TRIGGER),
        )
        before = _annotations(config)
        since = _since(before.get(SINCE, ""), now)
        # A first config is all that proxies ever had.
        if (config or workload or named) is not None and before.get(CONFIG_HASH) != config_hash(instance):
            since = now
        instance = replace(instance, since=since)
        settled, due = _settled(instance, before, workload, rollout, now)
        if not settled:
            instance = _with_room(instance, pools)
    return Observed(
        cr=cr,
        conditions=status.conditions,
        told_generation=status.observed_generation,
        told_hash=told.config_hash,
        instance=instance,
        wanted=wanted,
        named=named,
        invalid=invalid,
        paused=annotations.get(PAUSED) == "true",
        pools=pools,
        workload=workload,
        rollout=rollout,
        settled=settled,
        reload_due=due,
    )


def _instance(
    key: Key, spec: MemcachedClusterSpec, pool: Json, *, options: Options, layout: Layout, restart_trigger: str | None
) -> Instance:
    """With the pools that the spec asks for, told to the proxies as of no time yet."""
    monitoring = spec.memcached.monitoring
    return Instance(
        key=key,
        spec=spec,
        pool=pool,
        image=_image(spec, options),
        exporter_image=(monitoring and monitoring.exporter_image) or options.exporter_image,
        layout=layout,
        servers=spec.shards,
        copies=spec.replicas_per_shard,
        restart_trigger=restart_trigger,
        default_uid=options.default_uid,
        cluster_domain=options.cluster_domain,
    )


def _with_room(instance: Instance, pools: Mapping[int, Pool]) -> Instance:
    """What some proxy may still ask stays."""
    return replace(
        instance,
        servers=max([instance.servers, *(pool.servers for pool in pools.values())]),
        copies=max([instance.copies, *(copy + 1 for copy in pools)]),
    )


def _layout(wanted: Layout, named: Layout | None, pools: Mapping[int, Pool]) -> Layout:
    """What the proxies are to be told of now: what is wanted, less what would be new to them and is not ready yet."""
    if named is None:
        return wanted
    shards = wanted.shards
    if shards > named.shards and not all(
        copy in pools and pools[copy].holds(shards) for copy in range(min(wanted.copies, named.copies))
    ):
        shards = named.shards
    copies = min(wanted.copies, named.copies)
    while copies < wanted.copies and copies in pools and pools[copies].holds(shards):
        copies += 1
    return Layout(shards, copies)


def _settled(
    instance: Instance, before: Mapping[str, str], workload: Live | None, rollout: Rollout, now: str
) -> tuple[bool, float | None]:
    """Whether all proxies have the config, and else, where only time tells, in how many seconds they will."""
    digest = config_hash(instance)
    if workload is None or before.get(CONFIG_HASH) != digest or not _rolled_out(instance, workload, rollout):
        return False, None
    proxy = PROXIES[instance.spec.proxy.kind]
    if not proxy.RELOADS and _template_annotations(workload).get(CONFIG_HASH) != digest:
        return False, None
    if not instance.since:
        return True, None
    # Proxies that were replaced serve until they are killed; the others may not have the new file yet.
    left = proxy.GRACE_SECONDS - _seconds(rollout.progressed, now)
    if proxy.RELOADS:
        left = max(left, RELOAD_SECONDS - _seconds(instance.since, now))
    return left <= 0, max(left, 0.0) or None


def _seconds(since: str, now: str) -> float:
    """From one time to the other; from one that is not known, all that one waits for."""
    return (_moment(now) - _moment(since)).total_seconds() if since else math.inf


def _rolled_out(instance: Instance, workload: Live, rollout: Rollout) -> bool:
    """Whether all proxies are ready, and of the kind that is wanted: an older one reads none of its files."""
    proxies = instance.spec.proxy.replicas
    return (
        _annotations(workload).get(PROXY_KIND) == instance.spec.proxy.kind
        and rollout.observed_generation >= workload.generation
        and rollout.replicas == rollout.updated_replicas == rollout.ready_replicas == proxies
    )


def _since(noted: str, now: str) -> str:
    """The time as noted; `now` for one that is spoilt, or yet to come by the clock of this memop."""
    try:
        return noted and min(noted, now, key=_moment)
    except ValueError:
        return now


def _moment(time: str) -> datetime:
    moment = datetime.fromisoformat(time)
    if moment.tzinfo is None:
        raise ValueError(f"{time} of which time zone?")
    return moment


def _pool(live: Live, workload: Live | None) -> Pool:
    spec = msgspec.json.decode(live.spec, type=_PoolSpec)
    return Pool(live, spec.replicas, _pool_status(live.status), workload)


def _pool_status(status: bytes) -> PoolStatus:
    try:
        return msgspec.json.decode(status, type=PoolStatus)
    except msgspec.ValidationError:  # somebody's tampering; the pool's own reconciler mends it
        return PoolStatus()


def _told(status: bytes) -> _Told:
    try:
        return msgspec.json.decode(status, type=_Told)
    except msgspec.ValidationError:
        return _Told()


def _annotations(live: Live | None) -> Mapping[str, str]:
    return {} if live is None else msgspec.json.decode(live.annotations)


def _template_annotations(workload: Live) -> Mapping[str, str]:
    annotations: Mapping[str, str] = msgspec.json.decode(workload.spec)["template"]["metadata"].get("annotations", {})
    return annotations


def _named(config: Live | None) -> Layout | None:
    """The layout that the live ConfigMap describes; None where there is none, or it does not say."""
    try:
        shards, copies = map(int, _annotations(config).get(LAYOUT, "").split("x"))
    except ValueError:
        return None
    return _possible(shards, copies)


def _possible(shards: int, copies: int) -> Layout | None:
    return Layout(shards, copies) if 1 <= shards <= MAX_SHARDS and 1 <= copies <= MAX_COPIES else None


def _image(spec: MemcachedClusterSpec, options: Options) -> str:
    proxy = spec.proxy
    block = proxy.twemproxy or proxy.mcrouter or proxy.builtin
    return (block and block.image) or options.image(proxy.kind)


@lru_cache(MAX_SPECS)
def _read_spec(stored: bytes, policy: ClusterPolicy) -> tuple[MemcachedClusterSpec | None, Json, str]:
    """The spec that counts, None where it cannot be read, its part for the pool, and all that is wrong with it."""
    judged = effective(msgspec.json.decode(stored), policy=policy)
    wrong = "; ".join(map(str, judged.errors))
    try:
        spec = MemcachedClusterSpec.model_validate(judged.spec)
    except ValidationError as error:
        told = "; ".join(f"spec.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return None, {}, wrong or told
    if spec.proxy.twemproxy is not None and spec.replicas_per_shard > 1:  # there is no such proxy to build
        return None, {}, wrong
    return spec, judged.spec.get("memcached") or {}, wrong
