"""What the machine must have, as commands and the Debian packages that bring them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.components import cni_plugins
from hack.cluster.errors import ClusterError
from hack.cluster.progress import Progress


@dataclass(frozen=True)
class Prerequisite:
    """A command (or a file), the package that has it and what it is for."""

    command: str
    package: str
    purpose: str

    def present(self) -> bool:
        if self.command == "CNI plugins":
            return (cni_plugins() / "bridge").exists()
        return shutil.which(self.command) is not None


NODE = (
    Prerequisite("containerd", "containerd", "runs the pods"),
    Prerequisite("runc", "runc", "runs the containers"),
    Prerequisite("CNI plugins", "containernetworking-plugins", "give pods their network"),
    Prerequisite("nft", "nftables", "kube-proxy's rules"),
    Prerequisite("iptables", "iptables", "kubelet's and the CNI plugins' rules"),
    Prerequisite("conntrack", "conntrack", "kube-proxy forgets connections to pods that are gone"),
    Prerequisite("ip", "iproute2", "the node's interfaces"),
    Prerequisite("nsenter", "util-linux", "the node's namespaces"),
    Prerequisite("mount", "mount", "the node's directories"),
)
IMAGES = (Prerequisite("mmdebstrap", "mmdebstrap", "makes images from Debian packages"),)
OPERATOR_IMAGE = (Prerequisite("buildah", "buildah", "builds the operator's own image for `load-image`"),)


def missing(wanted: Iterable[Prerequisite]) -> list[Prerequisite]:
    return [prerequisite for prerequisite in wanted if not prerequisite.present()]


def install_command(lacking: Iterable[Prerequisite]) -> str:
    packages = " ".join(dict.fromkeys(prerequisite.package for prerequisite in lacking))
    return f"apt-get update && apt-get install -y --no-install-recommends {packages}"


def ensure(wanted: Iterable[Prerequisite], progress: Progress, log: Path, *, install: bool) -> None:
    """Installs what is missing where that is possible and allowed; otherwise names it."""
    lacking = missing(wanted)
    if not lacking:
        return
    names = ", ".join(f"{p.command} ({p.purpose})" for p in lacking)
    command = install_command(lacking)
    if not install or os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ClusterError(f"missing: {names}", hint=f"as root: {command}")
    progress.say(f"missing: {names}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with progress.phase(command, "installed"), log.open("wb") as output:
        done = subprocess.run(
            ["sh", "-c", command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
        )
    if done.returncode != 0 or missing(lacking):
        raise ClusterError("the packages could not be installed", log=log, hint=f"as root: {command}")
