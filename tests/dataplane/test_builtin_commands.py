"""Every command through memcached's own proxy: answered as memcached answers, the same on every copy."""

import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import pytest

from memop.api.memcached_cluster import Proxy
from tests.dataplane.client import Client
from tests.dataplane.programs import PORT, BuiltinProxy, Pool, Running, Server

POLICIES = list(itertools.product(("failover", "random", "latest"), ("fastest", "all")))
SHAPES = [(3, 1), (1, 2), (2, 3)]

# One client's day. Each line is a request; CAS stands for the id that `gets` gave last.
SCRIPT = """\
get a | gets a | mg a v | mg a s v t f | touch a 100 | gat 100 a | gats 100 a | delete a | incr a 1 | decr a 1
append a 0 0 1;x | prepend a 0 0 1;x | replace a 0 0 1;x | cas a 0 0 1 7;x | md a | ma a | me a
set a 5 0 2;10 | get a | gets a | add a 0 0 1;x | get a | incr a 5 | decr a 3 | append a 0 0 1;0 | prepend a 0 0 1;1
get a | replace a 7 100 2;20 | gets a | cas a 8 0 3 CAS;abc | cas a 9 0 3 CAS;abd | get a | incr a 1
touch a 200 | gat 300 a | gats 300 a | mg a v f t | delete a | get a | delete a
add b 3 100 2;hi | add b 3 100 2;ho | get b | delete b | ms c 2 T100 F4;hi | mg c v f t | ms c 2 ME;ho | mg c v
ms d 2 ME;hi | mg d v | ms d 2 MA;++ | ms d 2 MP;-- | mg d v | ms d 1 MR;x | mg d v | ms e 1 MR;x | mg e v | ms e 1 MA;x
mg d k O99 q | mg e k O99 q | mg d k O99 | md d k O98 | md d | ma n N0 J5 v | ma n v | ma n v D3 | ma n MD v | mg n v
mg n T500 t v | mg n t | mg w N30 v | mg w v | md w | set a 0 0 1;x | set b 0 0 1;y | get a b nothing n
gets a nothing b | gets c | ms c 2 CCAS T90;by | ms c 2 CCAS;no | mg c v
gat 50 a b nothing | set é 0 0 1;x | get é | gets a | set a 0 0 1;z | cas a 0 0 1 CAS;q | get a
version | mn | verbosity_unknown
"""


def requests() -> list[str]:
    """The script's, in the protocol's form."""
    return [protocol(request) for request in re.split(r" \| |\n", SCRIPT.strip())]


def protocol(request: str) -> str:
    line, _, value = request.partition(";")
    return f"{line}\r\n{value}\r\n" if value else f"{line}\r\n"


def played(server: Server) -> list[tuple[str, str]]:
    """Request and reply of the whole script; ids, which every memcached numbers by itself, are left out."""
    result, cas = [], ""
    with server.client() as client:
        for request in requests():
            quiet = " q" in request
            reply = client.ask(request.replace("CAS", cas) + ("mn\r\n" if quiet else ""))
            if quiet and reply != "MN\r\n":
                reply += client.reply()
            if found := re.match(r"VALUE \w+ \d+ \d+ (\d+)\r\n", reply):
                cas = found[1]
            masked = re.sub(r"(VALUE \S+ \d+ \d+) \d+", r"\1 ID", reply)
            result.append((request, re.sub(r"ME .*", "ME", masked)))
    return result


def contents(servers: list[Server], keys: str = "abcdenw") -> dict[str, str]:
    """What is kept of each key: flags, time to live and value."""
    held = {}
    for server in servers:
        with server.client() as client:
            held.update({key: reply for key in keys if (reply := client.ask(f"mg {key} f t v\r\n")) != "EN\r\n"})
    return held


def kept(server: Server, keys: Iterable[str]) -> dict[str, str]:
    """Key → value; "" for none."""
    with server.client() as client:
        return {key: "".join(client.ask(f"get {key}\r\n").split()[4:5]) for key in keys}


def eventually(look: Callable[[], object], expected: object) -> None:
    """`fastest` answers before all copies have what was written: give them a second."""
    deadline = time.monotonic() + 1
    while (found := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found == expected


def proxy(running: Running, shape: tuple[int, int], read: str, write: str) -> tuple[Pool, BuiltinProxy]:
    """The first copy's servers have counted further, as happens: ids of two copies are not the same by chance."""
    pool = running.pool(*shape)
    for server in pool.copies[0]:
        with server.client() as client:
            for number in range(7):
                client.put([f"old:{number}"])
                client.ask(f"delete old:{number}\r\n")
    return pool, running.builtin(pool.topology, Proxy.model_validate({"readPolicy": read, "writePolicy": write}))


@pytest.mark.parametrize(
    ("shape", "read", "write"),
    [(shape, *policy) for shape in SHAPES for policy in (POLICIES if shape[1] > 1 else POLICIES[:1])],
)
def test_every_command_is_answered_as_one_memcached_answers_and_copies_agree(
    running: Running, shape: tuple[int, int], read: str, write: str
) -> None:
    pool, through = proxy(running, shape, read, write)
    alone = running.memcached()
    expected = played(alone)
    refused = ("verbosity_unknown\r\n", "ERROR\r\n")
    assert expected[-1] == refused
    answers = played(through)
    assert answers[:-1] == expected[:-1]
    assert answers[-1][1].startswith("CLIENT_ERROR")
    assert contents([alone]).keys() >= {"a", "b", "c", "n"}
    for copy in pool.copies:
        eventually(partial(contents, copy), contents([alone]))


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("request_line", ["delete a noreply", "delete a 0 noreply", "md a q"])
def test_a_delete_that_wants_no_reply_gets_none_and_deletes(running: Running, copies: int, request_line: str) -> None:
    pool = running.pool(2, copies)
    with running.builtin(pool.topology).client() as client:
        client.put("a")
        client.send(f"{request_line}\r\n")
        assert client.ask("mn\r\n") == "MN\r\n"
        assert client.ask("get a\r\n") == "END\r\n"
        assert [pool.seat(copy, "a") for copy in range(copies)] == [None] * copies
        assert client.ask("delete a 0\r\n") == "NOT_FOUND\r\n"


@pytest.mark.parametrize(
    "line", ["set a 0 0 1 noreply;x", "add b 0 0 1 noreply;x", "incr n 1 noreply", "touch a 9 noreply"]
)
def test_no_command_that_wants_no_reply_gets_one(running: Running, line: str) -> None:
    with running.builtin(running.pool(2, 2).topology).client() as client:
        client.put(("a", "n"))
        client.ask("set n 0 0 1\r\n1\r\n")
        client.send(protocol(line))
        assert client.ask("mn\r\n") == "MN\r\n"
        assert client.ask("get nothing\r\n") == "END\r\n"


def at_once(clients: int, job: Callable[[int], None]) -> None:
    """Run the job for that many clients at the same time; it raises in none of them."""
    failed: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            job(number)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@pytest.mark.parametrize("write", ["fastest", "all"])
def test_clients_of_two_proxies_add_by_cas_and_lose_nothing(running: Running, write: str) -> None:
    """Each adds one fifty times by gets and cas: the sum says whether any two were granted the same id."""
    pool, one = proxy(running, (1, 2), "failover", write)
    other = running.builtin(pool.topology, Proxy.model_validate({"writePolicy": write}))
    with one.client() as client:
        assert client.ask("set sum 0 0 1\r\n0\r\n") == "STORED\r\n"

    def add(number: int) -> None:
        with (one, other)[number % 2].client() as client:
            for _ in range(50):
                reply, deadline = "EXISTS\r\n", time.monotonic() + 10
                while reply == "EXISTS\r\n" and time.monotonic() < deadline:
                    _, _, _, _, cas, value, _ = client.ask("gets sum\r\n").split()
                    text = str(int(value) + 1)
                    reply = client.ask(f"cas sum 0 0 {len(text)} {cas}\r\n{text}\r\n")
                assert reply == "STORED\r\n"

    at_once(4, add)
    assert pool.copies[0][0].ask("get sum\r\n") == "VALUE sum 0 3\r\n200\r\nEND\r\n"


@pytest.mark.parametrize("write", ["fastest", "all"])
def test_of_clients_that_add_the_same_key_one_is_told_that_it_did(running: Running, write: str) -> None:
    pool, one = proxy(running, (1, 2), "failover", write)
    other = running.builtin(pool.topology, Proxy.model_validate({"writePolicy": write}))
    winners: dict[str, list[int]] = {f"lock:{number}": [] for number in range(100)}

    def lock(number: int) -> None:
        with (one, other)[number % 2].client() as client:
            for key, won in winners.items():
                if client.ask(f"add {key} 0 0 1\r\n{number}\r\n") == "STORED\r\n":
                    won.append(number)

    at_once(4, lock)
    assert Counter(len(won) for won in winners.values()) == {1: 100}
    for [server] in pool.copies:
        eventually(partial(kept, server, winners), {key: str(won[0]) for key, won in winners.items()})


@pytest.mark.parametrize("write", ["fastest", "all"])
def test_what_an_add_stored_is_what_every_copy_has(running: Running, write: str) -> None:
    """Also one that had kept an item which the deciding copy has lost."""
    pool, through = proxy(running, (1, 2), "failover", write)
    assert pool.copies[1][0].ask("set key 0 0 3\r\nold\r\n") == "STORED\r\n"
    assert through.ask("add key 0 0 3\r\nnew\r\n") == "STORED\r\n"
    eventually(partial(kept, pool.copies[1][0], ["key"]), {"key": "new"})


@pytest.mark.parametrize("write", ["fastest", "all"])
def test_every_incr_gives_a_number_that_no_other_gave(running: Running, write: str) -> None:
    pool, one = proxy(running, (1, 2), "failover", write)
    other = running.builtin(pool.topology, Proxy.model_validate({"writePolicy": write}))
    with one.client() as client:
        client.ask("set n 0 0 1\r\n0\r\n")
    numbers: list[int] = []

    def count(number: int) -> None:
        with (one, other)[number % 2].client() as client:
            numbers.extend(int(client.ask("incr n 1\r\n")) for _ in range(100))

    at_once(4, count)
    assert sorted(numbers) == list(range(1, 401))
    for [server] in pool.copies:
        eventually(partial(kept, server, "n"), {"n": "400"})


# What a client may ask of a key that only the other copy has left: `gets` before `cas`, which needs its id.
AFTER_A_LOSS = """\
get K | gets K | mg K v | mg K v c | mg K v T100 | mg K v N30 | gat 100 K | gats 100 K | touch K 100 | append K 0 0 1;x
prepend K 0 0 1;x | replace K 0 0 1;x | incr K 1 | decr K 1 | ma K | ms K 1 MA;x | ms K 1 MR;x | delete K | md K
cas K 0 0 1 CAS;x
"""
WRONG = {"END\r\n", "EN\r\n", "NOT_FOUND\r\n", "NF\r\n", "NOT_STORED\r\n", "NS\r\n", "EXISTS\r\n"}


@pytest.mark.parametrize("lost", [0, 1])
def test_with_failover_and_fastest_a_copy_that_came_back_empty_hides_no_key(running: Running, lost: int) -> None:
    pool, through = proxy(running, (1, 2), "failover", "fastest")
    for number, line in enumerate(re.split(r" \| |\n", AFTER_A_LOSS.strip())):
        key = f"key:{number}"
        with through.client() as client, pool.copies[lost][0].client() as empty:
            assert client.ask(f"set {key} 0 0 1\r\n5\r\n") == "STORED\r\n"
            while empty.ask(f"delete {key}\r\n") != "DELETED\r\n":
                pass  # `fastest` has answered before this copy had it
            request = protocol(line.replace("K", key))
            if "CAS" in request:
                request = request.replace("CAS", client.cas(key))
            reply = client.ask(request)
            assert reply not in WRONG, line
            assert "ERROR" not in reply, line
            assert not reply.startswith("VA 0 "), line


def test_a_cas_gives_a_copy_that_came_back_empty_its_item(running: Running) -> None:
    pool, through = proxy(running, (1, 2), "failover", "all")
    with through.client() as client:
        client.ask("set key 0 0 1\r\n5\r\n")
        assert pool.copies[1][0].ask("delete key\r\n") == "DELETED\r\n"
        assert client.ask(f"cas key 3 100 2 {client.cas('key')}\r\nhi\r\n") == "STORED\r\n"
    assert pool.copies[1][0].ask("mg key f t v\r\n") == "VA 2 f3 t100\r\nhi\r\n"


@pytest.mark.parametrize(("number", "cas"), [(0, "STORED\r\n"), (1, "STORED\r\n")])
def test_with_fastest_gets_and_cas_go_on_without_any_copy(running: Running, number: int, cas: str) -> None:
    pool, through = proxy(running, (1, 2), "failover", "fastest")
    with through.client() as client:
        client.put(["key"])
        pool.copies[number][0].kill()
        assert client.ask(f"cas key 0 0 1 {client.cas('key')}\r\ny\r\n") == cas
        assert client.ask("get key\r\n") == "VALUE key 0 1\r\ny\r\nEND\r\n"


def test_with_all_no_copy_but_the_first_grants_a_cas(running: Running) -> None:
    """Its id says nothing about any other copy, so nothing is read or written that could be compared with it."""
    pool, through = proxy(running, (1, 2), "failover", "all")
    with through.client() as client:
        client.put(["key"])
        pool.copies[0][0].kill()
        with pool.copies[1][0].client() as second:
            other = second.cas("key")
        assert client.ask("gets key\r\n").startswith("SERVER_ERROR")
        assert client.ask(f"cas key 0 0 1 {other}\r\ny\r\n").startswith("SERVER_ERROR")
        assert client.ask("get key\r\n") == "VALUE key 0 1\r\nx\r\nEND\r\n"


@pytest.mark.parametrize("number", [0, 1])
def test_with_all_a_dead_copy_fails_writes_and_no_read(running: Running, number: int) -> None:
    pool, through = proxy(running, (1, 2), "failover", "all")
    with through.client() as client:
        client.put(["key"])
        pool.copies[number][0].kill()
        for request in ("set key 0 0 1\r\ny\r\n", "touch key 9\r\n", "incr key 1\r\n", "delete key\r\n"):
            assert client.ask(request).startswith(("SERVER_ERROR", "CLIENT_ERROR")), request
    with Client(through.address, PORT) as client:
        assert client.ask("get key\r\n") in {
            "VALUE key 0 1\r\nx\r\nEND\r\n",
            "VALUE key 0 1\r\ny\r\nEND\r\n",
            "END\r\n",
        }


@pytest.mark.parametrize("before", ["set a 0 0 1 noreply\r\nx\r\n", "get a\r\n"])
def test_a_set_sent_behind_another_command_is_refused_when_its_value_comes_in_parts(
    running: Running, before: str
) -> None:
    """memcached 1.6.38's own doing, before any route is asked: the connection and what follows are not harmed."""
    _, through = proxy(running, (1, 1), "failover", "fastest")
    with through.client() as client:
        client.send(f"{before}set key 0 0 5\r\nhe")
        time.sleep(0.1)
        client.send("llo\r\nmn\r\n")
        replies = [client.reply() for _ in range(2 if "noreply" in before else 3)]
        assert replies[-2:] == ["CLIENT_ERROR parsing request\r\n", "MN\r\n"]
        assert client.ask("set key 0 0 5\r\nhello\r\n") == "STORED\r\n"
    with through.client() as client:
        client.send("set key 0 0 5\r\nhe")
        time.sleep(0.1)
        assert client.ask("llo\r\n") == "STORED\r\n"
