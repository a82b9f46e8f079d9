"""Whatever is asked for and however slowly the cluster follows: no proxy asks a server that is not there.

A simulation. memop is `observe`, `children` and `status`; the cluster behind it does as the API server, kubelets, the
Deployment controller and the pools' own reconciler do, one thing at a time and as late as they may.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memop.api.memcached_cluster import ProxyKind
from memop.clock import rfc3339
from memop.informers.store import StoreReader
from memop.reconcilers.cluster import builtin
from memop.reconcilers.cluster.children import BEFORE, KINDS, OPTIONAL_KINDS, children
from memop.reconcilers.cluster.config import LAYOUT, PROXIES, SINCE, topology
from memop.reconcilers.cluster.instance import CONFIG_HASH, Instance, pool_name
from memop.reconcilers.cluster.observe import RELOAD_SECONDS, Observed, observe
from memop.reconcilers.cluster.reconciler import careful
from memop.reconcilers.cluster.status import status as told_of
from memop.reconcilers.objects import Live, decoder
from memop.refs import CONFIG_MAPS, DEPLOYMENTS, MEMCACHEDS, Key, Resource
from tests.unit.reconcilers.cluster.instances import KEY, OPTIONS, cluster, live
from tests.unit.virtual_time import EPOCH

Json = dict[str, Any]
Servers = frozenset[str]  # host names
Step = tuple[Any, ...]

PROXY = f"{KEY.name}-proxy"
COMMANDS: dict[str, ProxyKind] = {"memcached": "builtin", "nutcracker": "twemproxy", "mcrouter": "mcrouter"}

GRACE = {kind: timedelta(seconds=module.GRACE_SECONDS) for kind, module in PROXIES.items()}

_decode = decoder("memop-cluster")
_decode_cluster = decoder("memop-cluster", subresource="status")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """The sum over the built-in proxy's library would take most of the time here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtin, "_sum", lru_cache(builtin._sum))
        yield


def host(copy: int, shard: int) -> str:
    return f"{KEY.name}-r{copy}-{shard}.{KEY.namespace}.svc.cluster.local"


@dataclass
class Object:
    """An object as the API server keeps it."""

    body: Json
    uid: str
    generation: int = 1
    status: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """What a ConfigMap said from some moment on."""

    since: datetime
    kind: ProxyKind
    servers: Servers


@dataclass
class Proxy:
    """A proxy's pod."""

    template: Json
    kind: ProxyKind
    born: datetime
    config: Config
    ready: bool = False


class Cluster:
    """A Kubernetes cluster with one MemcachedCluster in it, and memop, that passes over it when it is told to."""

    def __init__(self, spec: Json) -> None:
        self.now = EPOCH
        self.spec, self.generation = spec, 1
        self.status: Json = {}
        self.objects: dict[tuple[str, str], Object] = {}
        self.made = 0  # objects, ever
        self.configs: list[Config] = []
        self.servers: dict[int, dict[int, bool]] = {}  # copy -> shard -> ready
        self.tried: set[str] = set()  # servers that are there and were ready at some time
        self.proxies: list[Proxy] = []
        self.leaving: list[tuple[Proxy, datetime]] = []  # and since when
        self.rolled = EPOCH  # when the Deployment last came further

    # --- memop

    def observe(self) -> Observed:
        cr = cluster(self.spec, generation=self.generation, status=self.status)
        found = observe(
            KEY,
            clusters=_reader({KEY: _decode_cluster(cr)}),
            children={kind: self._reader(kind) for kind in (*KINDS, *OPTIONAL_KINDS)},
            pool_workloads=self._stateful_sets(),
            options=OPTIONS,
            now=rfc3339(self.now),
        )
        assert found is not None
        return found

    def _reader(self, resource: Resource) -> StoreReader[Live]:
        found = {
            Key(KEY.namespace, name): _decode(
                live(thing.body, generation=thing.generation, status=thing.status, uid=thing.uid)
            )
            for (kind, name), thing in self.objects.items()
            if kind == resource.kind
        }
        return _reader(found)

    def _stateful_sets(self) -> StoreReader[Live]:
        """Those of the pools, which are as far as the pools tell."""
        found = {}
        for (kind, name), pool in self.objects.items():
            if kind == MEMCACHEDS.kind:
                body = {"kind": "StatefulSet", "metadata": {"name": name, "namespace": KEY.namespace}}
                body["spec"] = {"template": {"metadata": {}}}
                status = {**pool.status, "updatedReplicas": pool.status.get("replicas", 0)}
                found[Key(KEY.namespace, name)] = _decode(live(body, generation=pool.generation, status=status))
        return _reader(found)

    def reconcile(self, applied: int | None = None, refused: str = "") -> int:
        """One pass; the number of writes.

        It ends early, as memop does when it is killed, after `applied` children, or goes on without the kind `refused`.
        """
        observed = self.observe()
        assert observed.instance is not None
        wanted = children(observed.instance)
        care = careful(observed)
        keep, writes = set(care.get("keep", ())), 0
        for body in wanted[:applied]:
            name = body["metadata"]["name"]
            if body["kind"] in (refused, BEFORE.get(refused)) or name in keep:
                continue
            changed = self.apply(body, observed.instance)
            writes += changed
            if changed and name in care.get("in_turn", ()):
                keep.update(care["in_turn"])
        if applied is not None:
            return writes
        names = {(body["kind"], body["metadata"]["name"]) for body in wanted}
        for kind, name in sorted(self.objects.keys() - names):
            writes += 1
            self.delete(kind, name)
        self.status = told_of(self.observe(), [], unserved={}, now=rfc3339(self.now))
        return writes

    # --- the API server, and what follows at once

    def apply(self, body: Json, instance: Instance) -> bool:
        kind, name = body["kind"], body["metadata"]["name"]
        before = self.objects.get((kind, name))
        if before is not None and before.body == body:
            return False
        if before is None:
            self.made += 1
            self.objects[kind, name] = Object(body, f"uid-{self.made}")
        else:
            changed = before.body.get("spec") != body.get("spec")
            self.objects[kind, name] = Object(body, before.uid, before.generation + changed, before.status)
        if kind == MEMCACHEDS.kind:
            self.resize(int(name.removeprefix(f"{KEY.name}-r")), body, before)
        elif kind == CONFIG_MAPS.kind:
            self.configure(instance, body)
        return True

    def delete(self, kind: str, name: str) -> None:
        del self.objects[kind, name]
        if kind == MEMCACHEDS.kind:
            self.take_away(int(name.removeprefix(f"{KEY.name}-r")), 0)
        elif kind == DEPLOYMENTS.kind:
            self.proxies.clear()

    def resize(self, copy: int, body: Json, before: Object | None) -> None:
        """Servers that are too many go at once; new ones, and all of a new image, have yet to be ready."""
        wanted = body["spec"]["replicas"]
        if before is not None and before.body["spec"].get("image") != body["spec"].get("image"):
            self.servers[copy] = dict.fromkeys(self.servers[copy], False)
        self.take_away(copy, wanted)
        servers = self.servers.setdefault(copy, {})
        servers.update({shard: False for shard in range(wanted) if shard not in servers})

    def take_away(self, copy: int, left: int) -> None:
        servers = self.servers.get(copy, {})
        gone = {host(copy, shard) for shard in servers if shard >= left}
        asked = self.asked() & gone
        assert not asked, f"proxies may still ask {sorted(asked)}"
        self.tried -= gone
        self.servers[copy] = {shard: ready for shard, ready in servers.items() if shard < left}
        if not left:
            del self.servers[copy]

    def configure(self, instance: Instance, body: Json) -> None:
        seats = topology(instance).copies
        assert seats == tuple(
            tuple(host(copy, shard) for shard in range(instance.layout.shards))
            for copy in range(instance.layout.copies)
        )
        servers = frozenset(name for copy in seats for name in copy)
        if self.configs:
            new = servers - self.configs[-1].servers - self.tried
            assert not new, f"{sorted(new)} never were ready"
        self.configs.append(Config(self.now, instance.spec.proxy.kind, servers))

    # --- what proxies know

    def asked(self) -> Servers:
        """The servers that some proxy may ask now."""
        there = [proxy for proxy, since in self.leaving if self.now < since + GRACE[proxy.kind]]
        return frozenset().union(*(config.servers for proxy in (*self.proxies, *there) for config in self.known(proxy)))

    def known(self, proxy: Proxy) -> Iterable[Config]:
        """The configs one of which the proxy has: kubelets take their time, and only files of its own kind matter."""
        if not PROXIES[proxy.kind].RELOADS:
            return [proxy.config]
        own = [config for config in self.configs if config.kind == proxy.kind]
        late = self.now - timedelta(seconds=RELOAD_SECONDS)
        arrived = [config for config in own if config.since <= max(late, proxy.born)]
        return [*arrived[-1:], *(config for config in own if config.since > max(late, proxy.born))]

    # --- what happens by and by

    def happen(self, step: Step) -> None:
        """One of the methods here, with what it takes."""
        getattr(self, step[0])(*step[1:])

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def fail(self, copy: int, shard: int) -> None:
        if shard in self.servers.get(copy, {}):
            self.servers[copy][shard] = False

    def lose(self, kind: str) -> None:
        """Somebody deletes one of the proxies' objects."""
        if (kind, PROXY) in self.objects:
            self.delete(kind, PROXY)

    def change(self, change: Json) -> None:
        self.spec = change
        self.generation += 1

    def tamper(self, annotation: str, value: str) -> None:
        """Somebody spoils what memop has noted on the ConfigMap."""
        config = self.objects.get((CONFIG_MAPS.kind, PROXY))
        if config is not None:
            metadata = config.body["metadata"]
            annotations = {**metadata["annotations"], annotation: value}
            config.body = {**config.body, "metadata": {**metadata, "annotations": annotations}}

    def make_ready(self, copy: int) -> bool:
        """One server more of that copy."""
        servers = self.servers.get(copy, {})
        waiting = sorted(shard for shard, ready in servers.items() if not ready)
        if waiting:
            servers[waiting[0]] = True
            self.tried.add(host(copy, waiting[0]))
        return bool(waiting)

    def tell_of_pool(self, copy: int) -> None:
        pool = self.objects.get((MEMCACHEDS.kind, pool_name(KEY.name, copy)))
        if pool is not None:
            ready = sum(self.servers[copy].values())
            pool.status = {
                "observedGeneration": pool.generation,
                "replicas": len(self.servers[copy]),
                "readyReplicas": ready,
            }

    def roll(self) -> bool:
        """The Deployment controller does one thing: surge 1, nothing unavailable."""
        deployment = self.objects.get((DEPLOYMENTS.kind, PROXY))
        if deployment is None:
            return False
        template, wanted = deployment.body["spec"]["template"], deployment.body["spec"]["replicas"]
        kind = COMMANDS[template["spec"]["containers"][0]["command"][0]]
        old = [proxy for proxy in self.proxies if proxy.template != template]
        waiting = [proxy for proxy in self.proxies if proxy not in old and not proxy.ready]
        mounted = (CONFIG_MAPS.kind, PROXY) in self.objects and self.configs[-1].kind == kind
        if waiting:
            waiting[0].ready = True
        elif len(self.proxies) - len(old) < wanted and len(self.proxies) <= wanted and mounted:
            self.proxies.append(Proxy(template, kind, self.now, self.configs[-1]))
        elif len(self.proxies) > wanted or (wanted == 0 and self.proxies):
            leaves = (old or self.proxies)[0]
            self.proxies.remove(leaves)
            self.leaving.append((leaves, self.now))
        else:
            return False
        self.rolled = self.now
        return True

    def tell_of_proxies(self) -> None:
        deployment = self.objects.get((DEPLOYMENTS.kind, PROXY))
        if deployment is not None:
            template = deployment.body["spec"]["template"]
            deployment.status = {
                "observedGeneration": deployment.generation,
                "replicas": len(self.proxies),
                "updatedReplicas": sum(proxy.template == template for proxy in self.proxies),
                "readyReplicas": sum(proxy.ready for proxy in self.proxies),
                "conditions": [{"type": "Progressing", "status": "True", "lastUpdateTime": rfc3339(self.rolled)}],
            }

    def progress(self) -> None:
        """Everything that can be done is, and is told."""
        for copy in self.servers:
            while self.make_ready(copy):
                pass
            self.tell_of_pool(copy)
        while self.roll():
            pass
        self.tell_of_proxies()

    def settle(self) -> None:
        """All that is ever needed is granted, until memop has nothing left to write or to wait for."""
        quiet = 0
        for _ in range(60):
            self.progress()
            wrote = self.reconcile()
            quiet = 0 if wrote else quiet + 1
            if quiet == 3:
                return
            if not wrote:
                self.now += timedelta(seconds=RELOAD_SECONDS)
        pytest.fail("it never ends")

    def bodies(self) -> dict[tuple[str, str], Json]:
        """All objects as they were applied, but for the time of the last change."""
        found = {}
        for name, thing in self.objects.items():
            metadata = thing.body["metadata"]
            if SINCE in metadata.get("annotations", {}):
                kept = {key: value for key, value in metadata["annotations"].items() if key != SINCE}
                metadata = {**metadata, "annotations": kept}
            found[name] = {**thing.body, "metadata": metadata}
        return found


def _reader(objects: dict[Key, Live]) -> StoreReader[Live]:
    return StoreReader(objects, {}, lambda _: 0)


def spec(shards: int, copies: int = 1, kind: str = "builtin", image: str = "memcached:1.6", proxies: int = 2) -> Json:
    return {
        "shards": shards,
        "replicasPerShard": 1 if kind == "twemproxy" else copies,
        "memcached": {"image": image},
        "proxy": {"replicas": proxies, kind: {}},
    }


def fresh(wanted: Json) -> dict[tuple[str, str], Json]:
    """What a new cluster of that spec consists of."""
    new = Cluster(wanted)
    new.reconcile()
    return new.bodies()


kinds = st.sampled_from(("builtin", "twemproxy", "mcrouter"))
images = st.sampled_from(("memcached:1.6", "memcached:1.7"))
specs = st.builds(spec, st.integers(1, 6), st.integers(1, 3), kinds, images, st.sampled_from((2, 2, 2, 1, 0)))
copies = st.integers(0, 2)
events = st.one_of(
    st.tuples(st.just("change"), specs),
    st.tuples(st.just("change"), specs),
    st.tuples(st.just("progress")),
    st.tuples(st.just("progress")),
    st.tuples(st.just("make_ready"), copies),
    st.tuples(st.just("fail"), copies, st.integers(0, 5)),
    st.tuples(st.just("tell_of_pool"), copies),
    st.tuples(st.just("roll")),
    st.tuples(st.just("tell_of_proxies")),
    st.tuples(st.just("wait"), st.sampled_from((1, 60, 119, 120, 300))),
    st.tuples(st.just("reconcile"), st.integers(0, 6)),
    st.tuples(st.just("reconcile"), st.none(), st.sampled_from(("Memcached", "ConfigMap", "Deployment"))),
    st.tuples(st.just("lose"), st.sampled_from(("ConfigMap", "Deployment"))),
    st.tuples(
        st.just("tamper"),
        st.sampled_from((SINCE, LAYOUT, CONFIG_HASH)),
        st.sampled_from(("yesterday", "2026-01-01", "2099-01-01T00:00:00Z", "0x0", "999x9")),
    ),
)
# memop comes by after most of what happens, but not after all.
steps = st.lists(st.tuples(events, st.booleans()), min_size=5, max_size=40)
PASS: Step = ("reconcile",)


@settings(max_examples=60, deadline=None)
@given(first=specs, steps=steps)
def test_no_proxy_asks_a_server_that_is_not_there_and_all_ways_end_alike(
    first: Json, steps: list[tuple[Step, bool]]
) -> None:
    world = Cluster(first)
    for step, seen in steps:
        world.happen(step)
        if seen:
            world.happen(PASS)
    world.settle()
    assert world.bodies() == fresh(world.spec)
    assert world.reconcile() == 0


def grown(wanted: Json) -> Cluster:
    """A cluster of that spec in which all is done."""
    world = Cluster(wanted)
    world.reconcile()
    world.settle()
    return world


def servers(world: Cluster) -> dict[int, int]:
    return {copy: len(shards) for copy, shards in world.servers.items()}


def test_what_grows_is_told_to_the_proxies_when_all_of_it_is_ready() -> None:
    world = grown(spec(2))
    world.change(spec(3, 2))
    world.reconcile()
    assert servers(world) == {0: 3, 1: 3}
    named = [world.configs[-1].servers]
    for copy in (0, 1):
        world.make_ready(copy)
        world.tell_of_pool(copy)
        world.reconcile()
        named.append(world.configs[-1].servers)
    while world.make_ready(1):
        world.tell_of_pool(1)
    world.reconcile()
    named.append(world.configs[-1].servers)
    assert [len(names) for names in named] == [2, 3, 3, 6]


def test_what_shrinks_stays_until_kubelets_have_brought_the_config() -> None:
    world = grown(spec(3, 2))
    world.change(spec(2, 1))
    world.reconcile()
    assert len(world.configs[-1].servers) == 2
    world.progress()
    world.now += timedelta(seconds=RELOAD_SECONDS - 1)
    world.reconcile()
    assert servers(world) == {0: 3, 1: 3}
    assert world.observe().reload_due == 1
    world.now += timedelta(seconds=1)
    world.reconcile()
    assert servers(world) == {0: 2}


def test_what_shrinks_stays_until_every_proxy_that_does_not_reload_is_replaced() -> None:
    world = grown(spec(3, kind="twemproxy"))
    world.change(spec(2, kind="twemproxy"))
    world.reconcile()
    rolled = 0
    while world.roll():
        world.now += timedelta(seconds=1)
        world.tell_of_proxies()
        rolled += 1
        if world.asked() != world.configs[-1].servers:
            world.reconcile()
            assert servers(world) == {0: 3}
    world.reconcile()
    assert (rolled, servers(world)) == (6, {0: 3})
    world.now += GRACE["twemproxy"]
    world.reconcile()
    assert servers(world) == {0: 2}


def test_a_config_map_that_goes_while_shards_are_made_names_them_no_earlier() -> None:
    world = grown(spec(2, 1))
    world.change(spec(3, 2))
    world.reconcile()
    world.delete("ConfigMap", PROXY)
    world.reconcile()
    assert len(world.configs[-1].servers) == 2


def test_a_config_map_that_goes_while_servers_leave_takes_them_no_earlier() -> None:
    world = grown(spec(3))
    world.change(spec(2))
    world.reconcile()
    world.delete("ConfigMap", PROXY)
    world.progress()
    for _ in range(2):
        world.reconcile()
    assert servers(world) == {0: 3}
    world.now += timedelta(seconds=RELOAD_SECONDS)
    world.reconcile()
    assert servers(world) == {0: 2}


@pytest.mark.parametrize(
    ("kind", "other"), [("twemproxy", "builtin"), ("builtin", "mcrouter"), ("mcrouter", "builtin")]
)
def test_while_another_kind_of_proxy_is_refused_the_old_ones_keep_their_servers(kind: str, other: str) -> None:
    world = grown(spec(3, kind=kind))
    world.change(spec(2, kind=other))
    for _ in range(3):
        world.reconcile(refused="Deployment")
        world.progress()
        world.now += timedelta(seconds=RELOAD_SECONDS)
    assert servers(world) == {0: 3}
    world.settle()
    assert world.bodies() == fresh(world.spec)


@pytest.mark.parametrize("spoilt", ["yesterday", "2026-01-01T00:00:00", "2099-01-01T00:00:00Z"])
def test_a_time_that_somebody_has_spoilt_begins_anew(spoilt: str) -> None:
    world = grown(spec(3))
    world.change(spec(2))
    world.reconcile()
    world.progress()
    world.tamper(SINCE, spoilt)
    world.reconcile()
    assert servers(world) == {0: 3}
    world.now += timedelta(seconds=RELOAD_SECONDS)
    world.reconcile()
    assert servers(world) == {0: 2}


@pytest.mark.parametrize("spoilt", ["", "3", "0x0", "999x9", "axb", "2x2x2"])
def test_a_layout_that_somebody_has_spoilt_is_the_one_that_the_status_tells(spoilt: str) -> None:
    world = grown(spec(2))
    world.tamper(LAYOUT, spoilt)
    world.change(spec(3))
    world.reconcile()
    assert len(world.configs[-1].servers) == 2
    world.settle()
    assert world.bodies() == fresh(world.spec)


def test_shrinking_and_growing_again_at_once_makes_no_server_anew() -> None:
    world = grown(spec(3, 2))
    made = world.made
    world.change(spec(2, 1))
    world.reconcile()
    world.change(spec(3, 2))
    world.reconcile()
    assert len(world.configs[-1].servers) == 6
    world.settle()
    assert (world.made, servers(world)) == (made, {0: 3, 1: 3})


def test_without_proxies_servers_go_as_soon_as_no_proxy_is_left() -> None:
    world = grown(spec(3, kind="twemproxy"))
    world.change(spec(2, kind="twemproxy", proxies=0))
    world.reconcile()
    assert servers(world) == {0: 3}
    world.progress()
    world.now += GRACE["twemproxy"]
    world.reconcile()
    assert (servers(world), world.proxies) == ({0: 2}, [])


def test_time_passes_only_once_for_a_config_that_stays() -> None:
    """What else changes does not note the time again."""
    world = grown(spec(3))
    world.change(spec(2))
    world.reconcile()
    world.progress()
    world.now += timedelta(seconds=RELOAD_SECONDS / 2)
    world.change(spec(2, image="memcached:1.7"))
    world.reconcile()
    world.progress()
    assert world.observe().reload_due == RELOAD_SECONDS / 2
