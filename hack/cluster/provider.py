"""Which kind of cluster this machine can have."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from hack.cluster.errors import ClusterError

Provider = Literal["kind", "binaries"]


@dataclass(frozen=True)
class Machine:
    """What the choice depends on."""

    linux: bool
    root: bool
    docker: bool  # an engine that answers, not only a client
    kind: bool

    @classmethod
    def look(cls) -> Machine:
        return cls(
            linux=platform.system() == "Linux",
            root=os.geteuid() == 0,
            docker=_docker_answers(),
            kind=shutil.which("kind") is not None,
        )


@dataclass(frozen=True)
class Choice:
    """What `up` brings up, and why."""

    provider: Provider
    level: int
    reason: str


def choose(machine: Machine, provider: Provider | None = None, level: int | None = None) -> Choice:
    """What was asked for wins; otherwise the fullest cluster the machine can have."""
    if provider == "kind" or (provider is None and level in {None, 3} and machine.docker and machine.kind):
        if level not in {None, 3}:
            raise ClusterError("kind always makes a whole node", hint="leave --level out, or use --provider binaries")
        reason = "a Docker engine answers and kind is installed" if provider is None else "as asked"
        return Choice("kind", 3, reason)
    if not machine.linux:
        raise ClusterError("the cluster's own binaries run on Linux", hint="install Docker and kind")
    if level is not None:
        if level == 3 and not machine.root:
            raise ClusterError(
                "a node (level 3) needs root, or Docker with kind", hint="run it as root, or ask for --level 2"
            )
        return Choice("binaries", level, "as asked")
    why_not_kind = "as asked" if provider else "no Docker engine with kind answers"
    if machine.root:
        return Choice("binaries", 3, f"{why_not_kind}; Linux and root: a whole node from its own binaries")
    return Choice("binaries", 2, f"{why_not_kind}; without root there are no real pods")


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False
