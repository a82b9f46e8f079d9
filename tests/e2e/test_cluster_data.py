"""Clusters behind each proxy, by their keys: where these lie, and what losses and changes do to them under load."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest
from pymemcache.client.base import Client as Pymemcache

from tests.dataplane.client import Client
from tests.support.cluster_load import ALL, READS_AND_WRITES, Load, by_reply
from tests.support.clusters import (
    PATIENCE,
    PROXIES,
    RELOADING,
    RESTRICTED,
    Cluster,
    memcached_cluster,
)
from tests.support.keys import Seats, ask, fetch, held, lifetimes, seats, store, stored
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import Operator

log = logging.getLogger(__name__)  # figures: pytest --log-cli-level=info

KEYS = 10_000
SHAPES = {"wide": (5, 1), "deep": (1, 3), "both": (3, 2)}
# Keys differ from their even share by this much at most: the proxies hash differently.
SPREAD = {"builtin": 0.1, "twemproxy": 0.3, "mcrouter": 0.1}

Clusters = dict[tuple[str, str], Cluster]  # by kind and shape
Loads = dict[str, Load]  # by kind

every_proxy = pytest.mark.parametrize("kind", PROXIES)
proxies_with_copies = pytest.mark.parametrize("kind", RELOADING)
every_shape = pytest.mark.parametrize(
    ("kind", "shape"), [(kind, shape) for kind in PROXIES for shape in SHAPES if shape == "wide" or kind in RELOADING]
)


@pytest.fixture(scope="module", autouse=True)
def operator(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """memop for all tests here and all namespaces."""
    with Operator(tmp_path_factory.mktemp("memop") / "memop.log") as running:
        yield running


@pytest.fixture(scope="module")
def clusters(operator: Operator) -> Iterator[Clusters]:
    """One of each shape for each proxy that can, and one to shrink; Pod Security demands all that it can of them."""
    kubectl = Kubectl(f"t-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, RESTRICTED)
    found = {
        (kind, shape): Cluster(kubectl, f"{shape}-{kind}")
        for kind in PROXIES
        for shape in (*SHAPES, "less")
        if kind in RELOADING or shape in ("wide", "less")
    }
    for (kind, shape), cluster in found.items():
        shards, copies = SHAPES.get(shape, (2, 2 if kind in RELOADING else 1))
        if shape == "both":
            copies = 1  # the second is for a test to add
        kubectl.apply(memcached_cluster(cluster.name, kind, shards=shards, replicasPerShard=copies))
    yield found
    kubectl("delete", "mcc", "--all", "--wait=false")
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def of_shape(clusters: Clusters, kind: str, shape: str) -> Cluster:
    """One that has the shape, whatever tests before this one made of it."""
    cluster = clusters[kind, shape]
    shards, copies = SHAPES[shape]
    cluster.become(shards=shards, replicasPerShard=copies)
    return cluster


def test_the_tests_here_are_of_both_proxies_that_need_no_other_image() -> None:
    assert {"builtin", "twemproxy"} <= {*PROXIES}
    assert "builtin" in RELOADING


# --- sizes


@pytest.fixture(scope="module")
def shrunk(clusters: Clusters) -> Loads:
    """What clients met when there were a shard and a copy less, or a shard where there are no copies, by kind."""
    found = {}
    for kind in PROXIES:
        cluster = clusters[kind, "less"]
        cluster.in_use()
        shards, copies = cluster.shape()
        with Load(cluster) as load:
            cluster.become(shards=1, replicasPerShard=1)
            if kind in RELOADING:  # how long kubelets take is not known: they get all the time that they could need
                assert len(pool_pods(cluster)) == shards * copies
            load.well()
        found[kind] = load
        log.info("%s: %s when %dx%d became 1x1", kind, by_reply(load.failures), shards, copies)
    return found


@every_proxy
def test_proxies_are_told_of_less_shards_and_copies_before_these_go(shrunk: Loads, kind: str) -> None:
    """Misses are the price of a shard less."""
    load = shrunk[kind]
    assert (load.errors if kind in RELOADING else load.lost) == []
    assert load.failures
    assert {failure.reply for failure in load.failures if failure.miss} == {"END\r\n"}


@proxies_with_copies
def test_a_second_copy_moves_no_key_and_fails_no_request(clusters: Clusters, kind: str) -> None:
    cluster = clusters[kind, "both"]
    cluster.become(shards=3, replicasPerShard=1)
    values = numbered("second", KEYS)
    with cluster.client() as client:
        store(client, values)
    before = seats(cluster.servers(), values)
    with Load(cluster) as load:
        cluster.become(replicasPerShard=2)
        load.well()
        with cluster.client() as client:
            assert fetch(client, values) == values
    assert load.failures == []
    assert seats(cluster.servers()[:1], values) == before
    with cluster.client() as client:
        store(client, values)
    eventually(lambda: assert_seats(cluster, values, before))


# --- commands


def numbered(name: str, count: int) -> dict[str, str]:
    return {f"{number}:{name}": str(number) for number in range(count)}


def assert_seats(cluster: Cluster, values: dict[str, str], expected: Seats) -> None:
    assert seats(cluster.servers(), values) == expected


@every_shape
def test_every_command_reaches_the_one_shard_of_its_key_in_every_copy(
    clusters: Clusters, kind: str, shape: str
) -> None:
    cluster = of_shape(clusters, kind, shape)
    servers, copies = cluster.servers(), SHAPES[shape][1]
    values = numbered(f"{kind}-{shape}", KEYS)
    keys = list(values)
    even = {key: value for number, (key, value) in enumerate(values.items()) if number % 2 == 0}
    odd = {key: value for key, value in values.items() if key not in even}
    before = stored(servers)
    with cluster.client() as client:

        def all_say(reply: str, *requests: str) -> None:
            assert set(ask(client, [request.replace("KEY", key) for request in requests for key in keys])) == {reply}

        def lie_in(seat: Seats) -> None:
            eventually(lambda: assert_seats(cluster, values, seat), timeout=10)

        store(client, even)
        store(client, odd, "add")
        all_say("NOT_STORED\r\n", "add KEY 0 0 1\r\nx\r\n")
        seat = eventually(lambda: seats(servers, values), timeout=10)
        for shard in range(len(servers[0])):
            share = KEYS / len(servers[0])
            assert list(seat.values()).count(shard) == pytest.approx(share, rel=SPREAD[kind]), shard
        assert fetch(client, keys) == values
        assert multiget(client, keys) == values

        all_say("STORED\r\n", "replace KEY 0 0 1\r\n-\r\n", "append KEY 0 0 2\r\n-z\r\n", "prepend KEY 0 0 2\r\na-\r\n")
        values = dict.fromkeys(keys, "a---z")
        lie_in(seat)
        if kind == "mcrouter" and copies > 1:
            all_say("SERVER_ERROR cas needs one copy of every shard\r\n", "cas KEY 0 0 1 1\r\nx\r\n")
        else:
            ids = [reply.split()[4] for reply in ask(client, [f"gets {key}\r\n" for key in keys])]
            for expected in ("STORED\r\n", "EXISTS\r\n"):
                requests = [f"cas {key} 0 0 2 {unique}\r\n10\r\n" for key, unique in zip(keys, ids, strict=True)]
                assert set(ask(client, requests)) == {expected}
        store(client, dict.fromkeys(keys, "10"))
        all_say("15\r\n", "incr KEY 5\r\n")
        all_say("12\r\n", "decr KEY 3\r\n")
        values = dict.fromkeys(keys, "12")
        lie_in(seat)

        all_say("TOUCHED\r\n", "touch KEY 1000\r\n")
        eventually(lambda: assert_touched(servers, seat), timeout=10)

        assert set(ask(client, [f"delete {key}\r\n" for key in odd])) == {"DELETED\r\n"}
        assert set(ask(client, [f"delete {key}\r\n" for key in odd])) == {"NOT_FOUND\r\n"}
        assert fetch(client, keys) == dict.fromkeys(even, "12")
        values = dict.fromkeys(even, "12")
        lie_in({key: seat[key] for key in even})
        assert set(ask(client, [f"delete {key}\r\n" for key in even])) == {"DELETED\r\n"}
    # Nothing is left, under whatever name.
    eventually(lambda: assert_stored(servers, before), timeout=10)


def multiget(client: Client, keys: list[str]) -> dict[str, str]:
    """As `fetch`, a hundred keys to a request: of many shards, that is."""
    found: dict[str, str] = {}
    for reply in ask(client, [f"get {' '.join(keys[start : start + 100])}\r\n" for start in range(0, len(keys), 100)]):
        lines = reply.split("\r\n")
        found.update(zip([head.split()[1] for head in lines[0:-2:2]], lines[1:-2:2], strict=True))
    return found


def assert_touched(servers: list[list[str]], seat: Seats) -> None:
    for copy in servers:
        for shard, address in enumerate(copy):
            left = lifetimes(address, seat)
            assert left.keys() == {key for key in seat if seat[key] == shard}
            assert all(900 < seconds <= 1000 for seconds in left.values())


def assert_stored(servers: list[list[str]], expected: list[list[int]]) -> None:
    assert stored(servers) == expected


@every_shape
def test_an_ordinary_client_needs_to_know_nothing(clusters: Clusters, kind: str, shape: str) -> None:
    cluster = of_shape(clusters, kind, shape)
    with closing(Pymemcache((cluster.address, cluster.port), connect_timeout=5, timeout=5)) as client:
        assert client.set_many({"a": b"1", "b": b"2", "c": b"3"}) == []
        assert client.get_many(["a", "b", "c", "d"]) == {"a": b"1", "b": b"2", "c": b"3"}
        assert client.add("a", b"9", noreply=False) is False
        assert client.incr("a", 41) == 42
        assert client.append("b", b"2", noreply=False)
        assert client.get("b") == b"22"
        assert client.delete_many(["a", "b", "c"])
        eventually(partial(assert_missing, client, ["a", "b", "c"]), timeout=10)  # deletes have no reply here


def assert_missing(client: Pymemcache, keys: list[str]) -> None:
    assert client.get_many(keys) == {}


# --- losses


@every_proxy
@pytest.mark.parametrize("memop", ["running", "stopped"])
def test_a_lost_pod_takes_its_own_keys_alone_and_its_successor_has_them_again(
    clusters: Clusters, operator: Operator, kind: str, memop: str
) -> None:
    cluster = of_shape(clusters, kind, "wide")
    shard = 2
    with Load(cluster) as load:
        seat = eventually(lambda: seats(cluster.servers(), load.values), timeout=10)
        if memop == "stopped":
            operator.stop()
        try:
            cluster.lose(0, shard)
            load.well()
        finally:
            if memop == "stopped":
                operator.start()
    log.info("%s, memop %s: %.1f s of errors, %s", kind, memop, load.seconds, by_reply(load.failures))
    theirs = {key for key in load.values if seat[key] == shard}
    assert load.failures
    assert load.keys() <= theirs
    # What came before the loss is where it was.
    rest = {key: value for key, value in load.values.items() if key not in theirs}
    assert seats(cluster.servers(), rest) == {key: seat[key] for key in rest}
    values = {key: f"{value}-again" for key, value in load.values.items()}
    with cluster.client() as client:
        store(client, values)
    assert seats(cluster.servers(), values) == seat


@proxies_with_copies
@pytest.mark.parametrize(("copy", "flags"), [(0, ()), (1, ("--force", "--grace-period=0"))], ids=["deleted", "forced"])
def test_with_two_copies_a_lost_pod_is_nobodys_error_and_nobodys_miss(
    clusters: Clusters, kind: str, copy: int, flags: tuple[str, ...]
) -> None:
    cluster = of_shape(clusters, kind, "both")
    shard = 1
    with Load(cluster, ALL if kind == "builtin" else READS_AND_WRITES) as load:
        seat = eventually(lambda: seats(cluster.servers(), load.values), timeout=10)
        assert shard in seat.values()
        cluster.lose(copy, shard, *flags)
        load.well()
    assert load.failures == []
    with cluster.client() as client:
        store(client, load.values)
    eventually(lambda: assert_seats(cluster, load.values, seat))


# --- changes


@proxies_with_copies
def test_other_policies_come_in_without_a_failed_request(clusters: Clusters, kind: str) -> None:
    cluster = of_shape(clusters, kind, "deep")
    changes = ({"readPolicy": "random", "writePolicy": "all"}, {"readPolicy": "failover", "writePolicy": "fastest"})
    with Load(cluster) as load:
        for policies in changes:
            before = cluster.wanted_config()
            cluster.change(proxy=policies)
            eventually(partial(assert_told_otherwise, cluster, before))
            cluster.in_use()
            load.well(1)
    assert load.failures == []


def assert_told_otherwise(cluster: Cluster, before: str) -> None:
    assert cluster.wanted_config() != before


@proxies_with_copies
def test_a_change_of_the_pool_replaces_one_copy_after_the_other_and_is_nobodys_error(
    clusters: Clusters, kind: str
) -> None:
    """Nor anybody's miss, where all keys are written again and again."""
    cluster = of_shape(clusters, kind, "both")
    before = pool_pods(cluster)
    with Load(cluster) as load:
        cluster.change(memcached={"memcached": {"maxMemoryMB": 17}})
        eventually(lambda: assert_replaced(cluster, before), timeout=PATIENCE, interval=1)
        load.well()
    assert load.failures == []


def assert_replaced(cluster: Cluster, before: dict[str, str]) -> None:
    """By pods of the same names, which are ready."""
    after = pool_pods(cluster)
    assert after.keys() == before.keys()
    assert not {*after.values()} & {*before.values()}
    cluster.servers()


@every_proxy
def test_a_sixth_shard_takes_its_share_of_the_keys_and_no_other_moves(clusters: Clusters, kind: str) -> None:
    """A proxy that takes the new configuration in fails no request; one that is replaced, none that is tried again."""
    cluster = of_shape(clusters, kind, "wide")
    values = numbered("sixth", KEYS)
    with cluster.client() as client:
        store(client, values)
    before = seats(cluster.servers(), values)
    with Load(cluster) as load:
        cluster.become(shards=6)
        load.well()
        with cluster.client() as client:
            there = fetch(client, values)
            moved = values.keys() - there.keys()
            assert 0 < len(moved) <= KEYS * (1 / 6 + 0.05), len(moved)
            store(client, {key: values[key] for key in moved})
    log.info("%s: %d of %d keys moved to the sixth shard, %s", kind, len(moved), KEYS, by_reply(load.errors))
    assert (load.errors if kind in RELOADING else load.lost) == []
    assert held(cluster.servers()[0][5], values).keys() == moved
    stayed = {key: shard for key, shard in before.items() if key not in moved}
    assert seats(cluster.servers(), {key: values[key] for key in stayed}) == stayed


@every_proxy
def test_what_shrank_goes_when_no_proxy_can_ask_for_it(clusters: Clusters, shrunk: Loads, kind: str) -> None:
    cluster = clusters[kind, "less"]
    assert shrunk[kind].answered
    with Load(cluster) as load:
        eventually(lambda: assert_pool(cluster, 1), timeout=PATIENCE, interval=1)
        load.well()
    assert load.failures == []
    cluster.ready()


def pool_pods(cluster: Cluster) -> dict[str, str]:
    """Name → uid, until they are gone altogether."""
    found = [pod["metadata"] for pod in cluster.kubectl.list("pods", "app.kubernetes.io/name=memcached")]
    return {pod["name"]: pod["uid"] for pod in found if pod["name"].startswith(f"{cluster.name}-r")}


def assert_pool(cluster: Cluster, shards: int) -> None:
    assert pool_pods(cluster).keys() == {cluster.server_name(0, shard) for shard in range(shards)}
