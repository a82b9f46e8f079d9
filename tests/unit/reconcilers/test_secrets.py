"""Secrets are asked for by their metadata, seldom, and never in a crowd."""

import asyncio
import random

import msgspec
import pytest

from memop.errors import NotFound, Unreachable
from memop.reconcilers.secrets import MAX_PER_SECOND, Secret, SecretReader, secret_hash
from memop.refs import SECRETS, Key, Resource
from tests.unit.virtual_time import VirtualClock

CR = Key("ns", "cache")


class Server:
    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.asked: list[tuple[float, Key]] = []
        self.clock: VirtualClock | None = None
        self.failing: Exception | None = None
        self.seconds = 0.0  # that an answer takes

    async def get(self, resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes:
        assert resource is SECRETS
        assert metadata_only
        self.asked.append((self.clock.monotonic() if self.clock else 0.0, key))
        if self.failing:
            raise self.failing
        if key.name not in self.versions:
            raise NotFound("not found", status=404)
        version = str(self.versions[key.name])
        await asyncio.sleep(self.seconds)
        return msgspec.json.encode({"metadata": {"name": key.name, "uid": "u", "resourceVersion": version}})


@pytest.fixture
def server(clock: VirtualClock) -> Server:
    server = Server()
    server.clock = clock
    return server


@pytest.fixture
def reader(server: Server, clock: VirtualClock) -> SecretReader:
    return SecretReader(server, interval=60.0, clock=clock, rng=random.Random(1))  # noqa: S311


async def test_a_secret_is_read_once_per_interval_and_change_of_the_cr(reader: SecretReader, server: Server) -> None:
    server.versions = {"a": 1}
    for _ in range(3):
        assert await reader.read(CR, ["a"]) == {"a": Secret("u 1")}
    assert len(server.asked) == 1
    await asyncio.sleep(1)
    reader.changed(CR)
    for _ in range(2):
        await reader.read(CR, ["a"])
    assert len(server.asked) == 2
    due = reader.due(CR)
    assert due is not None
    assert 54 <= due <= 66
    await asyncio.sleep(due)
    server.versions = {"a": 2}
    assert await reader.read(CR, ["a"]) == {"a": Secret("u 2")}


async def test_a_missing_one_is_looked_for_more_often(reader: SecretReader, server: Server) -> None:
    server.versions = {"a": 1}
    assert await reader.read(CR, ["a", "b"]) == {"a": Secret("u 1"), "b": Secret()}
    due = reader.due(CR)
    assert due is not None
    assert 9 <= due <= 11
    await asyncio.sleep(due)
    server.versions["b"] = 5
    assert (await reader.read(CR, ["a", "b"]))["b"] == Secret("u 5")
    assert [key.name for _, key in server.asked] == ["a", "b", "b"]


async def test_what_says_nothing_of_the_secret_is_raised_and_asked_again(reader: SecretReader, server: Server) -> None:
    server.failing = Unreachable("no route")
    with pytest.raises(Unreachable):
        await reader.read(CR, ["a"])
    server.failing = None
    assert await reader.read(CR, ["a"]) == {"a": Secret()}


async def test_a_name_that_is_dropped_is_forgotten(reader: SecretReader, server: Server) -> None:
    await reader.read(CR, ["a"])
    assert await reader.read(CR, []) == {}
    assert reader.due(CR) is None


async def test_many_that_name_the_same_read_it_once(reader: SecretReader, server: Server) -> None:
    """At a restart, when it is due, and when all of them are changed at once."""
    crs = [Key("ns", f"cache-{number}") for number in range(100)]
    server.versions = {"a": 1}
    server.seconds = 0.5
    for changed in (False, False, True):
        for cr in crs if changed else ():
            reader.changed(cr)
        found = await asyncio.gather(*(reader.read(cr, ["a"]) for cr in crs))
        assert all(secrets == {"a": Secret("u 1")} for secrets in found)
        await asyncio.sleep(70)
    assert len(server.asked) == 3
    await reader.read(Key("other", "cache"), ["a"])
    assert len(server.asked) == 4
    for cr in crs[1:]:
        reader.forget(cr)
    assert reader.due(crs[0]) == 0


async def test_a_change_is_not_answered_from_before_it(reader: SecretReader, server: Server) -> None:
    """The answer under way when the CR changed may be older than the change."""
    server.versions, server.seconds = {"a": 1}, 1.0
    first = asyncio.create_task(reader.read(CR, ["a"]))
    await asyncio.sleep(0.5)
    server.versions = {"a": 2}
    other = Key("ns", "other")
    reader.changed(other)
    changed = asyncio.create_task(reader.read(other, ["a"]))
    assert (await first)["a"] == Secret("u 1")
    assert (await changed)["a"] == Secret("u 2")


async def test_one_read_answers_for_all_that_changed_before_it(reader: SecretReader, server: Server) -> None:
    """A hundred CRs changed in a burst and worked off one after another: not a hundred reads."""
    crs = [Key("ns", f"cache-{number}") for number in range(100)]
    server.versions, server.seconds = {"a": 1}, 0.1
    for cr in crs:
        await reader.read(cr, ["a"])
        reader.changed(cr)
        await asyncio.sleep(0.01)
    server.versions, server.asked = {"a": 2}, []
    for cr in crs:
        assert await reader.read(cr, ["a"]) == {"a": Secret("u 2")}
        await asyncio.sleep(0.01)
    assert len(server.asked) == 1


async def test_a_change_while_its_secrets_are_read_is_not_forgotten(reader: SecretReader, server: Server) -> None:
    server.versions, server.seconds = {"a": 1, "b": 1}, 1.0
    await reader.read(Key("ns", "other"), ["b"])
    reader.changed(CR)
    reading = asyncio.create_task(reader.read(CR, ["a"]))
    await asyncio.sleep(0.5)
    server.versions["b"] = 2
    reader.changed(CR)
    await reading
    assert await reader.read(CR, ["b"]) == {"b": Secret("u 2")}


async def test_many_are_spread_over_more_than_the_interval(reader: SecretReader, server: Server) -> None:
    """6000 CRs: at MAX_PER_SECOND that is two intervals, and in no second there are more."""
    crs = [Key("ns", f"cache-{number}") for number in range(6000)]
    server.versions = {cr.name: 1 for cr in crs}
    dues = []
    for cr in crs:
        await reader.read(cr, [cr.name])
        due = reader.due(cr)
        assert due is not None
        dues.append(due)
    dues.sort()
    assert 110 < dues[-1] < 190
    most = max(sum(1 for due in dues[start : start + 200] if due < dues[start] + 1) for start in range(0, 5800, 50))
    assert most <= MAX_PER_SECOND + 1


def test_the_hash_is_over_name_uid_and_version() -> None:
    hashes = {
        secret_hash({"a": Secret("u 1")}),
        secret_hash({"b": Secret("u 1")}),
        secret_hash({"a": Secret("u 2")}),
        secret_hash({"a": Secret("v 1")}),
        secret_hash({"a": Secret("u 1"), "b": Secret("u 1")}),
    }
    assert len(hashes) == 5
    assert None not in hashes
    assert secret_hash({}) is None
    assert secret_hash({"a": Secret("1"), "b": Secret("2")}) == secret_hash({"b": Secret("2"), "a": Secret("1")})
