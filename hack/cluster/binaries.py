"""Finds each binary: in $KUBEBUILDER_ASSETS, $PATH (same version only), the cache, by download, or by a Go build."""

from __future__ import annotations

import hashlib
import http.client
import os
import platform
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.locks import exclusive
from hack.cluster.progress import Progress
from hack.cluster.versions import HACK, Binary

KUBERNETES_DOWNLOADS = "https://dl.k8s.io/release"
_CONNECT_SECONDS = 3.0
_GO_MINIMUM = "1.25"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def architecture() -> str:
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise ClusterError(f"no binaries are known for {machine}", hint="use --provider kind")
    return _ARCHITECTURES[machine]


def _open(url: str, timeout: float) -> http.client.HTTPResponse:
    if not url.startswith("https://"):
        raise ValueError(f"{url} is not https")
    response: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=timeout)  # noqa: S310 - checked above
    return response


def go_of(environment: Mapping[str, str], wanted: str) -> str:
    """The Go that makes or fetches what nothing else has."""
    go = shutil.which("go", path=environment.get("PATH"))
    if go is None:
        raise ClusterError(
            f"{wanted} is nowhere to be found, and there is no Go to get it with",
            hint=f"install Go {_GO_MINIMUM} or newer, or set KUBEBUILDER_ASSETS to a directory that has the binaries",
        )
    return go


def says_version(output: str, version: str) -> bool:
    """Whether a program that printed `output` is of `version`: v1.34.4 is neither v1.34.40 nor v1.34.4-rc.1."""
    bare = re.escape(version.removeprefix("v"))
    return re.search(rf"(?<![\w.])v?{bare}(?![\w.]|[-+][\w.])", output) is not None


@dataclass
class Finder:
    """Looks binaries up and makes those that are missing. `find` says where each came from."""

    cache: Path
    progress: Progress
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    download_base: str | None = KUBERNETES_DOWNLOADS

    def find(self, wanted: Iterable[Binary]) -> dict[str, Path]:
        """Name → path of every wanted binary; each is built only when nothing else has it."""
        found: dict[str, Path] = {}
        origins: dict[str, list[str]] = {}
        for binary in wanted:
            path, origin = self._find(binary)
            found[binary.name] = path
            origins.setdefault(origin, []).append(f"{binary.name} {binary.version}")
        for origin, names in origins.items():
            self.progress.say(f"binaries from {origin}: {', '.join(names)}")
        return found

    def cached(self, binary: Binary) -> Path:
        return self.cache / "bin" / f"{binary.project}-{binary.version}" / binary.name

    def needs_go(self, wanted: Iterable[Binary]) -> bool:
        """Whether any of them is neither installed nor cached, so that Go may have to build it."""
        return any(self._installed(binary) is None and not self.cached(binary).exists() for binary in wanted)

    def _find(self, binary: Binary) -> tuple[Path, str]:
        if installed := self._installed(binary, tell=True):
            return installed
        target = self.cached(binary)
        if target.exists():
            return target, "the cache"
        lock = self.cache / "locks" / f"{binary.project}-{binary.version}.lock"
        with exclusive(lock, lambda: self.progress.say(f"{binary.name}: another build is running, waiting for it")):
            if target.exists():  # the one that was waited for made it
                return target, "the cache"
            target.parent.mkdir(parents=True, exist_ok=True)
            # A killed build leaves a file of this name and no half binary; the lock makes the name ours.
            half = target.with_name(f".{target.name}.part")
            origin = "download" if self._download(binary, half) else "a Go build"
            if origin != "download":
                self._build(binary, half)
            half.chmod(0o755)
            half.rename(target)
        return target, origin

    def _installed(self, binary: Binary, *, tell: bool = False) -> tuple[Path, str] | None:
        if not binary.installed_will_do:
            return None
        assets = self.environment.get("KUBEBUILDER_ASSETS")
        if assets and (Path(assets) / binary.name).is_file():
            return Path(assets) / binary.name, "$KUBEBUILDER_ASSETS"
        on_path = shutil.which(binary.name, path=self.environment.get("PATH"))
        if on_path is None:
            return None
        if self._is_version(Path(on_path), binary):
            return Path(on_path), "$PATH"
        if tell:
            self.progress.say(f"{on_path} ignored: it does not say {binary.version}")
        return None

    def _is_version(self, path: Path, binary: Binary) -> bool:
        try:
            answer = subprocess.run(
                [path, *binary.version_arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return says_version(answer.stdout + answer.stderr, binary.version)

    def _download(self, binary: Binary, target: Path) -> bool:
        """Only Kubernetes publishes bare binaries with a checksum beside each."""
        if not binary.of_kubernetes or self.download_base is None:
            return False
        url = f"{self.download_base}/{binary.version}/bin/linux/{architecture()}/{binary.name}"
        try:
            with _open(f"{url}.sha256", timeout=_CONNECT_SECONDS) as answer:
                expected = answer.read().decode().split()[0]
            digest = hashlib.sha256()
            with (
                self.progress.phase(f"{binary.name} {binary.version}: download", "done"),
                _open(url, timeout=30) as answer,
                target.open("wb") as file,
            ):
                while chunk := answer.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
        except (urllib.error.URLError, TimeoutError, ConnectionError, IndexError) as error:
            self.progress.say(f"no download from {self.download_base} ({error}); building with Go")
            self.download_base = None  # one refusal is enough for all binaries of this run
            return False
        if digest.hexdigest() != expected:
            target.unlink()
            raise ClusterError(f"{url} does not have its published sha256 {expected}", hint="try again")
        return True

    def _build(self, binary: Binary, target: Path) -> None:
        go = go_of(self.environment, f"{binary.name} {binary.version}")
        log = self.cache / "logs" / f"build-{binary.name}-{binary.version}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [go, "build", "-trimpath", "-ldflags", binary.ldflags, "-o", str(target), binary.package]
        with self.progress.phase(f"{binary.name} {binary.version}: go build", "built"), log.open("wb") as output:
            built = subprocess.run(
                command,
                cwd=HACK / "go" / binary.project,
                # Static, so that a binary made here also runs in an image made from nothing.
                env=self.environment | {"CGO_ENABLED": "0", "GOWORK": "off"},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if built.returncode != 0:
                raise ClusterError(f"go build {binary.package} failed", log=log, hint="read the log, then try again")
