"""A docker-archive, as `buildah push` and `docker save` write it, read without an engine."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hack.cluster.errors import ClusterError

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@dataclass(frozen=True)
class Layer:
    """One layer: its tar, as a stream and opened."""

    stream: IO[bytes]
    tar: tarfile.TarFile

    def size(self) -> int:
        """Bytes of its files."""
        return sum(member.size for member in self.tar)

    def compressed_size(self) -> int:
        """Bytes as a registry keeps it and a node pulls it: gzip."""
        compressor = zlib.compressobj(wbits=31)
        self.stream.seek(0)
        size = sum(len(compressor.compress(chunk)) for chunk in iter(lambda: self.stream.read(1 << 20), b""))
        return size + len(compressor.flush())


@dataclass(frozen=True)
class Image:
    """An image: its configuration, its layers from the base up, and what they amount to."""

    id: str  # hexadecimal SHA-256 of the configuration
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
    files: Mapping[str, tuple[Layer, tarfile.TarInfo]]  # by path without the leading slash; no directories

    def read(self, path: str) -> bytes:
        """The content of a regular file."""
        layer, member = self.files[path]
        content = layer.tar.extractfile(member)
        if content is None:
            raise ValueError(f"{path} is no regular file")
        return content.read()

    def unpack(self, paths: Iterable[str], directory: Path) -> None:
        """Writes regular files below `directory`."""
        for path in paths:
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(path))


@contextmanager
def open_image(archive: Path) -> Iterator[Image]:
    """Raises: ClusterError when the file is no docker-archive of one image."""
    with ExitStack() as stack:
        try:
            outer = stack.enter_context(tarfile.open(archive))
            [manifest] = json.loads(_content(outer, "manifest.json").read())
        except (OSError, tarfile.TarError, KeyError, ValueError) as error:
            raise ClusterError(f"{archive} is no docker-archive of one image: {error}") from error
        layers = []
        for name in manifest["Layers"]:
            stream = _content(outer, name)
            layers.append(Layer(stream, stack.enter_context(tarfile.open(fileobj=stream))))
        yield Image(
            id=PurePosixPath(manifest["Config"]).name.removesuffix(".json"),
            tags=tuple(manifest["RepoTags"] or ()),
            config=json.loads(_content(outer, manifest["Config"]).read()),
            layers=tuple(layers),
            files=_merge(layers),
        )


def _content(outer: tarfile.TarFile, name: str) -> IO[bytes]:
    content = outer.extractfile(name)
    if content is None:
        raise KeyError(name)
    return content


def _merge(layers: Iterable[Layer]) -> dict[str, tuple[Layer, tarfile.TarInfo]]:
    """Later layers hide what they write or white out."""
    files: dict[str, tuple[Layer, tarfile.TarInfo]] = {}
    for layer in layers:
        members = {member.name.removeprefix("./"): member for member in layer.tar}
        for path in members:
            directory, _, name = path.rpartition("/")
            if name.startswith(_WHITEOUT):
                hidden = directory if name == _OPAQUE else f"{directory}/{name.removeprefix(_WHITEOUT)}".lstrip("/")
                files = {old: at for old, at in files.items() if old != hidden and not old.startswith(f"{hidden}/")}
        files |= {
            path: (layer, member)
            for path, member in members.items()
            if not member.isdir() and not PurePosixPath(path).name.startswith(_WHITEOUT)
        }
    return files
