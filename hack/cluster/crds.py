"""Definitions of kinds that a cluster may lack, as their projects publish them, taken from the projects' Go modules."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hack.cluster.binaries import go_of
from hack.cluster.errors import ClusterError
from hack.cluster.locks import exclusive
from hack.cluster.progress import Progress
from hack.cluster.versions import HACK, Crd


@dataclass(frozen=True)
class CrdStore:
    """The definitions in the cache."""

    cache: Path
    progress: Progress
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def cached(self, crd: Crd) -> Path:
        return self.cache / "crds" / f"{crd.project}-{crd.version}" / f"{crd.name}.yaml"

    def missing(self, wanted: Iterable[Crd]) -> list[Crd]:
        return [crd for crd in wanted if not self.cached(crd).exists()]

    def ensure(self, wanted: Iterable[Crd]) -> None:
        """Fetches those that are missing."""
        for crd in self.missing(wanted):
            lock = self.cache / "locks" / f"{crd.project}-{crd.version}.lock"
            with exclusive(lock, lambda: self.progress.say("definitions: another command fetches them, waiting")):
                if not self.cached(crd).exists():
                    self._fetch(crd)

    def _fetch(self, crd: Crd) -> None:
        log = self.cache / "logs" / f"crd-{crd.project}-{crd.version}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        with self.progress.phase(f"{crd.name} of {crd.project} {crd.version}", "fetched"):
            # Without a version go takes the one in go.mod, and refuses what go.sum does not know.
            self._go(crd, log, "mod", "download", crd.module)
            source = Path(self._go(crd, log, "list", "-m", "-f", "{{.Dir}}", crd.module).strip()) / crd.file
            target = self.cached(crd)
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_suffix(".part")
            shutil.copyfile(source, half)
            half.rename(target)

    def _go(self, crd: Crd, log: Path, *words: str) -> str:
        go = go_of(self.environment, f"{crd.name} {crd.version}")
        with log.open("ab") as errors:
            done = subprocess.run(
                [go, *words],
                cwd=HACK / "go" / crd.project,
                env=self.environment | {"GOWORK": "off"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise ClusterError(
                f"go {' '.join(words)} failed", log=log, hint="the Go module proxy must be reachable once"
            )
        return done.stdout
