"""Election on virtual time, against a Lease that only knows get, create and replace."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry, Gauge

from memop.clock import Clock
from memop.errors import AlreadyExists, Conflict, LeadershipLost, NotFound, Unreachable
from memop.leader import LeaderElector
from memop.refs import LEASES, Key, Resource
from tests.unit.virtual_time import EPOCH, VirtualClock

KEY = Key("memop-system", "d4f3c8a2.c5c3.io")


class FakeLeases:
    """One Lease with optimistic concurrency; `fault` runs before every request."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.calls: list[str] = []
        self.fault: Callable[[str], Awaitable[None]] | None = None

    async def _arrive(self, verb: str) -> None:
        self.calls.append(verb)
        await asyncio.sleep(0.01)
        if self.fault is not None:
            await self.fault(verb)

    def store(self, lease: dict[str, Any]) -> bytes:
        self.version += 1
        self.lease = lease | {"metadata": lease["metadata"] | {"resourceVersion": str(self.version)}}
        return msgspec.json.encode(self.lease)

    async def get(self, resource: Resource, key: Key) -> bytes:
        assert (resource, key) == (LEASES, KEY)
        await self._arrive("get")
        if self.lease is None:
            raise NotFound("no lease", status=404)
        return msgspec.json.encode(self.lease)

    async def create(self, resource: Resource, namespace: str, body: Any) -> bytes:
        await self._arrive("create")
        if self.lease is not None:
            raise AlreadyExists("it is there", status=409)
        return self.store(body)

    async def replace(self, resource: Resource, key: Key, body: Any) -> bytes:
        await self._arrive("replace")
        if self.lease is None or body["metadata"].get("resourceVersion") != str(self.version):
            raise Conflict("it moved", status=409)
        return self.store(body)

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


class Candidate(LeaderElector):
    def __init__(self, leases: FakeLeases, identity: str, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        gauge = Gauge("leader_election_master_status", "", ["name"], registry=self.registry)
        super().__init__(
            leases,
            namespace=KEY.namespace,
            identity=identity,
            clock=clock,
            gauge=gauge,
            log=structlog.stdlib.get_logger(),
        )

    @property
    def master(self) -> float | None:
        return self.registry.get_sample_value("leader_election_master_status", {"name": KEY.name})


@pytest.fixture
def leases() -> FakeLeases:
    return FakeLeases()


def _held_by(identity: str, seconds: int = 15, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": KEY.namespace, "name": KEY.name, "labels": {"keep": "me"}}
    return {"metadata": metadata, "spec": {"holderIdentity": identity, "leaseDurationSeconds": seconds, **spec}}


async def _rest(verb: str) -> None:
    await asyncio.sleep(3600)


async def _unreachable(verb: str) -> None:
    raise Unreachable("no route")


async def test_a_missing_lease_is_created_with_client_gos_fields(leases: FakeLeases, clock: VirtualClock) -> None:
    a = Candidate(leases, "a", clock)
    await a.acquire()
    moment = EPOCH.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert leases.spec == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": moment,
        "renewTime": moment,
        "leaseTransitions": 0,
    }
    assert a.leading
    assert a.master == 1


async def test_a_held_lease_is_taken_only_after_it_stood_still_for_its_duration(
    leases: FakeLeases, clock: VirtualClock
) -> None:
    # Its times lie in the future: another's clock is not believed.
    leases.store(_held_by("go", 15, leaseTransitions=4, acquireTime="2099-01-01T00:00:00.000000Z"))
    a = Candidate(leases, "a", clock)
    taking, started = asyncio.create_task(a.acquire()), clock.monotonic()
    await asyncio.sleep(10)
    leases.store(_held_by("go", 15, leaseTransitions=4, renewTime="2000-01-01T00:00:00.000000Z"))
    await taking
    assert 25 < clock.monotonic() - started < 25 + 2 * 4.5
    assert leases.spec["leaseTransitions"] == 5
    assert leases.lease is not None
    assert leases.lease["metadata"]["labels"] == {"keep": "me"}


async def test_a_lease_that_somebody_deletes_is_left_to_its_holder_for_its_duration(
    leases: FakeLeases, clock: VirtualClock
) -> None:
    leases.store(_held_by("other"))
    a = Candidate(leases, "a", clock)
    task = asyncio.create_task(a.acquire())
    await clock.sleep(5)
    leases.lease = None
    await clock.sleep(8)
    assert leases.lease is None
    await task
    assert clock.monotonic() >= 15
    assert leases.spec["holderIdentity"] == "a"


async def test_a_released_lease_is_taken_at_the_next_try(leases: FakeLeases, clock: VirtualClock) -> None:
    a, b = Candidate(leases, "a", clock), Candidate(leases, "b", clock)
    await a.acquire()
    taking = asyncio.create_task(b.acquire())
    await asyncio.sleep(1)
    await a.release()
    assert leases.spec["holderIdentity"] == ""
    assert leases.spec["leaseDurationSeconds"] == 1
    assert leases.spec["leaseTransitions"] == 0
    assert (a.leading, a.master) == (False, 0)
    async with asyncio.timeout(4.5):
        await taking
    assert (leases.spec["holderIdentity"], leases.spec["leaseTransitions"]) == ("b", 1)
    assert leases.spec["leaseDurationSeconds"] == 15


async def test_a_lease_taken_by_a_write_whose_answer_never_came_is_released(
    leases: FakeLeases, clock: VirtualClock
) -> None:
    a = Candidate(leases, "a", clock)
    await a.acquire()
    same = Candidate(leases, "a", clock)  # as after a cancelled `acquire`: it does not know
    await same.release()
    assert leases.spec["holderIdentity"] == ""


async def test_only_our_own_lease_is_released(leases: FakeLeases, clock: VirtualClock) -> None:
    a = Candidate(leases, "a", clock)
    await a.release()
    assert leases.calls == ["get"]
    await a.acquire()
    leases.store(_held_by("b"))
    await a.release()
    assert leases.spec["holderIdentity"] == "b"


async def test_a_release_that_fails_or_hangs_ends_in_time(leases: FakeLeases, clock: VirtualClock) -> None:
    for fault in (_unreachable, _rest):
        leases.lease, leases.fault = None, None
        a = Candidate(leases, "a", clock)
        await a.acquire()
        leases.fault = fault
        async with asyncio.timeout(6):
            await a.release()
        assert not a.leading


async def test_holding_renews_in_one_request_and_keeps_the_acquire_time(
    leases: FakeLeases, clock: VirtualClock
) -> None:
    a = Candidate(leases, "a", clock)
    await a.acquire()
    acquired = leases.spec["acquireTime"]
    leases.calls.clear()
    holding = asyncio.create_task(a.hold())
    await asyncio.sleep(60)
    assert set(leases.calls) == {"replace"}
    assert 28 <= len(leases.calls) <= 30
    assert leases.spec["acquireTime"] == acquired
    assert leases.spec["renewTime"] > acquired
    assert a.leading
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding


async def test_a_conflict_is_looked_into_and_renewed(leases: FakeLeases, clock: VirtualClock) -> None:
    a = Candidate(leases, "a", clock)
    await a.acquire()
    holding = asyncio.create_task(a.hold())
    assert leases.lease is not None
    leases.store(leases.lease)  # somebody labelled it
    leases.calls.clear()
    await asyncio.sleep(3)
    assert leases.calls == ["replace", "get", "replace"]
    leases.lease = None  # somebody deleted it
    await asyncio.sleep(3)
    assert leases.spec["holderIdentity"] == "a"
    assert not holding.done()
    holding.cancel()
    await asyncio.wait([holding])


async def test_another_holder_ends_the_term_at_once_and_for_good(leases: FakeLeases, clock: VirtualClock) -> None:
    for identity in ("b", ""):
        leases.lease = None
        a = Candidate(leases, "a", clock)
        await a.acquire()
        leases.store(_held_by(identity, 0))
        started = clock.monotonic()
        with pytest.raises(LeadershipLost, match="held by"):
            await a.hold()
        assert clock.monotonic() - started < 3
        assert leases.spec["holderIdentity"] == identity
        assert a.master == 0


@pytest.mark.parametrize("fault", [_unreachable, _rest])
async def test_a_lease_that_cannot_be_renewed_is_lost_before_another_can_take_it(
    leases: FakeLeases, clock: VirtualClock, fault: Callable[[Any], Awaitable[None]]
) -> None:
    a = Candidate(leases, "a", clock)
    started = clock.monotonic()
    await a.acquire()
    leases.fault = fault
    with pytest.raises(LeadershipLost, match="not renewed within 10 s"):
        await a.hold()
    assert clock.monotonic() - started == pytest.approx(10, abs=0.1)
    assert not a.leading
    assert a.master == 0


async def test_one_hung_renewal_does_not_lose_the_lease(leases: FakeLeases, clock: VirtualClock) -> None:
    a = Candidate(leases, "a", clock)
    await a.acquire()
    holding = asyncio.create_task(a.hold())
    hung = 0

    async def once(verb: str) -> None:
        nonlocal hung
        hung += 1
        if hung == 1:
            await asyncio.sleep(3600)

    leases.fault = once
    await asyncio.sleep(60)
    assert not holding.done()
    holding.cancel()
    await asyncio.wait([holding])


async def test_a_renewal_counts_from_when_it_was_sent(leases: FakeLeases, clock: VirtualClock) -> None:
    a = Candidate(leases, "a", clock)
    await a.acquire()

    async def slow(verb: str) -> None:
        await asyncio.sleep(4.9)

    leases.fault = slow
    holding = asyncio.create_task(a.hold())
    await asyncio.sleep(2 + 4.95)
    sent = clock.monotonic() - 4.95
    leases.fault = _rest
    with pytest.raises(LeadershipLost):
        await holding
    assert clock.monotonic() - sent == pytest.approx(10, abs=0.1)


async def test_after_a_stall_of_the_process_the_term_is_over(leases: FakeLeases, clock: VirtualClock) -> None:
    a = Candidate(leases, "a", clock)
    await a.acquire()
    asyncio.get_running_loop()._advance(11)  # type: ignore[attr-defined]
    assert not a.leading
    with pytest.raises(LeadershipLost):
        await a.hold()
    assert "replace" not in leases.calls


async def test_never_two_leaders(leases: FakeLeases, clock: VirtualClock) -> None:
    candidates = [Candidate(leases, name, clock) for name in "abc"]
    terms: list[str] = []

    async def compete(candidate: Candidate) -> None:
        while True:
            await candidate.acquire()
            terms.append(candidate._identity)
            with contextlib.suppress(LeadershipLost):
                await candidate.hold()

    async def disturb() -> None:
        async def worse(verb: str) -> None:
            await asyncio.sleep(3600 if clock.monotonic() % 60 < 30 else 0)

        leases.fault = worse
        for _ in range(6000):
            await asyncio.sleep(0.1)
            assert sum(candidate.leading for candidate in candidates) <= 1

    tasks = [asyncio.create_task(compete(candidate)) for candidate in candidates]
    await disturb()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert len(terms) > 5
