"""Thousands of keys at a time, through a proxy or on the memcacheds behind it."""

from collections.abc import Iterable, Mapping, Sequence

from tests.dataplane.client import Client

PORT = 11211
# Requests under way at once, so few that neither side's buffers fill up before the first reply is read.
BATCH = 250

Seats = dict[str, int]


def ask(client: Client, requests: Sequence[str]) -> list[str]:
    """The replies, one for each request, which are sent in batches."""
    replies: list[str] = []
    for start in range(0, len(requests), BATCH):
        batch = requests[start : start + BATCH]
        client.send("".join(batch))
        replies += [client.reply() for _ in batch]
    return replies


def store(client: Client, values: Mapping[str, str], command: str = "set") -> None:
    replies = ask(client, [f"{command} {key} 0 0 {len(value)}\r\n{value}\r\n" for key, value in values.items()])
    assert set(replies) == {"STORED\r\n"}


def fetch(client: Client, keys: Iterable[str]) -> dict[str, str]:
    """The values of those that are there; an answer that is neither value nor miss fails the test."""
    keys = list(keys)
    found = {}
    for key, reply in zip(keys, ask(client, [f"get {key}\r\n" for key in keys]), strict=True):
        if reply != "END\r\n":
            head, value, end = reply.split("\r\n", 2)
            assert (head, end) == (f"VALUE {key} 0 {len(value)}", "END\r\n"), reply
            found[key] = value
    return found


def held(address: str, keys: Iterable[str], port: int = PORT) -> dict[str, str]:
    """Key → value of those that one memcached has."""
    with Client(address, port) as client:
        return fetch(client, keys)


def lifetimes(address: str, keys: Iterable[str]) -> dict[str, int]:
    """Key → seconds left of those that one memcached has; -1 is for ever."""
    keys = list(keys)
    with Client(address, PORT) as client:
        replies = ask(client, [f"mg {key} t\r\n" for key in keys])
    return {key: int(reply[4:]) for key, reply in zip(keys, replies, strict=True) if reply.startswith("HD t")}


def seats(copies: Sequence[Sequence[str]], values: Mapping[str, str]) -> Seats:
    """Key → shard. Each key lies, with this value, on one memcached of each copy, the same one in all.

    `copies[j][i]` is the address of shard i of copy j. Other values may lie anywhere: twemproxy leaves some behind when
    it has given a dead server's keys to others for a while.
    """
    found: list[Seats] = []
    for servers in copies:
        seat: Seats = {}
        for shard, address in enumerate(servers):
            here = {key for key, value in held(address, values).items() if value == values[key]}
            assert here.isdisjoint(seat), f"on shard {shard} and another: {sorted(here & seat.keys())[:3]}"
            seat.update(dict.fromkeys(here, shard))
        missing = values.keys() - seat.keys()
        assert not missing, f"{len(missing)} are nowhere in a copy, {sorted(missing)[:3]}"
        found.append(seat)
    assert all(seat == found[0] for seat in found), "copies differ in where keys lie"
    return found[0]


def stored(copies: Sequence[Sequence[str]]) -> list[list[int]]:
    """How many items each memcached has, whosever they are."""
    return [[_items(address) for address in servers] for servers in copies]


def _items(address: str) -> int:
    with Client(address, PORT) as client:
        return int(client.stats()["curr_items"])
