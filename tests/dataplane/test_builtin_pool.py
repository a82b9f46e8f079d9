"""memcached's own proxy and its pool: where keys lie, what the loss of a server costs, how new files come in."""

import itertools
import time
from collections.abc import Callable

import pytest

from memop.api.memcached_cluster import Proxy
from memop.reconcilers.cluster import builtin
from memop.reconcilers.cluster.topology import Topology
from tests.dataplane.client import EVERYTHING, Load, get, put
from tests.dataplane.programs import PORT, Pool, Running

POLICIES = list(itertools.product(("failover", "random", "latest"), ("fastest", "all")))
KEYS = [f"user:{number}" for number in range(3000)]


def policy(**spec: str) -> Proxy:
    return Proxy.model_validate(spec)


def seats(pool: Pool, copy: int = 0) -> dict[str, int]:
    """Key → shard, for one copy."""
    found: dict[str, int] = {}
    for shard, server in enumerate(pool.copies[copy]):
        with server.client() as client:
            held = client.held(KEYS)
        assert held.isdisjoint(found)
        found.update(dict.fromkeys(held, shard))
    return found


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 3), (2, 2), (64, 1)])
def test_a_proxy_starts_with_the_configuration_of_every_shape(running: Running, shape: tuple[int, int]) -> None:
    """And before its servers: none of them runs here."""
    shards, copies = shape
    copy = tuple(running.address() for _ in range(shards))
    for read, write in POLICIES if copies > 1 else POLICIES[:1]:
        pool = Topology(copies=(copy,) * copies, port=PORT)
        proxy = policy(readPolicy=read, writePolicy=write)
        started = running.builtin(pool, proxy)
        assert started.version() == builtin.version(builtin.files(pool, proxy))
        assert started.ask("version\r\n") == "VERSION 1.6.38\r\n"
        assert started.ask("get key\r\n") == "SERVER_ERROR backend failure\r\n"
        started.kill()


def test_the_largest_pool_starts(running: Running) -> None:
    copies = tuple(tuple(f"127.0.{copy}.{shard}" for shard in range(1, 65)) for copy in range(8))
    started = running.builtin(Topology(copies=copies, port=PORT))
    assert started.ask("version\r\n") == "VERSION 1.6.38\r\n"


def test_keys_are_spread_evenly_and_lie_on_the_same_seat_of_every_copy(running: Running) -> None:
    pool = running.pool(5, 2)
    with running.builtin(pool.topology, policy(writePolicy="all")).client() as client:
        client.put(KEYS)
    first = seats(pool)
    assert seats(pool, 1) == first
    assert first.keys() == set(KEYS)
    for shard in range(5):
        assert list(first.values()).count(shard) == pytest.approx(len(KEYS) / 5, rel=0.15)


def test_a_new_server_on_a_seat_has_the_seats_keys_and_no_other_key_moves(running: Running) -> None:
    pool = running.pool(4)
    proxy = running.builtin(pool.topology)
    with proxy.client() as client:
        client.put(KEYS)
    before = seats(pool)
    pool.copies[0][2].kill()
    pool.copies[0][2] = running.memcached()
    proxy.take_in(builtin.files(pool.topology, Proxy()))
    with proxy.client() as client:
        assert client.held(KEYS) == {key for key, shard in before.items() if shard != 2}
        client.put(KEYS)
    assert seats(pool) == before


def test_a_shard_more_moves_its_share_of_the_keys_and_one_less_moves_them_back(running: Running) -> None:
    pool = running.pool(6)
    smaller = Pool([pool.copies[0][:5]])
    proxy = running.builtin(smaller.topology)
    with proxy.client() as client:
        client.put(KEYS)
    before = seats(smaller)
    proxy.take_in(builtin.files(pool.topology, Proxy()))
    with proxy.client() as client:
        moved = set(KEYS) - client.held(KEYS)
        assert 0 < len(moved) <= len(KEYS) * (1 / 6 + 0.05)
        client.put(moved)
    with pool.copies[0][5].client() as client:
        assert client.held(KEYS) == moved
    proxy.take_in(builtin.files(smaller.topology, Proxy()))
    with proxy.client() as client:
        client.put(KEYS)
    assert seats(smaller) == before


def test_a_second_copy_moves_nothing(running: Running) -> None:
    pool = running.pool(3, 2)
    single = Pool(pool.copies[:1])
    proxy = running.builtin(single.topology)
    with proxy.client() as client:
        client.put(KEYS)
    before = seats(single)
    proxy.take_in(builtin.files(pool.topology, Proxy()))
    with proxy.client() as client:
        assert client.held(KEYS) == set(KEYS)
        client.put(KEYS)
    assert seats(single) == before


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.parametrize("copy", [0, 1])
def test_with_two_copies_the_loss_of_a_server_is_nobodys_error_or_miss(running: Running, how: str, copy: int) -> None:
    """Gone at once or silently, and back empty: nothing is wrong, and nothing takes more than one time-out."""
    pool = running.pool(2, 2)
    proxy = running.builtin(pool.topology)
    lost = pool.copies[copy][0]
    with Load(proxy.address, PORT, EVERYTHING) as load:
        time.sleep(0.5)
        getattr(lost, how)()
        time.sleep(1.5)
        lost.kill()
        running.memcached(lost.address)
        time.sleep(1.5)
    assert load.kinds == {}
    assert load.answered > 1000
    assert load.slowest < (0.9 if how == "freeze" else 0.4)
    assert lost.process.poll() is not None


def test_with_one_copy_a_lost_server_is_an_error_for_its_keys_alone_and_back_within_two_seconds(
    running: Running,
) -> None:
    pool = running.pool(3)
    proxy = running.builtin(pool.topology)
    with Load(proxy.address, PORT, (get, put)) as load:
        time.sleep(0.3)
        pool.copies[0][0].kill()
        time.sleep(1.5)
        back = time.monotonic()
        running.memcached(pool.copies[0][0].address)
        time.sleep(2.5)
    assert set(load.kinds) <= {"SERVER_ERROR backend failure", "END"}
    errors = [when for when, _, reply in load.bad if reply != "END"]
    assert errors
    assert max(errors) - back < 2
    missed = {request.split()[1] for _, request, _ in load.bad}
    assert len(missed) < 0.6 * len(load.keys)


def test_a_new_configuration_comes_in_without_a_failed_request(running: Running) -> None:
    pool = running.pool(3)
    proxy = running.builtin(pool.topology)
    with Load(proxy.address, PORT, (get, put)) as load:
        for copies in ([pool.copies[0]], [pool.copies[0], [running.memcached() for _ in range(3)]], [pool.copies[0]]):
            proxy.take_in(builtin.files(Pool(copies).topology, Proxy()))
            time.sleep(0.3)
    assert load.kinds == {}
    with proxy.client() as client:
        assert client.stats()["proxy_config_reloads"] == "3", "the start is one of them"


BROKEN: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "no Lua": lambda files: {**files, "config.lua": "pools{"},
    "cut short": lambda files: {**files, "config.lua": files["config.lua"][:-20]},
    "changed by hand": lambda files: {**files, "config.lua": files["config.lua"].replace("r0", "r9", 1)},
    "missing": lambda files: {"memop.lua": files["memop.lua"]},
    "another library": lambda files: {**files, "memop.lua": files["memop.lua"] + "error()"},
}


def test_a_file_that_is_broken_or_gone_leaves_the_old_configuration_in_place(running: Running) -> None:
    pool = running.pool(2)
    good = builtin.files(pool.topology, Proxy())
    proxy = running.builtin(pool.topology)
    with proxy.client() as client:
        client.put(KEYS[:100])
        reloads = client.stats()["proxy_config_reloads"]
        for name, broken in BROKEN.items():
            proxy.config.publish(broken(good))
            time.sleep(1.2)
            assert client.held(KEYS[:100]) == set(KEYS[:100]), name
            assert client.stats()["proxy_config_reloads"] == reloads, name
            assert proxy.process.poll() is None, name
    pool.copies[0].append(running.memcached())
    proxy.take_in(builtin.files(pool.topology, Proxy()))


def test_a_server_that_refuses_a_request_is_not_taken_for_dead(running: Running) -> None:
    """Each CLIENT_ERROR makes the proxy connect to that server anew."""
    proxy = running.builtin(running.pool(1).topology)
    with proxy.client() as client:
        client.put(["text"])
        for _ in range(20):
            assert client.ask("incr text 1\r\n").startswith("CLIENT_ERROR cannot increment")
            assert client.ask("get text\r\n") == "VALUE text 0 1\r\nx\r\nEND\r\n"
