"""One look: objects from the API server, and from each pod what its memcached or proxy says of itself.

memcached is asked through the API server's port forwarding, which reaches the pod's own loopback: a pool with TLS
answers there in plain text, on the port that its exporter asks, and no certificate is needed.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from memop.client import Client
from memop.clock import Clock, rfc3339
from memop.errors import ApiError, Forbidden, MemopError, NotFound, Unreachable
from memop.reconcilers.cluster import builtin
from memop.reconcilers.cluster.instance import CONFIG_HASH
from memop.reconcilers.cluster.labels import proxy_selector
from memop.reconcilers.cluster.topology import PORT_NAME
from memop.reconcilers.memcached.labels import selector
from memop.reconcilers.memcached.ports import CLIENT_PORT, LOOPBACK_PORT, TLS_PORT
from memop.reconcilers.objects import INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL
from memop.refs import CONFIG_MAPS, MEMCACHED_CLUSTERS, MEMCACHEDS, PODS, Key, Resource
from memop.status.report import (
    NOT_ALLOWED,
    Cluster,
    Counted,
    Pool,
    Proxy,
    Report,
    Server,
    Stats,
    copies,
    parse,
    since,
    total,
)

Json = dict[str, Any]

ROLE = "memop-status"  # the ClusterRole that grants all of this
ASKED_AT_ONCE = 16  # pods: each costs the API server and a kubelet a stream
POD_TIMEOUT = 5.0  # seconds for connecting and answering
_MCROUTER_CONFIG = "config.json"
_REFUSED = "connect: connection refused"


class Reader:
    """Looks at a namespace, or at all where it is empty; without `stats` no pod is asked anything.

    `pods` are to be asked in the look under way, and `begun` of them have been.
    """

    def __init__(self, client: Client, clock: Clock, namespace: str, *, stats: bool = True) -> None:
        self._client = client
        self._clock = clock
        self._namespace = namespace
        self._stats = stats
        self._slots = asyncio.Semaphore(ASKED_AT_ONCE)
        self._looked_at: float | None = None
        self._before: dict[str, Server] = {}  # by uid, as of the last look
        self._refused: set[str] = set()  # namespaces in which we may not ask pods
        self._problems: dict[str, None] = {}
        self.pods = self.begun = 0

    async def look(self) -> Report:
        """Raises: MemopError where the objects cannot be read; what else cannot is said in the report."""
        self.pods = self.begun = 0
        self._refused.clear()
        self._problems.clear()
        pools, clusters = await self._objects()
        pods = _Pods(await self._pods() if pools or clusters else [])
        looked_at = self._clock.monotonic()
        servers, proxies = await asyncio.gather(
            asyncio.gather(*(self._servers(pods.of(key_of(pool).namespace, selector(key_of(pool)))) for pool in pools)),
            asyncio.gather(*(self._proxies(key_of(cluster), pods) for cluster in clusters)),
        )
        seen = [_pool(*pair) for pair in zip(pools, servers, strict=True)]
        parts = copies(seen)
        report = Report(
            time=rfc3339(self._clock.now()),
            seconds=None if self._looked_at is None else looked_at - self._looked_at,
            pools=seen,
            clusters=[
                _cluster(cluster, parts.get(key_of(cluster), []), own)
                for cluster, own in zip(clusters, proxies, strict=True)
            ],
            problems=list(self._problems),
        )
        self._looked_at = looked_at
        self._before = {server.uid: server for pool in seen for server in pool.pods}
        return report

    # --- the API server

    async def _objects(self) -> tuple[list[Json], list[Json]]:
        """The Memcacheds and MemcachedClusters."""
        pools, clusters = [await self._list(resource) for resource in (MEMCACHEDS, MEMCACHED_CLUSTERS)]
        if pools is None and clusters is None:
            raise MemopError(
                f"the API server does not know {MEMCACHEDS.group}; install memop's definitions: "
                "memop crds | kubectl apply --server-side -f -"
            )
        return pools or [], clusters or []

    async def _pods(self) -> list[Json]:
        """All pods that memop has made."""
        try:
            return await self._list(PODS, f"{MANAGED_BY_LABEL}={MANAGED_BY}") or []
        except MissingRight as error:
            self._problems[str(error)] = None
            return []

    async def _list(self, resource: Resource, label_selector: str = "") -> list[Json] | None:
        try:
            return await list_all(self._client, resource, self._namespace, label_selector=label_selector)
        except Forbidden as error:
            raise MissingRight("list", str(resource), self._namespace) from error

    # --- pods

    async def _servers(self, pods: Sequence[Json]) -> list[Server]:
        return await asyncio.gather(*map(self._server, pods))

    async def _server(self, pod: Json) -> Server:
        server = Server(pod=key_of(pod).name, uid=pod["metadata"]["uid"], ready=_pod_ready(pod))
        if not self._stats:
            return server
        if _asks_for_password(pod):
            return msgspec.structs.replace(server, error="demands a password (SASL), which memop does not read")
        try:
            answer = await self._ask(pod, LOOPBACK_PORT if _has_tls(pod) else CLIENT_PORT, b"stats\r\n")
            stats, uptime = parse(answer)
        except ApiError as error:
            return msgspec.structs.replace(server, error=error.message)
        server = msgspec.structs.replace(server, stats=stats, uptime_seconds=uptime)
        return msgspec.structs.replace(server, since_last=since(self._before.get(server.uid), server))

    async def _proxies(self, cluster: Key, pods: "_Pods") -> list[Proxy]:
        config: Json = {}
        try:
            config = msgspec.json.decode(
                await self._client.get(CONFIG_MAPS, Key(cluster.namespace, f"{cluster.name}-proxy"))
            )
            error = ""
        except NotFound:
            error = "there is no ConfigMap yet"
        except Forbidden:
            error = NOT_ALLOWED
            self._problems[str(MissingRight("get", str(CONFIG_MAPS), cluster.namespace))] = None
        own = pods.of(cluster.namespace, proxy_selector(cluster))
        return await asyncio.gather(*(self._proxy(pod, config, error) for pod in own))

    async def _proxy(self, pod: Json, config: Json, error: str) -> Proxy:
        """Whether it has the configuration of the ConfigMap, by its own word; `error`: why there is none."""
        proxy = Proxy(pod=key_of(pod).name, ready=_pod_ready(pod), config="unknown", error=error)
        started_with = pod["metadata"].get("annotations", {}).get(CONFIG_HASH)
        if error or (started_with is None and not self._stats):
            return proxy
        try:
            if started_with is not None:  # a proxy that reads its file once
                current = started_with == config["metadata"].get("annotations", {}).get(CONFIG_HASH)
            else:
                current = await self._has_taken_in(pod, config.get("data", {}))
        except ApiError as failure:
            return msgspec.structs.replace(proxy, error=failure.message)
        return msgspec.structs.replace(proxy, config="current" if current else "older")

    async def _has_taken_in(self, pod: Json, files: Mapping[str, str]) -> bool:
        if _MCROUTER_CONFIG in files:
            wanted = hashlib.md5(files[_MCROUTER_CONFIG].encode(), usedforsecurity=False).hexdigest()
            question = b"get __mcrouter__.config_md5_digest\r\n"
        else:
            wanted = f"STAT user_config_{builtin.version(dict(files))} "
            question = b"stats proxy\r\n"
        return wanted.encode() in await self._ask(pod, _proxy_port(pod), question)

    async def _ask(self, pod: Json, port: int, question: bytes) -> bytes:
        """An answer that ends in END. Raises: ApiError, whose message says why there is none."""
        key, phase = key_of(pod), pod.get("status", {}).get("phase")
        self.pods += 1
        async with self._slots:
            self.begun += 1
            if phase != "Running":
                raise Unreachable(f"the pod is {phase}")
            if key.namespace in self._refused:
                raise Forbidden(NOT_ALLOWED)
            try:
                async with asyncio.timeout(POD_TIMEOUT), self._client.port_forward(key, port) as forwarded:
                    return await forwarded.ask(question, b"END\r\n")
            except TimeoutError as error:
                raise Unreachable(f"no answer within {POD_TIMEOUT:g} s") from error
            except Unreachable as error:
                if _REFUSED in error.message:  # the last words of a long story by the container runtime
                    raise Unreachable(f"nothing listens on port {port}") from error
                raise
            except Forbidden as error:
                self._refused.add(key.namespace)
                self._problems[str(MissingRight("get and create", "pods/portforward", key.namespace))] = None
                raise Forbidden(NOT_ALLOWED) from error


class MissingRight(MemopError):
    """What may not be done, and what grants it."""

    def __init__(self, verb: str, resource: str, namespace: str) -> None:
        where = f"in namespace {namespace}" if namespace else "in all namespaces (-n names one)"
        super().__init__(f"you may not {verb} {resource} {where}; the ClusterRole {ROLE} grants it")


async def list_all(
    client: Client, resource: Resource, namespace: str = "", *, label_selector: str = ""
) -> list[Json] | None:
    """All objects, in order of their names; None where the cluster does not serve the kind. Raises: ApiError."""
    found: list[Json] = []
    token = ""
    while True:
        try:
            page = await client.list(resource, namespace, label_selector=label_selector, continue_token=token)
        except NotFound:
            return None
        found += [msgspec.json.decode(item) for item in page.items]
        token = page.continue_token
        if not token:
            return sorted(found, key=key_of)


class _Pods:
    """Pods by namespace and by the labels that tell memop's workloads apart; in order of their names."""

    def __init__(self, pods: Sequence[Json]) -> None:
        self._groups: dict[tuple[str, str, str], list[Json]] = defaultdict(list)
        for pod in pods:
            self._groups[self._group(key_of(pod).namespace, pod["metadata"].get("labels", {}))].append(pod)

    def of(self, namespace: str, labels: Mapping[str, str]) -> list[Json]:
        return self._groups.get(self._group(namespace, labels), [])

    @staticmethod
    def _group(namespace: str, labels: Mapping[str, str]) -> tuple[str, str, str]:
        return namespace, labels.get(NAME_LABEL, ""), labels.get(INSTANCE_LABEL, "")


# --- what objects say


def _pool(pool: Json, servers: list[Server]) -> Pool:
    told = pool.get("status", {})
    return Pool(
        **state(pool),
        ready_pods=told.get("readyReplicas", 0),
        wanted_pods=pool["spec"].get("replicas", told.get("replicas", 0)),
        endpoint=",".join(told.get("serverList", ())),
        cluster=_cluster_of(pool),
        stats=total(Stats, (server.stats for server in servers)),
        since_last=total(Counted, (server.since_last for server in servers)),
        pods=servers,
    )


def _cluster(cluster: Json, pools: Sequence[Pool], proxies: list[Proxy]) -> Cluster:
    told = cluster.get("status", {})
    return Cluster(
        **state(cluster),
        ready_pods=sum(pool.ready_pods for pool in pools),
        wanted_pods=sum(pool.wanted_pods for pool in pools),
        endpoint=told.get("endpoint", ""),
        shards=told.get("shards", 0),
        replicas_per_shard=told.get("replicasPerShard", 0),
        config_hash=told.get("configHash", ""),
        stats=total(Stats, (pool.stats for pool in pools)),
        since_last=total(Counted, (pool.since_last for pool in pools)),
        proxies=proxies,
    )


def state(obj: Json) -> Json:
    """The fields of `State` that are read alike of all kinds."""
    key, told = key_of(obj), obj.get("status", {})
    conditions = {condition["type"]: condition for condition in told.get("conditions", ())}
    holding = [name for name, condition in conditions.items() if condition["status"] == "True"]
    ready = "Ready" in holding
    word, message = "Ready" if ready else "NotReady", ""
    if told.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        word, message = "Pending", "memop has not taken in the newest spec: does it run?"
    for name in ("Progressing", "Degraded", "Paused"):  # the last that holds says most
        if name in holding and word != "Pending":
            word, message = conditions[name]["reason"], conditions[name].get("message", "")
    return {"namespace": key.namespace, "name": key.name, "ready": ready, "state": word, "message": message}


def _cluster_of(pool: Json) -> str:
    """The `MemcachedCluster` that controls it, or ""."""
    kind = (MEMCACHED_CLUSTERS.api_version, MEMCACHED_CLUSTERS.kind)
    owners = (owner for owner in pool["metadata"].get("ownerReferences", ()) if owner.get("controller"))
    return next((owner["name"] for owner in owners if (owner["apiVersion"], owner["kind"]) == kind), "")


def _pod_ready(pod: Json) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    conditions = pod.get("status", {}).get("conditions", ())
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)


def _container(pod: Json, name: str) -> Json:
    return next((container for container in pod["spec"]["containers"] if container["name"] == name), {})


def _has_tls(pod: Json) -> bool:
    return any(port["containerPort"] == TLS_PORT for port in _container(pod, "memcached").get("ports", ()))


def _asks_for_password(pod: Json) -> bool:
    return "-Y" in _container(pod, "memcached").get("args", ())


def _proxy_port(pod: Json) -> int:
    """On which the proxy listens."""
    ports = (port for container in pod["spec"]["containers"] for port in container.get("ports", ()))
    return next(int(port["containerPort"]) for port in ports if port.get("name") == PORT_NAME)


def key_of(obj: Json) -> Key:
    return Key(obj["metadata"].get("namespace", ""), obj["metadata"]["name"])
