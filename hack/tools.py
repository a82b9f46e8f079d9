"""Programs that tests and releases need beside the cluster's own: `python -m hack.tools NAME…` prints their paths.

helm and kubeconform are Go builds, pinned like the cluster's binaries. promtool and prometheus are taken out of
Debian's package, in the version that this machine's apt offers; it is not installed, which would start a service.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hack.cluster.binaries import Finder
from hack.cluster.errors import ClusterError
from hack.cluster.layout import cache_dir
from hack.cluster.locks import exclusive
from hack.cluster.progress import Progress
from hack.cluster.versions import catalogue, load_versions

GO = ("helm", "kubeconform")
DEBIAN = {"promtool": "prometheus", "prometheus": "prometheus"}  # program → package
NAMES = (*GO, *DEBIAN)


@functools.cache
def tool(name: str) -> Path:
    """The program `name`, one of NAMES; built or unpacked into the cache the first time. Progress goes to stderr.

    Raises: ClusterError.
    """
    progress = Progress(Console(stderr=True, highlight=False, soft_wrap=True))
    if package := DEBIAN.get(name):
        return _unpacked(package, cache_dir(), progress) / name
    return Finder(cache_dir(), progress).find([catalogue(load_versions())[name]])[name]


def _unpacked(package: str, cache: Path, progress: Progress) -> Path:
    """The programs of a Debian package, without installing it."""
    if shutil.which("apt-get") is None:
        raise ClusterError(f"{package} is taken from Debian, and there is no apt-get")
    version = _candidate(package, cache, progress)
    programs = cache / "bin" / f"{package}-{version}"
    lock = cache / "locks" / f"{package}-{version}.lock"
    with exclusive(lock, lambda: progress.say(f"{package}: another command unpacks it, waiting")):
        if not programs.exists():
            programs.parent.mkdir(parents=True, exist_ok=True)
            with (
                progress.phase(f"{package} {version}: Debian package", "unpacked"),
                tempfile.TemporaryDirectory(dir=programs.parent) as scratch,
            ):
                # Downloaded as who runs this: apt's own user cannot write here.
                _apt(cache, "-o", "APT::Sandbox::User=", "download", f"{package}={version}", cwd=scratch)
                (archive,) = Path(scratch).glob("*.deb")
                subprocess.run(["dpkg-deb", "-x", archive, f"{scratch}/root"], check=True)
                (Path(scratch) / "root" / "usr" / "bin").rename(programs)
    return programs


def _candidate(package: str, cache: Path, progress: Progress) -> str:
    """The version that apt would install. A machine whose lists were never fetched knows none."""
    if (version := _offered(package)) is None and os.geteuid() == 0:
        with progress.phase("apt-get update", "done"):
            _apt(cache, "update")
        version = _offered(package)
    if version is None:
        raise ClusterError(f"apt knows no package {package}", hint="as root: apt-get update")
    return version


def _offered(package: str) -> str | None:
    command = ["apt-cache", "show", "--no-all-versions", package]
    known = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    fields = (line.partition(": ") for line in known.splitlines())
    return next((value for key, _, value in fields if key == "Version"), None)


def _apt(cache: Path, *words: str, cwd: str | None = None) -> None:
    log = cache / "logs" / "tools-apt-get.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        done = subprocess.run(["apt-get", *words], cwd=cwd, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise ClusterError(f"apt-get {words[-1]} failed", log=log, hint="a Debian mirror must be reachable once")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hack.tools", description="Prints the path of each program.")
    parser.add_argument("names", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    try:
        for name in parser.parse_args(argv).names:
            print(tool(name))
    except ClusterError as error:
        print(error.render(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
