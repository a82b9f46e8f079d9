"""Builds memop's image with buildah from the Dockerfile that ships, and keeps it as a docker-archive in the cache.

An archive is named after a hash of all that goes in, so what is there need not be built.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hack.cluster import binaries, prerequisites
from hack.cluster.errors import ClusterError
from hack.cluster.layout import cache_dir
from hack.cluster.locks import exclusive
from hack.cluster.progress import Progress
from hack.cluster.versions import HACK
from hack.image.archive import open_image
from hack.image.bases import BUILDER, RUNTIME, BaseStore
from memop import __version__

REPOSITORY = "docker.io/memop/memop"
REFERENCE = f"{REPOSITORY}:{__version__}"
ARCHITECTURES = ("amd64", "arm64")
CHECKOUT = HACK.parent
# The name of a stage whose layers are to outlive the pruning of unnamed ones.
_DEPENDENCIES = "localhost/memop-dependencies"
_KEPT = 4
# What may be needed to reach an index of packages; pip's other settings are the machine's own affair.
_PIP_SETTINGS = (
    "cert",
    "default-timeout",
    "extra-index-url",
    "index-url",
    "proxy",
    "retries",
    "timeout",
    "trusted-host",
)


@dataclass(frozen=True)
class Commit:
    """The last commit that changed what goes into the image."""

    revision: str = ""  # ends in -dirty when an input is not as committed; empty outside a repository
    time: int = 0  # seconds

    @property
    def created(self) -> str:
        return datetime.fromtimestamp(self.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @classmethod
    def of(cls, checkout: Path) -> Commit:
        paths = [str(path.relative_to(checkout)) for path in inputs(checkout)]
        last = _git(checkout, "log", "-1", "--format=%H %ct", "--", *paths).split()
        if not last:
            return cls()
        dirty = "-dirty" if _git(checkout, "status", "--porcelain", "--", *paths) else ""
        return cls(last[0] + dirty, int(last[1]))


def inputs(checkout: Path) -> list[Path]:
    """The files that go into an image: what .dockerignore lets in, the Dockerfile and .dockerignore."""
    patterns = [line[1:] for line in (checkout / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    found = {checkout / "Dockerfile", checkout / ".dockerignore"}
    for pattern in patterns:
        path = checkout / pattern
        found |= {file for file in path.rglob("*") if file.is_file()} if path.is_dir() else {path}
    return sorted(path for path in found if "__pycache__" not in path.parts)


def digest(checkout: Path, facts: Iterable[str]) -> str:
    """Twelve hexadecimal digits of the inputs' names and contents and of what else decides."""
    contents = [
        (str(path.relative_to(checkout)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in inputs(checkout)
    ]
    return hashlib.sha256(json.dumps([contents, *facts]).encode()).hexdigest()[:12]


def build(architecture: str, progress: Progress, *, builder: str | None = None, runtime: str | None = None) -> Path:
    """The archive of memop's image for amd64 or arm64.

    `builder` and `runtime` name base images of a registry; in place of those not named local ones are made.
    """
    cache = cache_dir()
    with exclusive(cache / "locks" / "image.lock", lambda: progress.say("image: waiting")):
        bases = BaseStore(cache, progress)
        local = {}
        if builder is None:
            # buildah 1.28 wants a builder for the target's platform, whatever FROM says: this one says that it is.
            local[BUILDER.tag] = bases.archive(BUILDER, binaries.architecture(), announced=architecture)
        if runtime is None:
            local[RUNTIME.tag] = bases.archive(RUNTIME, architecture)
        names = {"BUILDER_IMAGE": builder or BUILDER.tag, "RUNTIME_IMAGE": runtime or RUNTIME.tag}
        if builder is None:
            names["BUILDPLATFORM"] = f"linux/{architecture}"
        commit = Commit.of(CHECKOUT)
        facts = [*names.values(), *(archive.name for archive in local.values()), __version__, commit.revision]
        target = cache / "images" / f"memop-{architecture}-{digest(CHECKOUT, facts)}.tar"
        if not target.exists():
            log = cache / "logs" / f"image-memop-{architecture}.log"
            prerequisites.ensure(prerequisites.OPERATOR_IMAGE, progress, log, install=True)
            buildah = _Buildah(cache / "buildah", log)
            with progress.phase(f"image {REFERENCE} for {architecture}", "built"):
                for tag, archive in local.items():
                    buildah.take(tag, archive)
                buildah.build(architecture, names, commit)
                buildah.save(target)
        target.touch()
        forget(target)
    return target


def forget(newest: Path) -> None:
    """Removes archives of the same architecture but the last used."""
    others = newest.parent.glob(f"{newest.name.rpartition('-')[0]}-*.tar")
    for archive in sorted(others, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        archive.unlink()


class _Buildah:
    """buildah with a store of its own, whatever the machine's is."""

    def __init__(self, directory: Path, log: Path) -> None:
        self._log = log
        for driver in ("overlay", "vfs"):  # vfs copies whole images at each step, and works on every file system
            store = directory / driver
            self._command = ["buildah", "--root", str(store / "storage"), "--runroot", str(store / "run")]
            self._command += ["--storage-driver", driver]
            if subprocess.run([*self._command, "info"], capture_output=True, check=False).returncode == 0:
                break

    def run(self, *arguments: str) -> str:
        """Standard output. Raises: ClusterError, with all output in the log."""
        command = [*self._command, *arguments]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        with self._log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
        if done.returncode != 0:
            raise ClusterError(f"buildah {arguments[0]} failed", log=self._log)
        return done.stdout

    def take(self, tag: str, archive: Path) -> None:
        """Pulls an archive's image unless it is there."""
        with open_image(archive) as image:
            wanted = image.id
        if wanted not in self.run("images", "--no-trunc", "--quiet", "--filter", f"reference={tag}"):
            self.run("pull", "--quiet", f"docker-archive:{archive}")

    def build(self, architecture: str, bases: Mapping[str, str], commit: Commit) -> None:
        labels = {"VERSION": __version__, "REVISION": commit.revision, "CREATED": commit.created}
        with tempfile.TemporaryDirectory() as directory:
            common = ["--isolation", "chroot", "--layers", f"--platform=linux/{architecture}"]
            common += ["--pull=false", *_secrets(Path(directory)), *_build_arguments(bases)]  # pulls what is not there
            self.run("build", *common, "--target", "dependencies", "--tag", f"{_DEPENDENCIES}:{architecture}", ".")
            common += [*_build_arguments(labels), f"--timestamp={commit.time}", "--identity-label=false"]
            self.run("build", *common, "--tag", REFERENCE, ".")

    def save(self, target: Path) -> None:
        half = target.with_suffix(".part")
        half.unlink(missing_ok=True)
        self.run("push", "--quiet", REFERENCE, f"docker-archive:{half}:{REFERENCE}")
        half.rename(target)
        self.run("rmi", "--prune")


def _build_arguments(values: Mapping[str, str]) -> list[str]:
    return [f"--build-arg={name}={value}" for name, value in values.items()]


def _secrets(directory: Path) -> list[str]:
    """This machine's way to an index of packages, for the build alone: secrets are mounted and leave no trace."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = pip_settings(listed.stdout)
    secrets = []
    certificate = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if certificate:
        settings["cert"] = "/run/secrets/ca.crt"
        secrets.append(f"--secret=id=ca.crt,src={certificate}")
    if settings:
        configuration = directory / "pip.conf"
        lines = (f"{name} = {value}" for name, value in settings.items())
        configuration.write_text("\n".join(["[global]", *lines, ""]))
        secrets.append(f"--secret=id=pip.conf,src={configuration}")
    return secrets


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip config list` says of the index; the environment, which it lists last, wins."""
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        if name in _PIP_SETTINGS:
            settings[name] = str(ast.literal_eval(value))
    return settings


def _git(checkout: Path, *arguments: str) -> str:
    """Empty outside a repository or without git."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
