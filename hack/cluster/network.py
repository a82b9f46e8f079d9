"""The network and mount namespaces a node lives in, and the cgroup everything of it belongs to.

The namespaces are held by a process and have no name in the file system: when the last process in them has ended, the
kernel takes interfaces, routes, nftables rules and mounts away. No way leads out of the network: its default route
points at a neighbour that doesn't exist.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.processes import Process, ProcessTable, family, wait_for

NODE_IP = "198.18.0.1"
POD_CIDR = "198.19.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"

_CLONE_NEWNET = 0x40000000
_CGROUPS = Path("/sys/fs/cgroup")

# A bridge needs a port that is up to be up itself, and not every kernel has `dummy`: a veth pair is the port.
_INTERFACES = f"""\
link set lo up
link add node0 type bridge
link add node0p type veth peer name node0q
link set node0p master node0
link set node0p up
link set node0q up
address add {NODE_IP}/24 dev node0
link set node0 up
route add default via 198.18.0.2
"""
_SYSCTLS = ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables")


def hold(table: ProcessTable, cgroups: Sequence[Path], confirmation: Path) -> Process:
    """Starts the process whose namespaces the node uses; `confirmation` names its network once it has its own."""
    command = ["unshare", "--net", "--mount", "--propagation", "private", "sleep", "infinity"]
    holder = table.start("namespaces", command, join=cgroups)
    own = Path("/proc/self/ns/net").stat().st_ino
    wait_for(
        lambda: holder.alive() and namespace_inode(holder) != own,
        seconds=10,
        failure=lambda: ClusterError("no namespaces could be made", log=holder.log, hint="run as root"),
        still_possible=holder.alive,
    )
    confirmation.write_text(str(namespace_inode(holder)))
    return holder


def namespace_inode(holder: Process) -> int:
    return Path(f"/proc/{holder.pid}/ns/net").stat().st_ino


def enter_network(holder: Process) -> None:
    """Moves this thread, and what it starts from now on, into the node's network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{holder.pid}/ns/net").open("rb") as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise ClusterError(f"cannot enter the node's network: {os.strerror(code)}", hint="run as root")


def in_network(holder: Process) -> list[str]:
    """The words to put before a command so that it runs in the node's network.

    Not `ip netns exec`: that mounts /sys anew, which hides the cgroups.
    """
    return ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]


def in_mounts(holder: Process) -> list[str]:
    """The words to put before a command so that it sees the node's mounts (the network is inherited)."""
    return ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--"]


def set_up_interfaces() -> None:
    """Makes the node's address. Called inside the node's network."""
    _run(["ip", "-batch", "-"], text=_INTERFACES)
    if not (Path("/proc/sys") / _SYSCTLS[1]).exists():
        subprocess.run(["modprobe", "br_netfilter"], check=False, capture_output=True)
    for name in _SYSCTLS:
        try:
            (Path("/proc/sys") / name).write_text("1")
        except OSError as error:
            raise ClusterError(
                f"sysctl {name.replace('/', '.')} cannot be set: {error}", hint="load the br_netfilter kernel module"
            ) from error


def set_up_mounts(holder: Process, binds: dict[Path, Path]) -> None:
    """Lays the node's own directories over the well-known ones, and lets kubelet's mounts reach its containers."""
    lines = [f"mount --bind '{source}' '{target}'" for target, source in binds.items()]
    _run([*in_mounts(holder), "sh", "-euc", "\n".join([*lines, "mount --make-rshared /"])])


def _run(command: Sequence[str], text: str = "") -> None:
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"{' '.join(command[:3])} … failed: {result.stderr.strip()}")


@dataclass(frozen=True)
class Cgroup:
    """One directory of the same name in every hierarchy (cgroup v1, v2 or both).

    kubelet puts the pods below `name`; the node's own processes are in `name`/system, because with cgroup v2 a group
    that has groups below it must not hold processes.
    """

    name: str
    root: Path = _CGROUPS

    def hierarchies(self) -> list[Path]:
        if (self.root / "cgroup.controllers").exists():
            return [self.root]
        return sorted({entry.resolve() for entry in self.root.iterdir() if (entry / "cgroup.procs").exists()})

    def create(self) -> None:
        for hierarchy in self.hierarchies():
            self._delegate(hierarchy)
            for directory in (hierarchy / self.name, hierarchy / self.name / "system"):
                directory.mkdir(exist_ok=True)
                self._copy_cpuset(directory)
            self._delegate(hierarchy / self.name)

    def procs(self) -> list[Path]:
        """The files a process writes its pid to in order to belong to the node."""
        return [hierarchy / self.name / "system" / "cgroup.procs" for hierarchy in self.hierarchies()]

    def members(self) -> set[int]:
        """Every process in it or below it, containers and their shims included."""
        pids: set[int] = set()
        for hierarchy in self.hierarchies():
            for procs in (hierarchy / self.name).rglob("cgroup.procs"):
                try:
                    pids.update(map(int, procs.read_text().split()))
                except OSError:  # a container's group that has just gone
                    continue
        return pids - {0}

    def kill_members(self) -> None:
        """Kills until nobody is left: a process may have forked between the look and the kill."""

        def empty() -> bool:
            members = self.members()
            for pid in members:
                kill(pid)
            return not members

        wait_for(
            empty,
            seconds=20,
            failure=lambda: ClusterError(f"processes in cgroup {self.name} did not end: {sorted(self.members())}"),
        )

    def remove(self) -> None:
        for hierarchy in self.hierarchies():
            top = hierarchy / self.name
            groups = [group for group in (top, *top.rglob("*")) if group.is_dir()]
            for group in sorted(groups, key=lambda path: len(path.parts), reverse=True):
                self._remove_one(group)

    def exists(self) -> bool:
        return any((hierarchy / self.name).exists() for hierarchy in self.hierarchies())

    def _remove_one(self, group: Path) -> None:
        def removed() -> bool:
            try:
                group.rmdir()
            except FileNotFoundError:
                return True
            except OSError:  # the kernel lets go of a killed process's group a moment later
                return False
            return True

        wait_for(removed, seconds=10, failure=lambda: ClusterError(f"cgroup {group} cannot be removed"))

    def _copy_cpuset(self, directory: Path) -> None:
        """Version 1 makes cpusets empty, and an empty one takes no process."""
        for name in ("cpuset.cpus", "cpuset.mems"):
            file = directory / name
            if file.exists() and not (self.root / "cgroup.controllers").exists() and not file.read_text().strip():
                file.write_text((directory.parent / name).read_text())

    def _delegate(self, group: Path) -> None:
        """Version 2: groups below get the controllers that this one has."""
        controllers = group / "cgroup.controllers"
        if not controllers.exists():
            return
        for controller in controllers.read_text().split():
            try:
                (group / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError:  # some controllers cannot be handed down; kubelet says if it misses one
                continue


def kill_in_network(holder: Process, confirmation: Path) -> None:
    """Ends what tests left running in the node's network; never this process or one it was started by.

    Without a living holder the inode may be somebody else's by now, and without the confirmation the holder may still
    be in the machine's own network, where everything else runs.
    """
    if not holder.alive() or not confirmation.exists():
        return
    inode = int(confirmation.read_text())
    if inode != namespace_inode(holder):
        return
    spared = family(os.getpid()) | {holder.pid}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        try:
            if (entry / "ns" / "net").stat().st_ino == inode:
                kill(int(entry.name))
        except OSError:
            continue


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
