"""twemproxy 0.5.0 with its generated configuration."""

import hashlib
import json
import subprocess
import time
import typing
from pathlib import Path

import pytest

from memop.api.memcached_cluster import Proxy, TwemproxyDistribution, TwemproxyHash
from memop.reconcilers.cluster import twemproxy
from memop.reconcilers.cluster.topology import Topology
from tests.dataplane.client import Client, Load, get, put
from tests.dataplane.programs import PORT, Pool, Programs, Running, Server

HASHES = typing.get_args(TwemproxyHash)
DISTRIBUTIONS = typing.get_args(TwemproxyDistribution)
# Keys that differ in their last digits alone lie close together on the ring with fnv and crc16: no measure of it.
KEYS = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(3000)]


def proxy(**settings: object) -> Proxy:
    return Proxy.model_validate({"twemproxy": settings})


def seats(pool: Pool) -> dict[str, int]:
    """Key → shard."""
    found: dict[str, int] = {}
    for shard, server in enumerate(pool.copies[0]):
        with server.client() as client:
            found.update(dict.fromkeys(client.held(KEYS), shard))
    return found


def filled(server: Server) -> None:
    with server.client() as client:
        client.put(KEYS)


@pytest.mark.parametrize("shards", [1, 5, 64])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_nutcracker_accepts_every_configuration(
    programs: Programs, tmp_path: Path, shards: int, distribution: str
) -> None:
    hosts = tuple(f"cache-r0-{shard}.shop.svc.cluster.local" for shard in range(shards))
    for name in HASHES:
        path = tmp_path / "nutcracker.yml"
        pool = Topology(copies=(hosts,), port=PORT)
        path.write_text(twemproxy.files(pool, proxy(hash=name, distribution=distribution))["nutcracker.yml"])
        tested = subprocess.run(
            [*programs.nutcracker, "-t", "-o", "/dev/null", "-c", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (tested.returncode, "syntax is ok" in tested.stderr + tested.stdout) == (0, True), tested


COMMANDS = """\
get a | gets a | incr a 1 | decr a 1 | touch a 100 | append a 0 0 1;x | prepend a 0 0 1;x | replace a 0 0 1;x | delete a
cas a 0 0 1 7;x | set a 5 0 2;10 | get a | add a 0 0 1;x | incr a 5 | decr a 3 | append a 0 0 1;0 | prepend a 0 0 1;1
get a | replace a 7 100 2;20 | cas a 9 0 3 999999;abd | get a | touch a 200 | delete a | get a
set b 0 0 1;y | get a nothing b
"""
REFUSED = (
    "gat 9 a",
    "gats 9 a",
    "mg a v",
    "ms a 1;x",
    "md a",
    "ma a",
    "me a",
    "mn",
    "flush_all",
    "stats",
    "verbosity 1",
)


def lines(text: str) -> list[str]:
    """Requests in the protocol's form."""
    parts = [request.partition(";") for request in text.strip().replace("\n", " | ").split(" | ")]
    return [f"{line}\r\n{value}\r\n" if value else f"{line}\r\n" for line, _, value in parts]


def test_every_command_that_it_knows_is_answered_as_one_memcached_answers(running: Running) -> None:
    pool = running.pool(3)
    with running.twemproxy(pool.topology, proxy()).client() as through, running.memcached().client() as alone:
        for request in lines(COMMANDS):
            assert through.ask(request) == alone.ask(request)
        assert through.ask(f"cas b 0 0 1 {through.cas('b')}\r\nz\r\n") == "STORED\r\n"
        through.send("delete b noreply\r\nset c 0 0 1 noreply\r\nx\r\n")
        assert through.ask("get b c\r\n") == "VALUE c 0 1\r\nx\r\nEND\r\n"


@pytest.mark.parametrize("line", REFUSED)
def test_a_command_that_it_does_not_know_closes_the_connection_without_a_word(running: Running, line: str) -> None:
    with running.twemproxy(running.pool(1).topology, proxy()).client() as client:
        [request] = lines(line)
        client.send(request)
        assert client.closed()


def test_a_new_server_on_a_seat_has_the_seats_keys_and_no_other_key_moves(running: Running) -> None:
    """Though its address is another: the ring knows seats by their names."""
    pool = running.pool(4)
    filled(running.twemproxy(pool.topology, proxy()))
    before = seats(pool)
    pool.copies[0][2] = running.memcached()
    filled(running.twemproxy(pool.topology, proxy()))
    assert before.keys() == set(KEYS)
    assert seats(pool) == before


@pytest.mark.parametrize("name", sorted(set(HASHES) - {"crc32"}))
def test_with_ketama_a_shard_more_moves_its_share_of_the_keys(running: Running, name: str) -> None:
    pool = running.pool(6)
    smaller = Pool([pool.copies[0][:5]])
    filled(running.twemproxy(smaller.topology, proxy(hash=name)))
    before = seats(smaller)
    filled(running.twemproxy(pool.topology, proxy(hash=name)))
    with pool.copies[0][5].client() as client:
        moved = client.held(KEYS)
    assert 0 < len(moved) <= len(KEYS) * (1 / 6 + 0.05)
    assert {key: shard for key, shard in seats(smaller).items() if key not in moved} == {
        key: shard for key, shard in before.items() if key not in moved
    }


def test_crc32_with_ketama_is_no_sharding(running: Running) -> None:
    """Why admission refuses it: this hash has 15 bits, all of them below the ring's first point."""
    pool = running.pool(5)
    filled(running.twemproxy(pool.topology, proxy(hash="crc32")))
    assert len(set(seats(pool).values())) == 1


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_a_lost_server_is_an_error_now_and_then_until_it_is_back(running: Running, how: str) -> None:
    """Its keys go to the others meanwhile, and are misses: once when it goes, and once when it is back."""
    pool = running.pool(3)
    through = running.twemproxy(pool.topology, proxy())
    lost = pool.copies[0][0]
    with Load(through.address, PORT, (get, put)) as load:
        time.sleep(0.5)
        getattr(lost, how)()
        time.sleep(3)
        lost.kill()
        running.memcached(lost.address)
        time.sleep(3)
    errors = [reply for _, _, reply in load.bad if reply.startswith("SERVER_ERROR")]
    assert len(errors) + load.kinds["END"] == len(load.bad)
    # Everything under way when it fails, and one request every two seconds; four clients.
    assert len(errors) <= 4 * 3
    assert load.slowest < 0.9
    missed = {request.split()[1] for _, request, _ in load.bad}
    assert 0 < len(missed) < 0.7 * len(load.keys)


def test_as_a_containers_first_process_it_serves_on_after_sigterm(running: Running) -> None:
    """So the kubelet kills it at the end of the grace period, and until then old connections work."""
    prefix = ("unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
    through = running.twemproxy(running.pool(1).topology, proxy(), prefix=prefix)
    children = Path(f"/proc/{through.process.pid}/task/{through.process.pid}/children").read_text().split()
    with through.client() as client:
        subprocess.run(["kill", "-TERM", *children], check=True)
        time.sleep(0.3)
        assert client.ask("set key 0 0 1\r\nx\r\n") == "STORED\r\n"
        assert through.ask("get key\r\n") == "VALUE key 0 1\r\nx\r\nEND\r\n"


def test_statistics_are_json_on_a_port_of_their_own(running: Running) -> None:
    through = running.twemproxy(running.pool(2).topology, proxy())
    with Client(through.address, 22222) as client:
        stats = json.loads(client.rest())
    assert {"shard-0", "shard-1"} <= stats["memcached"].keys()
    assert stats["version"] == "0.5.0"
