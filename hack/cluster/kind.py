"""The same commands on a `kind` cluster, for machines with a Docker engine. Images come from their registries there."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hack.cluster.cluster import Record, link_programs, run
from hack.cluster.components import Ports
from hack.cluster.errors import ClusterError
from hack.cluster.layout import Layout
from hack.cluster.progress import Progress


@dataclass(frozen=True)
class KindCluster:
    """One kind cluster of this checkout."""

    layout: Layout
    progress: Progress

    def up(self, kubernetes: str, kubectl: dict[str, Path]) -> None:
        record = Record("kind", 3, kubernetes, Ports())
        record.write(self.layout.record)
        link_programs(self.layout.bin, kubectl)
        log = self.layout.log("kind")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *self._kind("create", "cluster"),
            f"--image=kindest/node:{kubernetes}",
            f"--kubeconfig={self.layout.kubeconfig}",
            "--wait=120s",
        ]
        with self.progress.phase("kind create cluster"), log.open("wb") as output:
            created = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
            if created.returncode != 0:
                raise ClusterError("kind could not make the cluster", log=log, hint="`down`, then `up` again")
        replace(record, finished=True).write(self.layout.record)

    def complaints(self, record: Record) -> list[str]:
        if not record.finished:
            return ["an earlier `up` did not come to its end"]
        names = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False).stdout
        return [] if self.layout.id in names.split() else [f"kind knows no cluster {self.layout.id}"]

    def load_image(self, archive: Path) -> None:
        with self.progress.phase(f"image {archive.name}", "loaded"):
            run(self._kind("load", "image-archive", str(archive)), f"loading {archive}")

    def down(self) -> None:
        with self.progress.phase("kind delete cluster", "removed"):
            run(self._kind("delete", "cluster"), "deleting the kind cluster")

    def _kind(self, *words: str) -> Sequence[str]:
        return ["kind", *words, f"--name={self.layout.id}"]
