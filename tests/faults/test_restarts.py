"""kube-apiserver and etcd die under work and come back; memop stays and ends where the API server says.

Each test has a level-1 cluster of its own, whose recorded processes it kills and starts again as they were.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from hack.cluster.layout import Layout
from hack.cluster.processes import Process, ProcessTable, end
from tests.support.apiserver import writes
from tests.support.kubectl import Json, Kubectl, eventually, memcached
from tests.support.operator import Operator

POOLS = 100
OUTAGE = 3.0  # seconds
API_SERVER, ETCD = "kube-apiserver", "etcd"
OURS = ("memcacheds", "deployments", "services", "poddisruptionbudgets", "events")


class ControlPlane:
    """The processes of one level-1 cluster."""

    def __init__(self, name: str) -> None:
        layout = Layout.of(name)
        self.kubeconfig = layout.kubeconfig
        self.data = layout.state / "etcd"
        self._table = ProcessTable(layout.pids, layout.logs)
        self._commands = {program: self._command(program) for program in (API_SERVER, ETCD)}

    def kill(self, *programs: str) -> None:
        """SIGKILL; returns when they are gone."""
        end(self._process(program) for program in programs)

    def shut_down(self, *programs: str) -> None:
        """SIGTERM, which ends every watch properly; returns when they are gone."""
        for program in sorted(programs, reverse=True):  # etcd last
            process = self._process(program)
            os.kill(process.pid, signal.SIGTERM)
            eventually(partial(assert_gone, process))

    def start(self, *programs: str) -> float:
        """Start them as `up` did, into the cluster's own records, so that `down` ends them; when the API is ready."""
        for program in sorted(programs):  # etcd first
            self._table.start(program, self._commands[program])
        kubectl = Kubectl("default")
        eventually(lambda: kubectl("get", "--raw", "/readyz", "--request-timeout=2s"), timeout=90)
        return time.monotonic()

    def _process(self, program: str) -> Process:
        process = self._table.find(program)
        assert process is not None, f"{program} was never started"
        return process

    def _command(self, program: str) -> list[str]:
        return Path(f"/proc/{self._process(program).pid}/cmdline").read_text().split("\0")[:-1]


def assert_gone(process: Process) -> None:
    assert not process.alive(), f"{process.name} is still there"


@pytest.fixture
def control_plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    name = f"restarts-{uuid.uuid4().hex[:8]}"
    tool = (sys.executable, "-m", "hack.cluster")
    try:
        level = ("--level", "1", "--provider", "binaries")
        # Shutting down, it waits as long for watches to end by themselves.
        subprocess.run([*tool, "up", *level, "--name", name, "--apiserver-arg", "request-timeout=5s"], check=True)
        plane = ControlPlane(name)
        monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
        yield plane
    finally:
        subprocess.run([*tool, "down", "--name", name], check=True)


@pytest.fixture
def pools(control_plane: ControlPlane) -> Kubectl:
    """kubectl in a namespace of the test's own, on the test's own cluster, with the CRDs."""
    printed = subprocess.run([sys.executable, "-m", "memop.cli", "crds"], capture_output=True, text=True, check=True)
    kubectl = Kubectl("pools")
    kubectl.install(printed.stdout)
    kubectl("create", "namespace", kubectl.namespace)
    return kubectl


@pytest.fixture
def memop(pools: Kubectl, tmp_path: Path) -> Iterator[Operator]:
    with Operator(tmp_path / "memop.log", f"--watch-namespaces={pools.namespace}") as operator:
        yield operator


class Work:
    """While the context lasts CRs are made and scaled, whether the API server answers or not."""

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
        made, turn = 0, 0
        while not self._stop.is_set():
            turn += 1
            if apply(self._kubectl, names("pool", made, made + 5), replicas=1, check=False):
                made = min(made + 5, POOLS)
            # The others are left alone once they are made: of them memop must not miss the one event that there is.
            first = 5 + turn * 5 % 45
            apply(self._kubectl, names("pool", first, min(first + 5, made)), replicas=turn % 7, check=False)
        while made < POOLS:
            assert apply(self._kubectl, names("pool", made, made + 10), replicas=1)
            made += 10


def names(prefix: str, first: int, last: int) -> list[str]:
    return [f"{prefix}-{number:03}" for number in range(first, min(last, POOLS))]


def apply(kubectl: Kubectl, pools: Sequence[str], *, replicas: int, check: bool = True) -> bool:
    if not pools:
        return True
    body = {"apiVersion": "v1", "kind": "List", "items": [memcached(name, replicas=replicas) for name in pools]}
    command = ("apply", "--server-side", "--field-manager=tests", "--request-timeout=5s", "-f", "-")
    return kubectl(*command, input=json.dumps(body), check=check).returncode == 0


def assert_converged(kubectl: Kubectl) -> None:
    """What the API server has: each CR with its children, once, as its spec says, and no child without a CR."""
    found: list[Json] = json.loads(kubectl("get", "memcacheds,deployments,services", "-o", "json").stdout)["items"]
    kinds: dict[str, dict[str, Json]] = {"Memcached": {}, "Deployment": {}, "Service": {}}
    for item in found:
        kinds[item["kind"]][item["metadata"]["name"]] = item
    crs = kinds.pop("Memcached")
    for kind, children in kinds.items():
        assert children.keys() == crs.keys(), (kind, children.keys() ^ crs.keys())
    for name, cr in crs.items():
        assert cr.get("status", {}).get("observedGeneration") == cr["metadata"]["generation"], name
        deployment = kinds["Deployment"][name]
        assert deployment["spec"]["replicas"] == cr["spec"]["replicas"], name
        for child in (deployment, kinds["Service"][name]):
            owners = [owner["uid"] for owner in child["metadata"].get("ownerReferences", ())]
            assert owners == [cr["metadata"]["uid"]], (child["kind"], name)


def count(kubectl: Kubectl) -> dict[str, int]:
    """Writes of what memop writes, since the API server started, by the API server's word."""
    return {what: number for what, number in writes(kubectl).items() if what.split()[1].split("/")[0] in OURS}


def assert_silent(kubectl: Kubectl, seconds: float = 5.0) -> None:
    time.sleep(2)  # Events trail
    before = count(kubectl)
    time.sleep(seconds)
    assert count(kubectl) == before


def assert_serves(kubectl: Kubectl, name: str, replicas: int, *, within: float = 5.0) -> float:
    """A change made now reaches the Deployment; after how many seconds."""
    started = time.monotonic()
    apply(kubectl, [name], replicas=replicas)
    eventually(lambda: assert_scaled(kubectl, name, replicas), timeout=within, interval=0.1)
    return time.monotonic() - started


def assert_scaled(kubectl: Kubectl, name: str, replicas: int) -> None:
    deployment = kubectl.find("deployment", name)
    assert deployment is not None, name
    assert deployment["spec"]["replicas"] == replicas, name


@contextmanager
def told(what: str) -> Iterator[Callable[[str], None]]:
    """Print what was measured, whatever becomes of the test."""
    measured: list[str] = []
    try:
        yield measured.append
    finally:
        print(f"\n{what}: {', '.join(measured)}")  # noqa: T201 - quoted in release notes


def seconds_until(check: Callable[[], None], since: float, *, timeout: float) -> float:
    eventually(check, timeout=timeout)
    return time.monotonic() - since


@pytest.mark.parametrize("killed", [(API_SERVER,), (ETCD,), (API_SERVER, ETCD)], ids=["kube-apiserver", "etcd", "both"])
def test_memop_outlives_an_outage_and_ends_where_the_api_server_says(
    control_plane: ControlPlane, pools: Kubectl, memop: Operator, killed: tuple[str, ...]
) -> None:
    with told(f"{' and '.join(killed)} killed for {OUTAGE:g} s") as tell:
        with Work(pools):
            time.sleep(3)
            control_plane.kill(*killed)
            time.sleep(OUTAGE)
            back = control_plane.start(*killed)
            apply(pools, ["pool-000"], replicas=5)
            served = seconds_until(lambda: assert_served_since(pools, "pool-000"), back, timeout=30)
            tell(f"served again {served:.1f} s after the API server")
        converged = seconds_until(lambda: assert_converged(pools), time.monotonic(), timeout=30)
        tell(f"all {POOLS} as wanted {converged:.1f} s after the last change")
        assert len(pools.list("memcacheds")) == POOLS
        assert_silent(pools)
        memop.assert_ready()
        tell(f"a later change took {assert_serves(pools, 'pool-001', 9):.1f} s")


def assert_served_since(kubectl: Kubectl, name: str) -> None:
    cr = kubectl.get("memcached", name)
    assert cr.get("status", {}).get("observedGeneration") == cr["metadata"]["generation"]
    assert_scaled(kubectl, name, cr["spec"]["replicas"])


@pytest.mark.parametrize("stop", [ControlPlane.kill, ControlPlane.shut_down], ids=["killed", "shut-down"])
def test_memop_follows_etcd_back_to_an_older_state(
    control_plane: ControlPlane,
    pools: Kubectl,
    memop: Operator,
    tmp_path: Path,
    stop: Callable[..., None],
) -> None:
    """A restore from a backup: versions go backwards, what was made since is gone, what was deleted is back.

    memop ends, as its caches are of a history that never was, and does well once it is started again, as kubelet does.
    """
    everything = (API_SERVER, ETCD)
    backup = tmp_path / "etcd"
    apply(pools, names("old", 0, 50), replicas=1)
    eventually(lambda: assert_converged(pools))
    control_plane.kill(*everything)
    shutil.copytree(control_plane.data, backup)
    control_plane.start(*everything)

    apply(pools, names("old", 0, 50), replicas=2)
    apply(pools, names("new", 0, 50), replicas=1)
    eventually(lambda: assert_converged(pools))
    pools("delete", "memcacheds,deployments,services", *names("old", 0, 5))
    memop.assert_ready()

    with told(f"etcd restored to an older state, {stop.__name__}") as tell:
        apply(pools, names("late", 0, 50), replicas=1)  # which leaves memop at work
        stop(control_plane, *everything)
        shutil.rmtree(control_plane.data)
        shutil.copytree(backup, control_plane.data)
        back = control_plane.start(*everything)
        apply(pools, ["old-010", "new-010"], replicas=5)  # one that lived through it, and one whose name was taken
        ended = seconds_until(lambda: assert_ended(memop), back, timeout=30)
        tell(f"memop ended {ended:.1f} s after the API server was back")
        assert "the API server was set back to an older state" in memop.log_path.read_text()
        assert_no_strays(pools)
        memop.start()
        converged = seconds_until(lambda: assert_converged(pools), time.monotonic(), timeout=30)
        tell(f"all as wanted {converged:.1f} s after it was started again")
        assert {cr["metadata"]["name"] for cr in pools.list("memcacheds")} == {*names("old", 0, 50), "new-010"}
        assert_silent(pools)
        memop.assert_ready()
        tell(f"a later change took {assert_serves(pools, 'old-011', 9):.1f} s")


def assert_ended(memop: Operator) -> None:
    assert memop.poll() == 1, f"exit code {memop.poll()}"


def assert_no_strays(kubectl: Kubectl) -> None:
    """Nothing was made of the CRs that are no more, and nothing scaled to what they once said."""
    crs = {cr["metadata"]["name"]: cr for cr in kubectl.list("memcacheds")}
    deployments = {item["metadata"]["name"]: item for item in kubectl.list("deployments")}
    services = {item["metadata"]["name"] for item in kubectl.list("services")}
    assert not (deployments.keys() | services) - crs.keys()
    for name, deployment in deployments.items():
        assert deployment["spec"]["replicas"] in (1, crs[name]["spec"]["replicas"]), name
        assert deployment["metadata"]["generation"] <= 2, name
