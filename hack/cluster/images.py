"""Makes the images that tests run, without a registry and without an engine, as docker-archives in the cache.

An archive is named after a hash of its recipe: a changed recipe makes a new one, and nothing is updated in place.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from hack.cluster.binaries import Finder, architecture
from hack.cluster.errors import ClusterError
from hack.cluster.locks import exclusive
from hack.cluster.progress import Progress
from hack.cluster.versions import Binary

SUITE = "trixie"
# What a package manager, a shell user or a reader needs, and a container that runs one program does not.
_STRIPPED = (
    "usr/share/man/",
    "usr/share/doc/",
    "usr/share/locale/",
    "usr/share/perl/",
    "usr/share/perl5/",
    "usr/share/bash-completion/",
    "usr/share/lintian/",
    "usr/lib/locale/",
    "usr/lib/*/perl/",
    "usr/lib/*/perl-base/",
    "usr/lib/*/gconv/",
    "usr/lib/*/libperl.so*",
    "usr/bin/perl*",
    "usr/lib/systemd/",
    "var/cache/",
    "var/lib/apt/",
    "var/lib/dpkg/",
    "var/log/",
    "dev/",
)
_ACCOUNTS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
_GROUPS = "root:x:0:\nnogroup:x:65534:\n"
# The official image's own: arguments alone mean memcached.
_MEMCACHED_ENTRYPOINT = """\
#!/bin/sh
set -e

# first arg is `-f` or `--some-option`
if [ "${1#-}" != "$1" ]; then
	set -- memcached "$@"
fi

exec "$@"
"""


@dataclass(frozen=True)
class Recipe:
    """All that goes into one image."""

    name: str
    tags: tuple[str, ...]
    packages: tuple[str, ...] = ()  # from Debian
    binary: tuple[str, str] | None = None  # (name of a binary of ours, its path in the image)
    users: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # path → text, executable
    links: Mapping[str, str] = field(default_factory=dict)  # path → target
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    ports: tuple[str, ...] = ()
    note: str = ""  # where the content is not what the tag says


_DEBIAN_BASE = ("base-files", "coreutils", "dash", "libc-bin", "netbase")

MEMCACHED = Recipe(
    name="memcached",
    # The newer tags are what an upgrade test changes between; the old ones are defaults of the foreign kinds.
    tags=tuple(
        f"docker.io/library/memcached:{tag}"
        for tag in ("1.6", "1.6.38", "1.6.37", "1.6.39", "1.6-alpine", "1.5-alpine", "1.4.36-alpine")
    ),
    packages=(*_DEBIAN_BASE, "memcached"),
    users={"memcache": 11211},
    files={"usr/local/bin/docker-entrypoint.sh": _MEMCACHED_ENTRYPOINT},
    entrypoint=("docker-entrypoint.sh",),
    command=("memcached",),
    user="memcache",
    ports=("11211/tcp",),
    note="every tag is Debian's memcached 1.6.38",
)
TWEMPROXY = Recipe(
    name="twemproxy",
    tags=("docker.io/memop/twemproxy:0.5.0", "asia.gcr.io/ian-corp-dev/twemproxy:v0.4.1-0"),
    packages=(*_DEBIAN_BASE, "nutcracker"),
    users={"twemproxy": 11211},
    # Debian's build logs to a file unless told otherwise; upstream's, and so the public images', to stderr.
    links={"var/log/nutcracker/nutcracker.log": "/dev/stderr"},
    entrypoint=("nutcracker",),
    user="twemproxy",
    ports=("11211/tcp", "22222/tcp"),
    note="every tag is Debian's nutcracker 0.5.0",
)
EXPORTER = Recipe(
    name="memcached-exporter",
    tags=("docker.io/prom/memcached-exporter:v0.15.4", "docker.io/prom/memcached-exporter:v0.16.0"),
    binary=("memcached_exporter", "bin/memcached_exporter"),
    entrypoint=("/bin/memcached_exporter",),
    user="nobody",
    ports=("9150/tcp",),
    note="both tags are v0.16.0: v0.15.4 is not published as a Go module",
)
PAUSE = Recipe(
    name="pause",
    tags=("registry.k8s.io/pause:3.10",),
    binary=("pause", "pause"),
    entrypoint=("/pause",),
    user="65535:65535",
)
ALL = (PAUSE, MEMCACHED, EXPORTER, TWEMPROXY)


@dataclass(frozen=True)
class ImageStore:
    """The images in the cache."""

    cache: Path
    finder: Finder
    progress: Progress

    def archive(self, recipe: Recipe, binaries: Mapping[str, Binary]) -> Path:
        """Where the image's archive is or will be."""
        content = {**asdict(recipe), "suite": SUITE, "stripped": _STRIPPED, "arch": architecture()}
        if recipe.binary:
            content["version"] = binaries[recipe.binary[0]].version
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        return self.cache / "images" / f"{recipe.name}-{digest}.tar"

    def missing(self, binaries: Mapping[str, Binary]) -> list[Recipe]:
        return [recipe for recipe in ALL if not self.archive(recipe, binaries).exists()]

    def ensure(self, binaries: Mapping[str, Binary]) -> list[Path]:
        """The archives of all images, making those that are missing."""
        if missing := self.missing(binaries):
            with exclusive(self.cache / "locks" / "images.lock", lambda: self.progress.say("images: waiting")):
                for recipe in missing:
                    self._make(recipe, binaries)
        for recipe in ALL:
            if recipe.note:
                self.progress.say(f"image {recipe.name}: {recipe.note}")
        return [self.archive(recipe, binaries) for recipe in ALL]

    def _make(self, recipe: Recipe, binaries: Mapping[str, Binary]) -> None:
        target = self.archive(recipe, binaries)
        if target.exists():
            return
        executables = {}
        if recipe.binary:
            name, path = recipe.binary
            executables[path] = self.finder.find([binaries[name]])[name].read_bytes()
        with self.progress.phase(f"image {recipe.name}", "made"):
            target.parent.mkdir(parents=True, exist_ok=True)
            half = target.with_suffix(".part")
            root = self._debian_root(recipe) if recipe.packages else None
            try:
                write_archive(half, recipe, root, executables)
            finally:
                if root is not None:
                    root.unlink()
            half.rename(target)

    def _debian_root(self, recipe: Recipe) -> Path:
        """The packages' files, unpacked and not configured: no maintainer script runs, nothing is mounted."""
        root = self.cache / "images" / f"{recipe.name}.root.tar"
        log = self.cache / "logs" / f"image-{recipe.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = ["mmdebstrap", "--variant=extract", f"--include={','.join(recipe.packages)}", SUITE, str(root)]
        with log.open("wb") as output:
            made = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        if made.returncode != 0:
            raise ClusterError("mmdebstrap failed", log=log, hint="a Debian mirror must be reachable once")
        return root


def write_archive(target: Path, recipe: Recipe, root: Path | None, executables: Mapping[str, bytes]) -> None:
    """Writes a docker-archive with one layer: `root` less what is stripped, then users, files and executables."""
    layer = target.with_suffix(".layer")
    try:
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
            if root is not None:
                with tarfile.open(root) as source:
                    for member in kept(source):
                        tar.addfile(member, source.extractfile(member) if member.isreg() else None)
            accounts, groups = _ACCOUNTS, _GROUPS
            for name, number in recipe.users.items():
                accounts += f"{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"
                groups += f"{name}:x:{number}:\n"
            add_file(tar, "etc/passwd", accounts.encode(), 0o644)
            add_file(tar, "etc/group", groups.encode(), 0o644)
            for path, text in recipe.files.items():
                add_file(tar, path, text.encode(), 0o755)
            for path, content in executables.items():
                add_file(tar, path, content, 0o755)
            for path, destination in recipe.links.items():
                link = tarfile.TarInfo(path)
                link.type = tarfile.SYMTYPE
                link.linkname = destination
                tar.addfile(link)
        pack(target, layer, recipe.tags, image_config(recipe))
    finally:
        layer.unlink(missing_ok=True)


def pack(target: Path, layer: Path, tags: Sequence[str], config: Mapping[str, object]) -> None:
    """Writes a docker-archive of one layer (a tar) and an OCI configuration that names no layers yet."""
    with layer.open("rb") as file:
        diff_id = hashlib.file_digest(file, "sha256").hexdigest()
    text = json.dumps({**config, "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}}).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": list(tags), "Layers": [f"{diff_id}.tar"]}]
    with tarfile.open(target, "w") as archive:
        archive.add(layer, f"{diff_id}.tar")
        add_file(archive, name, text, 0o644)
        add_file(archive, "manifest.json", json.dumps(manifest).encode(), 0o644)


def image_config(recipe: Recipe) -> dict[str, object]:
    """The image's OCI configuration, less its layers."""
    return {
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": list(recipe.entrypoint) or None,
            "Cmd": list(recipe.command) or None,
            "User": recipe.user,
            "ExposedPorts": {port: {} for port in recipe.ports},
            "WorkingDir": "/",
        },
        "history": [{"created_by": "memop hack/cluster"}],
    }


def kept(source: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members that stay in an image, each under its plain name."""
    overwritten = {"etc/passwd", "etc/group"}
    for member in source:
        member.name = member.name.removeprefix("./")
        if member.name in {"", "."} or member.name in overwritten or _is_stripped(member.name):
            continue
        if member.islnk():
            member.linkname = member.linkname.removeprefix("./")
        yield member


def _is_stripped(name: str) -> bool:
    """A pattern that ends with a slash takes what is in the directory and leaves the directory."""
    return any(fnmatch(name, f"{pattern}*" if pattern.endswith("/") else pattern) for pattern in _STRIPPED)


def add_file(tar: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(path)
    member.size = len(content)
    member.mode = mode
    tar.addfile(member, io.BytesIO(content))
