"""What `memop status` knows: its JSON, camel case. Sums over pods, and what was counted between two looks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar

import msgspec

from memop.errors import BadResponse
from memop.refs import Key

NOT_ALLOWED = "not allowed"  # an `error` that `problems` explain
# Each is one key read, written or removed; `gat` counts as a read and as a touch.
_REQUESTS = (
    "cmd_get",
    "cmd_set",
    "cmd_touch",
    *(f"{command}_{result}" for command in ("delete", "incr", "decr") for result in ("hits", "misses")),
)


class Counted(msgspec.Struct, frozen=True, rename="camel"):
    """Keys: asked for at all, found, not found, evicted before their time."""

    requests: int
    hits: int
    misses: int
    evictions: int

    @property
    def hit_ratio(self) -> float | None:
        """None where nothing was read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else None


C = TypeVar("C", bound=Counted)


class Stats(Counted, frozen=True, rename="camel"):
    """What memcached counted since it started, and what it holds now; of one server or the sum of several.

    `used_bytes` are the items', of `limit_bytes` (-m).
    """

    items: int
    used_bytes: int
    limit_bytes: int
    connections: int


class Server(msgspec.Struct, frozen=True, rename="camel"):
    """A pod with memcached. Without an answer to `stats`, `stats` is None and `error` says why ("": not asked).

    `since_last` is None in the first look, and for a server that has started since.
    """

    pod: str
    uid: str
    ready: bool
    uptime_seconds: int = 0
    stats: Stats | None = None
    since_last: Counted | None = None
    error: str = ""


class Proxy(msgspec.Struct, frozen=True, rename="camel"):
    """A pod with a proxy, and whether it has the configuration of the ConfigMap; `error` says why that is unknown."""

    pod: str
    ready: bool
    config: Literal["current", "older", "unknown"]
    error: str = ""


class State(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What an object says of itself. `state`: Ready, or what keeps it (a condition's type or reason; `message`)."""

    namespace: str
    name: str
    ready: bool
    state: str
    message: str
    ready_pods: int
    wanted_pods: int
    endpoint: str

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


class Pool(State, frozen=True, rename="camel", kw_only=True):
    """A `Memcached`; `cluster`: the `MemcachedCluster` that it is a copy of, or "". `stats`: of pods that answer."""

    cluster: str
    stats: Stats | None
    since_last: Counted | None
    pods: list[Server]


class Cluster(State, frozen=True, rename="camel", kw_only=True):
    """A `MemcachedCluster`: `ready_pods` and `stats` are those of all copies."""

    shards: int
    replicas_per_shard: int
    config_hash: str
    stats: Stats | None
    since_last: Counted | None
    proxies: list[Proxy]


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """One look. `seconds` have passed since the last one, None in the first; `problems` say what could not be read."""

    time: str
    seconds: float | None
    pools: list[Pool]
    clusters: list[Cluster]
    problems: list[str]

    @property
    def ready(self) -> bool:
        return all(item.ready for item in (*self.pools, *self.clusters))


def copies(pools: Iterable[Pool]) -> Mapping[Key, list[Pool]]:
    """The pools of each cluster."""
    found = defaultdict[Key, list[Pool]](list)
    for pool in pools:
        if pool.cluster:
            found[Key(pool.namespace, pool.cluster)].append(pool)
    return found


def parse(answer: bytes) -> tuple[Stats, int]:
    """memcached's answer to `stats`, and the seconds since it started. Raises: BadResponse."""
    lines = (line.split(" ", 2) for line in answer.decode(errors="replace").split("\r\n"))
    told = {line[1]: line[2] for line in lines if len(line) == 3 and line[0] == "STAT"}
    try:
        return _stats({name: int(value) for name, value in told.items() if value.isdigit()})
    except KeyError as error:
        raise BadResponse(f"the answer to stats has no {error}: {answer[:60]!r}") from error


def _stats(told: Mapping[str, int]) -> tuple[Stats, int]:
    stats = Stats(
        requests=sum(told.get(name, 0) for name in _REQUESTS),
        hits=told["get_hits"],
        misses=told["get_misses"],
        evictions=told["evictions"],
        items=told["curr_items"],
        used_bytes=told["bytes"],
        limit_bytes=told["limit_maxbytes"],
        connections=told["curr_connections"],
    )
    return stats, told["uptime"]


def total(kind: type[C], parts: Iterable[C | None]) -> C | None:
    """The sum of what there is; None where there is nothing."""
    known = [part for part in parts if part is not None]
    names = kind.__struct_fields__
    return kind(**{name: sum(getattr(part, name) for part in known) for name in names}) if known else None


def since(before: Server | None, now: Server) -> Counted | None:
    """What the server counted between two looks; None where it is another one, or was restarted or reset."""
    if before is None or before.stats is None or now.stats is None:
        return None
    if before.uid != now.uid or now.uptime_seconds < before.uptime_seconds:
        return None
    counted = {name: getattr(now.stats, name) - getattr(before.stats, name) for name in Counted.__struct_fields__}
    return None if min(counted.values()) < 0 else Counted(**counted)
