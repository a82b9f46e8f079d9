"""Local stand-ins for the Dockerfile's base images, of the same Debian packages, where no registry is in reach.

The runtime is put together as distroless does it: listed packages are unpacked, none is configured, and what a package
is goes to var/lib/dpkg/status.d, where scanners look for it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hack.cluster import prerequisites
from hack.cluster.errors import ClusterError
from hack.cluster.images import add_file, pack
from hack.cluster.progress import Progress

SUITE = "bookworm"  # whose Python is the 3.11 of the Dockerfile
_CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_CERTIFICATES = "usr/share/ca-certificates/mozilla/"
_MERGED = ("bin", "sbin", "lib", "lib64")  # into usr/
_ACCOUNTS = (
    (b"root", 0, 0, b"/root"),
    (b"nobody", 65534, 65534, b"/nonexistent"),
    (b"nonroot", 65532, 65532, b"/home/nonroot"),
)


@dataclass(frozen=True)
class Base:
    """What goes into one base image."""

    name: str
    packages: tuple[str, ...]
    with_dependencies: bool  # or these packages and no others
    links: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()  # files of the packages
    user: str = ""

    @property
    def tag(self) -> str:
        return f"localhost/memop-{self.name}:{SUITE}"


BUILDER = Base(
    "builder",
    ("base-files", "ca-certificates", "coreutils", "dash", "libc-bin", "python3", "python3-pip"),
    with_dependencies=True,
    links={"usr/bin/sh": "dash"},
)
# What gcr.io/distroless/python3-debian12 has.
RUNTIME = Base(
    "runtime",
    (
        *("base-files", "ca-certificates", "netbase", "tzdata", "libc6", "libssl3"),
        *("gcc-12-base", "libgcc-s1", "libgomp1", "libstdc++6"),
        *("libbz2-1.0", "libcom-err2", "libcrypt1", "libdb5.3", "libexpat1", "libffi8", "libgssapi-krb5-2"),
        *("libk5crypto3", "libkeyutils1", "libkrb5-3", "libkrb5support0", "liblzma5", "libncursesw6", "libnsl2"),
        *("libreadline8", "libsqlite3-0", "libtinfo6", "libtirpc3", "libuuid1", "zlib1g"),
        *("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal", "python3-distutils"),
    ),
    with_dependencies=False,
    links={"usr/bin/python3": "python3.11", "usr/bin/python": "python3.11"},
    without=("usr/sbin/update-ca-certificates",),
    user="65532",
)


@dataclass(frozen=True)
class BaseStore:
    """The base images in the cache, as docker-archives."""

    cache: Path
    progress: Progress

    def archive(self, base: Base, architecture: str, announced: str | None = None) -> Path:
        """The archive, made if it is missing.

        `architecture` (Debian's and Docker's name: amd64, arm64) is what it runs on, `announced` what it says instead.
        """
        announced = announced or architecture
        recipe = {**asdict(base), "suite": SUITE, "architecture": architecture, "announced": announced}
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
        target = self.cache / "images" / f"{base.name}-{architecture}-{digest}.tar"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with self.progress.phase(f"image {base.tag} for {architecture}", "made"):
                self._make(base, architecture, announced, target)
        return target

    def _make(self, base: Base, architecture: str, announced: str, target: Path) -> None:
        log = self.cache / "logs" / f"image-{base.name}.log"
        prerequisites.ensure(prerequisites.IMAGES, self.progress, log, install=True)
        half, layer = target.with_suffix(".part"), target.with_suffix(".layer")
        try:
            with tempfile.TemporaryDirectory(dir=target.parent) as directory:
                packages = _download(base, architecture, Path(directory), log)
                with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
                    fill(tar, base, packages)
            pack(half, layer, [base.tag], _config(base, announced))
            half.rename(target)
        finally:
            layer.unlink(missing_ok=True)
            half.unlink(missing_ok=True)


def _download(base: Base, architecture: str, directory: Path, log: Path) -> list[Path]:
    """The .deb files that make the base, checked by apt against Debian's keys."""
    log.parent.mkdir(parents=True, exist_ok=True)
    copy = f'cp "$1"/var/cache/apt/archives/*.deb {shlex.quote(str(directory))}'
    command = ["mmdebstrap", "--variant=extract", "--format=null", f"--architectures={architecture}"]
    command += ["--skip=check/qemu", f"--extract-hook={copy}", f"--include={','.join(base.packages)}", SUITE, "-"]
    with log.open("wb") as output:
        made = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if made.returncode != 0:
        raise ClusterError("mmdebstrap failed", log=log, hint="a Debian mirror must be reachable once")
    packages = {path.name.partition("_")[0]: path for path in sorted(directory.glob("*.deb"))}
    if missing := set(base.packages) - packages.keys():
        raise ClusterError(f"{SUITE} has no {', '.join(sorted(missing))}", log=log)
    return [path for name, path in packages.items() if base.with_dependencies or name in base.packages]


def fill(tar: tarfile.TarFile, base: Base, packages: Iterable[Path]) -> None:
    """Writes the base's one layer, from .deb files: each path once, the directories /bin, /lib … as links into /usr."""
    written = {"", ".", *_MERGED, *base.without}
    certificates = []
    for directory in _MERGED:
        _link(tar, directory, f"usr/{directory}")
    for package in packages:
        for member, content in _members(package):
            if member.name not in written:
                written.add(member.name)
                tar.addfile(member, io.BytesIO(content))
                if member.name.startswith(_CERTIFICATES):
                    certificates.append(content)
        control = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, check=True).stdout
        add_file(tar, f"var/lib/dpkg/status.d/{package.name.partition('_')[0]}", control, 0o644)
    for path, target in base.links.items():
        if path not in written:
            _link(tar, path, target)
    add_file(tar, "etc/passwd", b"".join(b"%s:x:%d:%d::%s:/sbin/nologin\n" % line for line in _ACCOUNTS), 0o644)
    add_file(tar, "etc/group", b"".join(b"%s:x:%d:\n" % (name, number) for name, number, _, _ in _ACCOUNTS), 0o644)
    add_file(tar, "etc/nsswitch.conf", b"hosts: files dns\n", 0o644)
    add_file(tar, _CA_BUNDLE, b"".join(certificates), 0o644)


def _members(package: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacked,
        tarfile.open(fileobj=unpacked.stdout, mode="r|") as source,
    ):
        for member in source:
            member.name = _merged(member.name)
            if member.islnk():
                member.linkname = _merged(member.linkname)
            content = source.extractfile(member) if member.isreg() else None
            yield member, content.read() if content else b""


def _merged(name: str) -> str:
    name = name.removeprefix("./").rstrip("/")
    return f"usr/{name}" if name.partition("/")[0] in _MERGED and "/" in name else name


def _link(tar: tarfile.TarFile, path: str, target: str) -> None:
    link = tarfile.TarInfo(path)
    link.type = tarfile.SYMTYPE
    link.linkname = target
    tar.addfile(link)


def _config(base: Base, architecture: str) -> dict[str, object]:
    return {
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8",
                f"SSL_CERT_FILE=/{_CA_BUNDLE}",
            ],
            "User": base.user,
            "WorkingDir": "/",
        },
        "history": [{"created_by": f"memop hack/image: {base.name}"}],
    }
