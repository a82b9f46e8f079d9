"""Where everything of one cluster lives. Names outside the checkout carry a hash of checkout path and cluster name."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.versions import HACK

DEFAULT_NAME = "dev"


def cache_dir() -> Path:
    """What survives `down`: binaries and images, by version and content."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "memop"


@dataclass(frozen=True)
class Layout:
    """The paths and names of one cluster of one checkout."""

    checkout: Path
    name: str

    @classmethod
    def of(cls, name: str) -> Layout:
        return cls(HACK.parent, name)

    @property
    def id(self) -> str:
        digest = hashlib.sha256(f"{self.checkout}\0{self.name}".encode()).hexdigest()[:8]
        return f"memop-{digest}"

    @property
    def state(self) -> Path:
        return self.checkout / ".cluster" / self.name

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def pids(self) -> Path:
        return self.state / "pids"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def bin(self) -> Path:
        return self.state / "bin"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def record(self) -> Path:
        return self.state / "cluster.json"

    @property
    def run(self) -> Path:
        """Sockets: a path below the checkout may be longer than the 108 bytes a socket's name may have."""
        return Path("/run") / self.id

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"
