"""Two replicas and one Lease: whatever becomes of the leader, no two write, and another takes over in time.

Each replica has a `Wire` and a `FaultProxy` of its own: what a proxy has written down is what reached the API server.
"""

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import pytest

from tests.support.kubectl import Json, Kubectl, eventually, memcached
from tests.support.operator import Operator
from tests.support.proxy import FaultProxy, Request

LEASE = "d4f3c8a2.c5c3.io"
POOLS = 10


class Times:
    """Of a Lease, in seconds; `takeover` is the most that another candidate takes after the last renewal."""

    def __init__(self, lease: float, renew: float, retry: float) -> None:
        self.lease, self.renew, self.retry = lease, renew, retry
        self.pause = 2.2 * retry  # a candidate's longest between two looks
        self.takeover = self.pause + lease + self.pause
        self.flags = (
            f"--leader-election-lease-duration={lease:g}s",
            f"--leader-election-renew-deadline={renew:g}s",
            f"--leader-election-retry-period={retry:g}s",
        )


DEFAULT = Times(15, 10, 2)
SHORT = Times(6, 4, 0.5)
SLACK = 1.5  # seconds for a process to end, or to write, on a busy machine


class Wire:
    """The network between memop and its proxy, which may fail without a word: then nothing passes, in no direction.

    What its sender has not got across when the network comes back is delivered late where the sender has closed the
    connection since, as its kernel goes on to retransmit, and never where it has reset it.
    """

    def __init__(self, port: int) -> None:
        self.cut_at: float | None = None
        self._to = port
        self._cut_by: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire")

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._call(self._open())
        return self

    def __exit__(self, *exc: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut_at_request(self, start: bytes) -> None:
        """Fail with the first request that starts so, which is held; returns when that has happened."""
        self._cut_by = start
        eventually(self._assert_cut, timeout=30, interval=0.01)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._passes.set)

    def _assert_cut(self) -> None:
        assert self.cut_at is not None, f"no {self._cut_by!r} came"

    def _call(self, coroutine: object) -> int:
        assert asyncio.iscoroutine(coroutine)
        future: Future[int] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(10)

    async def _open(self) -> int:
        self._passes = asyncio.Event()
        self._passes.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._tasks = {self._loop.create_task(self._accept())}
        return int(self._listener.getsockname()[1])

    async def _close(self) -> int:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listener.close()
        return 0

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            near.setblocking(False)
            self._tasks.add(self._loop.create_task(self._connect(near)))

    async def _connect(self, near: socket.socket) -> None:
        with near, socket.socket() as far, suppress(ConnectionError):
            far.setblocking(False)
            await self._passes.wait()
            await self._loop.sock_connect(far, ("127.0.0.1", self._to))
            async with asyncio.TaskGroup() as both:
                back = both.create_task(self._carry(far, near))
                await self._carry(near, far, watched=True)
                back.cancel()

    async def _carry(self, sender: socket.socket, receiver: socket.socket, *, watched: bool = False) -> None:
        while True:
            data = await self._loop.sock_recv(sender, 1 << 16)
            if watched and self._cut_by is not None and data.startswith(self._cut_by):
                self._cut_by, self.cut_at = None, time.monotonic()
                self._passes.clear()
            if not self._passes.is_set():
                await self._passes.wait()
                if sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return
            if not data:
                # An end does not overtake: the server has begun with a request when it learns that nobody waits.
                await asyncio.sleep(0.5)
                return
            await self._loop.sock_sendall(receiver, data)


class Replica:
    """One memop that leads or stands by, its network, and what of it reached the API server."""

    def __init__(self, directory: Path, namespace: str, *flags: str) -> None:
        directory.mkdir()
        self._stack = ExitStack()
        self.proxy = FaultProxy(directory / "proxy")
        self._directory = directory
        self._flags = (
            "--leader-elect",
            f"--leader-election-namespace={namespace}",
            f"--watch-namespaces={namespace}",
            *flags,
        )

    def start(self) -> Self:
        self._stack.enter_context(self.proxy)
        direct = self.proxy.kubeconfig.read_text()
        port = int(direct.partition("http://127.0.0.1:")[2].split()[0])
        self.wire = self._stack.enter_context(Wire(port))
        kubeconfig = self._directory / "kubeconfig"
        kubeconfig.write_text(direct.replace(f":{port}", f":{self.wire.port}"))
        self.memop = Operator(self._directory / "memop.log", *self._flags, environ={"KUBECONFIG": str(kubeconfig)})
        self._stack.enter_context(self.memop)
        return self

    def stop(self) -> None:
        self._stack.close()

    def signal(self, number: signal.Signals) -> float:
        process = self.memop._process
        assert process is not None
        process.send_signal(number)
        return time.monotonic()

    @property
    def writes(self) -> list[Request]:
        """Writes of users' objects and Events that reached the API server."""
        return [request for request in list(self.proxy.requests) if request.writes]

    def assert_ended(self, code: int) -> None:
        assert self.memop.poll() == code, f"exit code {self.memop.poll()}"

    def assert_acts(self) -> None:
        assert self.writes, f"{self.memop.log_path} has written nothing yet"


Start = Callable[..., Replica]


@pytest.fixture
def start(kubectl: Kubectl, tmp_path: Path) -> Iterator[Start]:
    """Start another replica with the times given; the first leads before the second comes."""
    replicas: list[Replica] = []

    def start(times: Times) -> Replica:
        replica = Replica(tmp_path / f"replica-{len(replicas)}", kubectl.namespace, *times.flags)
        replicas.append(replica)
        return replica.start()

    yield start
    for replica in replicas:
        replica.stop()


class Work:
    """Pools scaled without end, while the context lasts."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="work")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            self._kubectl.apply(*(memcached(f"pool-{number}", replicas=(turn + number) % 5) for number in range(POOLS)))


def assert_converged(kubectl: Kubectl) -> None:
    """Every pool has its children, once, as its spec says now."""
    found: list[Json] = json.loads(kubectl("get", "memcacheds,deployments,services", "-o", "json").stdout)["items"]
    crs = {item["metadata"]["name"]: item for item in found if item["kind"] == "Memcached"}
    assert len(crs) == POOLS
    for kind in ("Deployment", "Service"):
        children = {item["metadata"]["name"]: item for item in found if item["kind"] == kind}
        assert children.keys() == crs.keys(), kind
        for name, cr in crs.items():
            assert [owner["uid"] for owner in children[name]["metadata"]["ownerReferences"]] == [cr["metadata"]["uid"]]
            if kind == "Deployment":
                assert children[name]["spec"]["replicas"] == cr["spec"]["replicas"], name
    for name, cr in crs.items():
        assert cr.get("status", {}).get("observedGeneration") == cr["metadata"]["generation"], name


def assert_one_at_a_time(old: Replica, new: Replica) -> None:
    """Nothing of the old leader's reached the API server once the new one had begun to write.

    But Events: they tell of what was done before, and are as true a second later.
    """
    begun = min(request.at for request in new.writes)
    acts = [request for request in old.writes if request.resource != "events"]
    late = [f"{request.at - begun:.3f} s later: {request}" for request in acts if request.at > begun]
    assert not late, late


def takes_over(replica: Replica, since: float, *, timeout: float) -> float:
    """How long after `since` the replica wrote for the first time."""
    eventually(replica.assert_acts, timeout=timeout + 10, interval=0.05)
    seconds = replica.writes[0].at - since
    assert seconds < timeout, f"the takeover took {seconds:.1f} s"
    return seconds


def finish(kubectl: Kubectl, old: Replica, new: Replica) -> None:
    """After everything: as the CRs say, no two writers, and silence."""
    eventually(lambda: assert_converged(kubectl), timeout=30)
    eventually(lambda: assert_silent(new), timeout=60)
    assert_one_at_a_time(old, new)
    new.memop.assert_ready()


def assert_silent(replica: Replica, seconds: float = 5.0) -> None:
    """Nothing has been written for a while: pods that become ready late are told of late."""
    assert replica.proxy.quiet_for() > seconds


def report(what: str, seconds: float) -> None:
    print(f"\n{what}: the other replica wrote {seconds:.1f} s later")  # noqa: T201 - quoted in release notes


def two(start: Start, kubectl: Kubectl, times: Times) -> tuple[Replica, Replica]:
    """A leader whose pools are as wanted, and a replica that stands by and has seen its Lease."""
    leader = start(times)
    kubectl.apply(*(memcached(f"pool-{number}", replicas=1) for number in range(POOLS)))
    eventually(lambda: assert_converged(kubectl))
    other = start(times)
    eventually(lambda: assert_stands_by(other))
    return leader, other


def assert_stands_by(replica: Replica) -> None:
    assert any(line["msg"] == "the lease is held" for line in replica.memop.log())


@pytest.mark.parametrize("times", [DEFAULT, SHORT], ids=["15-10-2", "6-4-0.5"])
def test_a_leader_cut_off_ends_before_another_acts_and_nothing_of_it_comes_late(
    kubectl: Kubectl, start: Start, times: Times
) -> None:
    """The network fails with a write on its way, and comes back when another leads."""
    leader, other = two(start, kubectl, times)
    with Work(kubectl):
        time.sleep(1)
        leader.wire.cut_at_request(b"PATCH ")
        cut_at = leader.wire.cut_at
        assert cut_at is not None
        eventually(lambda: leader.assert_ended(1), timeout=times.takeover, interval=0.05)
        assert not other.writes, "the other did not wait for the leader's end"
        assert "ending so that no two processes act" in leader.memop.log_path.read_text()
        took = takes_over(other, cut_at, timeout=times.takeover + SLACK)
        report("the leader was cut off", took)
        leader.wire.mend()
        time.sleep(2)
    finish(kubectl, leader, other)


def test_a_killed_leader_is_followed_when_its_lease_has_run_out(kubectl: Kubectl, start: Start) -> None:
    leader, other = two(start, kubectl, SHORT)
    with Work(kubectl):
        time.sleep(1)
        killed_at = leader.signal(signal.SIGKILL)
        report("the leader was killed", takes_over(other, killed_at, timeout=SHORT.takeover + SLACK))
    finish(kubectl, leader, other)


def test_a_leader_asked_to_end_is_followed_at_once(kubectl: Kubectl, start: Start) -> None:
    """It releases the Lease: the other waits for its next look alone, not for the Lease to run out."""
    leader, other = two(start, kubectl, DEFAULT)
    with Work(kubectl):
        time.sleep(1)
        asked_at = leader.signal(signal.SIGTERM)
        report("the leader was asked to end", takes_over(other, asked_at, timeout=DEFAULT.pause + SLACK))
        eventually(lambda: leader.assert_ended(0), timeout=10, interval=0.05)
    finish(kubectl, leader, other)


def test_a_leader_that_was_suspended_writes_nothing_when_it_wakes(kubectl: Kubectl, start: Start) -> None:
    """SIGSTOP for longer than the Lease lasts: at SIGCONT what it is to react to awaits it, and another leads."""
    leader, other = two(start, kubectl, SHORT)
    with Work(kubectl):
        time.sleep(1)
        stopped_at = leader.signal(signal.SIGSTOP)
        report("the leader was suspended", takes_over(other, stopped_at, timeout=SHORT.takeover + SLACK))
        time.sleep(1)
        leader.signal(signal.SIGCONT)
        eventually(lambda: leader.assert_ended(1), timeout=10, interval=0.05)
    finish(kubectl, leader, other)


def test_a_leader_whose_lease_somebody_else_takes_ends(kubectl: Kubectl, start: Start) -> None:
    """By an edit of its holder, say. Nobody acts then until the strange holder's time has run out."""
    leader, other = two(start, kubectl, SHORT)
    with Work(kubectl):
        time.sleep(1)
        kubectl.patch("lease", LEASE, {"spec": {"holderIdentity": "somebody"}})
        taken_at = time.monotonic()
        eventually(lambda: leader.assert_ended(1), timeout=SHORT.lease, interval=0.05)
        assert not other.writes
        assert "held by somebody" in leader.memop.log_path.read_text()
        took = takes_over(other, taken_at, timeout=SHORT.takeover + SLACK)
        assert took > SHORT.lease - SHORT.retry, "the strange holder was not waited for"
    finish(kubectl, leader, other)


def test_a_deleted_lease_makes_no_two_leaders(kubectl: Kubectl, start: Start) -> None:
    """Its holder writes it again and goes on; the other waits as long as for one that is held."""
    leader, other = two(start, kubectl, DEFAULT)
    holder = kubectl.get("lease", LEASE)["spec"]["holderIdentity"]
    with Work(kubectl):
        for _ in range(3):
            kubectl("delete", "lease", LEASE)
            lease = eventually(lambda: kubectl.get("lease", LEASE), timeout=DEFAULT.takeover)
            assert lease["spec"]["holderIdentity"] == holder
            time.sleep(DEFAULT.pause)
        assert not other.writes
        leader.signal(signal.SIGTERM)
        takes_over(other, time.monotonic(), timeout=DEFAULT.pause + SLACK)
    finish(kubectl, leader, other)
