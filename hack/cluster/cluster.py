"""A cluster from its own binaries: the order in which things start, and how all of it goes away."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hack.cluster import network, prerequisites
from hack.cluster.binaries import Finder
from hack.cluster.components import METRICS_SERVER_PORT, NODE_NAME, Components, Ports, node_directories
from hack.cluster.crds import CrdStore
from hack.cluster.errors import ClusterError
from hack.cluster.images import ImageStore
from hack.cluster.kubernetes import Api, http_ok, node_ready, resolves
from hack.cluster.layout import Layout, cache_dir
from hack.cluster.mountpoints import Mountpoints, remove_empty
from hack.cluster.processes import Process, ProcessTable, end, wait_for
from hack.cluster.progress import Progress
from hack.cluster.versions import KUBERNETES, catalogue, crds, load_versions

HERE = Path(__file__).resolve().parent
HOLDER = "namespaces"

_PROGRAMS = {
    1: ("etcd", "kube-apiserver", "kubectl"),
    2: ("kube-controller-manager", "kube-scheduler", "kwok"),
    3: ("kubelet", "kube-proxy", "coredns", "metrics-server"),
}


def programs_of(level: int) -> list[str]:
    """The binaries a level needs: its own and those of the levels below."""
    return [name for lower in range(1, level + 1) for name in _PROGRAMS[lower]]


@dataclass(frozen=True)
class Record:
    """What is written down about a cluster. `finished` says that `up` came to its end."""

    provider: str
    level: int
    kubernetes: str  # "v1.34.4"
    ports: Ports
    api_server_arguments: tuple[str, ...] = ()
    finished: bool = False

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".part")
        half.write_text(json.dumps(asdict(self), indent=2))
        half.rename(path)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(
            provider=content["provider"],
            level=content["level"],
            kubernetes=content["kubernetes"],
            ports=Ports(**content["ports"]),
            api_server_arguments=tuple(content["api_server_arguments"]),
            finished=content["finished"],
        )


class Cluster:
    """One cluster of this checkout."""

    def __init__(self, layout: Layout, progress: Progress) -> None:
        self.layout = layout
        self.progress = progress
        self.table = ProcessTable(layout.pids, layout.logs)
        self.cgroup = network.Cgroup(layout.id)

    # -- up ---------------------------------------------------------------------------------------------------------

    def up(
        self,
        level: int,
        api_server_arguments: Sequence[str] = (),
        *,
        install: bool = True,
        kubernetes_project: str = KUBERNETES,
    ) -> None:
        """Brings the cluster up. The caller has made sure that there is none."""
        versions = load_versions()
        binaries = catalogue(versions, kubernetes_project)
        wanted = [binaries[name] for name in programs_of(level)]
        finder = Finder(cache_dir(), self.progress)
        images = ImageStore(cache_dir(), finder, self.progress)
        if level == 3:
            lacking_images = prerequisites.IMAGES if any(r.packages for r in images.missing(binaries)) else ()
            prerequisites.ensure(
                (*prerequisites.NODE, *lacking_images, *prerequisites.OPERATOR_IMAGE),
                self.progress,
                cache_dir() / "logs" / "apt-get.log",
                install=install,
            )
        programs = finder.find(wanted)
        archives = images.ensure(binaries) if level == 3 else []
        # Not for the cluster: for tests, which cannot fetch them from inside a node's network.
        CrdStore(cache_dir(), self.progress).ensure(crds(versions).values())

        ports = Ports() if level == 3 else free_ports()
        record = Record("binaries", level, versions[kubernetes_project], ports, tuple(api_server_arguments))
        record.write(self.layout.record)
        link_programs(self.layout.bin, programs)
        parts = Components(self.layout, level, ports, programs)
        parts.write_pki()

        if level == 3:
            self._make_node()
        self._start_control_plane(parts, api_server_arguments)
        if level >= 2:
            self._start_controllers(parts)
        if level == 3:
            self._start_node(parts, archives)
        replace(record, finished=True).write(self.layout.record)

    def _make_node(self) -> None:
        with self.progress.phase("network, mounts, cgroup", "made"):
            self._mountpoints.claim()
            self.cgroup.create()
            holder = network.hold(self.table, self.cgroup.procs(), self._confirmation)
            network.set_up_mounts(holder, self._binds())
            network.enter_network(holder)
            network.set_up_interfaces()

    def _binds(self) -> dict[Path, Path]:
        directories = node_directories(self.layout)
        for source in directories.values():
            source.mkdir(parents=True, exist_ok=True)
        # containerd asks the machine's name servers for registries; none can be reached, and waiting for them would
        # keep a pod with an unknown image from saying so. CoreDNS refuses such names at once.
        resolver = self.layout.state / "node" / "resolv.conf"
        resolver.write_text(f"nameserver {network.NODE_IP}\n")
        return directories | {Path("/etc/resolv.conf"): resolver}

    def _start_control_plane(self, parts: Components, arguments: Sequence[str]) -> None:
        self._start("etcd", parts.etcd(), lambda: http_ok("127.0.0.1", parts.ports.etcd, "/health"))
        api = api_of(parts)
        self._start("kube-apiserver", parts.api_server(arguments), api.healthy, seconds=90)

    def _start_controllers(self, parts: Components) -> None:
        api = api_of(parts)
        commands = {
            "kube-controller-manager": (parts.controller_manager(), parts.ports.controller_manager),
            "kube-scheduler": (parts.scheduler(), parts.ports.scheduler),
        }
        started = {name: self._spawn(name, command) for name, (command, _) in commands.items()}
        kwok = self._spawn("kwok", parts.kwok())
        for name, (_, port) in commands.items():
            self._await(started[name], partial(api.healthy, "/healthz", f"https://{parts.address}:{port}"))
        with self.progress.phase("default ServiceAccount"):
            # The controller manager is healthy before its controllers have done anything; pods need this one.
            wait_for(
                lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None,
                seconds=60,
                failure=lambda: ClusterError(
                    "no default ServiceAccount was made", log=self.layout.log("kube-controller-manager")
                ),
            )
        self._await(kwok, lambda: http_ok(parts.address, parts.ports.kwok, "/healthz"))
        if parts.level == 2:
            self._create(parts, HERE / "fake-node.yaml")

    def _start_node(self, parts: Components, archives: Sequence[Path]) -> None:
        holder = self._holder()
        inside = network.in_mounts(holder)
        self._create(parts, HERE / "bootstrap.yaml")
        self._start("containerd", [*inside, *parts.containerd()], lambda: self._ctr_answers(parts))
        kubelet = self._spawn("kubelet", [*inside, *parts.kubelet()])
        proxy = self._spawn("kube-proxy", parts.kube_proxy())
        coredns = self._spawn("coredns", parts.coredns())
        metrics_server = self._spawn("metrics-server", parts.metrics_server())
        with self.progress.phase("images", "imported"):
            for archive in archives:
                self._import(parts, archive)
        self._await(proxy, lambda: http_ok(network.NODE_IP, 10256, "/healthz"))
        self._await(coredns, lambda: http_ok(network.NODE_IP, 8181, "/ready"))
        api = api_of(parts)
        self._await(kubelet, lambda: node_ready(api.get(f"/api/v1/nodes/{NODE_NAME}")), seconds=90)
        with self.progress.phase("names through the Service of CoreDNS"):
            wait_for(
                lambda: resolves(network.DNS_SERVICE_IP, "kubernetes.default.svc.cluster.local"),
                seconds=30,
                failure=lambda: ClusterError(
                    f"{network.DNS_SERVICE_IP} answers no query", log=self.layout.log("kube-proxy")
                ),
            )
        self._await(metrics_server, partial(api.healthy, "/livez", f"https://{network.NODE_IP}:{METRICS_SERVER_PORT}"))
        # As long as an API is announced and not served, no namespace can be deleted: announced last, and waited for.
        self._create(parts, parts.metrics_api())
        with self.progress.phase("metrics.k8s.io through the API server"):
            wait_for(
                lambda: api.get("/apis/metrics.k8s.io/v1beta1") is not None,
                seconds=30,
                failure=lambda: ClusterError("metrics.k8s.io is not served", log=self.layout.log("metrics-server")),
            )

    def _spawn(self, name: str, command: Sequence[str | Path]) -> Process:
        join = self.cgroup.procs() if self.table.find(HOLDER) is not None else ()
        return self.table.start(name, command, join=join)

    def _start(self, name: str, command: Sequence[str | Path], ready: Callable[[], bool], seconds: float = 60) -> None:
        self._await(self._spawn(name, command), ready, seconds)

    def _await(self, process: Process, ready: Callable[[], bool], seconds: float = 60) -> None:
        with self.progress.phase(process.name):
            wait_for(
                ready,
                seconds=seconds,
                failure=lambda: ClusterError(
                    f"{process.name} {'is not ready' if process.alive() else 'has ended'}",
                    log=process.log,
                    hint="`down` removes what was started",
                ),
                still_possible=process.alive,
            )

    def _create(self, parts: Components, manifest: Path) -> None:
        with self.progress.phase(manifest.name, "created"):
            command = [str(parts.programs["kubectl"]), f"--kubeconfig={self.layout.kubeconfig}", "create"]
            run([*command, "--validate=false", "-f", str(manifest)], f"creating {manifest.name}")

    # -- images ------------------------------------------------------------------------------------------------------

    def load_image(self, archive: Path) -> None:
        """Imports an image archive (docker-archive or oci-archive) into the running node."""
        record = self.require_running()
        if record.level < 3:
            raise ClusterError(f"level {record.level} has no node to load images into", hint="use --level 3")
        if not archive.is_file():
            raise ClusterError(f"{archive} is no file")
        with self.progress.phase(f"image {archive.name}", "imported"):
            self._import(self._parts(record), archive.resolve())

    def _import(self, parts: Components, archive: Path) -> None:
        inside = network.in_mounts(self._holder())
        command = [*inside, *map(str, parts.ctr("images", "import", "--snapshotter", "overlayfs", archive))]
        run(command, f"importing {archive}")

    def _ctr_answers(self, parts: Components) -> bool:
        command = [*network.in_mounts(self._holder()), *map(str, parts.ctr("version"))]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    # -- down --------------------------------------------------------------------------------------------------------

    def down(self) -> bool:
        """Removes everything, also after an `up` that was interrupted. False when there was nothing."""
        record = self.record()
        if record is not None and record.level == 3 and os.geteuid() != 0:
            raise ClusterError("this cluster was made by root", hint="run `down` as root")
        processes = self.table.all()
        if not self.layout.state.exists() and not self.layout.run.exists() and not self._has_cgroup():
            return False
        holder = self.table.find(HOLDER)
        with self.progress.phase(f"{len(processes)} processes", "ended"):
            if holder is not None:
                network.kill_in_network(holder, self._confirmation)
            end(processes)
            if self._has_cgroup():
                self.cgroup.kill_members()
        with self.progress.phase("files and cgroups", "removed"):
            if self._has_cgroup():
                self.cgroup.remove()
            if self.layout.run.exists():
                self._mountpoints.release()
            if self.layout.state.exists():
                shutil.rmtree(self.layout.state)
            remove_empty(self.layout.state.parent)
        return True

    def _has_cgroup(self) -> bool:
        return os.geteuid() == 0 and self.cgroup.root.is_dir() and self.cgroup.exists()

    # -- looking -----------------------------------------------------------------------------------------------------

    def record(self) -> Record | None:
        return Record.read(self.layout.record)

    def complaints(self, record: Record) -> list[str]:
        """What is wrong with a cluster that was brought up; empty when it is well."""
        if not record.finished:
            return ["an earlier `up` did not come to its end"]
        dead = [process for process in self.table.all() if not process.alive()]
        if dead:
            return [f"{process.name} has ended; log: {process.log}" for process in dead]
        parts = self._parts(record)
        if record.level == 3:
            network.enter_network(self._holder())
        if not api_of(parts).healthy():
            return [f"the API server is not ready; log: {self.layout.log('kube-apiserver')}"]
        if record.level == 3 and not node_ready(api_of(parts).get(f"/api/v1/nodes/{NODE_NAME}")):
            return [f"node {NODE_NAME} is not Ready; log: {self.layout.log('kubelet')}"]
        return []

    def require_running(self) -> Record:
        record = self.record()
        if record is None:
            raise ClusterError(f"there is no cluster {self.layout.name}", hint="bring it up with `up`")
        if complaints := self.complaints(record):
            raise ClusterError("; ".join(complaints), hint="`down`, then `up`")
        return record

    def enter(self, command: Sequence[str]) -> list[str]:
        """`command`, made to reach the cluster."""
        record = self.record()
        is_node = record is not None and record.provider == "binaries" and record.level == 3
        return [*(network.in_network(self._holder()) if is_node else []), *command]

    def environment(self, record: Record) -> dict[str, str]:
        """What a command needs to know about the cluster."""
        return {
            "KUBECONFIG": str(self.layout.kubeconfig),
            "PATH": f"{self.layout.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MEMOP_CLUSTER_NAME": self.layout.name,
            "MEMOP_CLUSTER_LEVEL": str(record.level),
            "MEMOP_CLUSTER_PROVIDER": record.provider,
            "MEMOP_CLUSTER_STATE": str(self.layout.state),
        }

    @property
    def _mountpoints(self) -> Mountpoints:
        lock = cache_dir() / "locks" / "mountpoints.lock"
        return Mountpoints(self.layout.run, tuple(node_directories(self.layout)), lock)

    @property
    def _confirmation(self) -> Path:
        return self.layout.state / "network-namespace"

    def _holder(self) -> Process:
        holder = self.table.find(HOLDER)
        if holder is None or not holder.alive():
            raise ClusterError("the process that holds the node's namespaces has ended", hint="`down`, then `up`")
        return holder

    def _parts(self, record: Record) -> Components:
        return Components(self.layout, record.level, record.ports, {})


def api_of(parts: Components) -> Api:
    return Api(parts.server, parts.authority, parts.admin)


def free_ports() -> Ports:
    """Ports nobody listens on now. All are held until all are known, so that none is given twice."""
    sockets = [socket.socket() for _ in range(6)]
    try:
        for candidate in sockets:
            candidate.bind(("127.0.0.1", 0))
        return Ports(*(candidate.getsockname()[1] for candidate in sockets))
    finally:
        for candidate in sockets:
            candidate.close()


def link_programs(directory: Path, programs: dict[str, Path]) -> None:
    """One directory with exactly the programs of this cluster, for $PATH."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        (directory / name).unlink(missing_ok=True)
        (directory / name).symlink_to(program.resolve())


def run(command: Sequence[str], purpose: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"{purpose} failed: {(done.stderr or done.stdout).strip()}")
