"""Images made without an engine."""

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import pytest
from rich.console import Console

from hack.cluster.binaries import Finder
from hack.cluster.images import EXPORTER, MEMCACHED, ImageStore, write_archive
from hack.cluster.progress import Progress
from hack.cluster.versions import catalogue, load_versions


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    progress = Progress(Console(file=io.StringIO()))
    return ImageStore(tmp_path, Finder(tmp_path, progress), progress)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Debian root in small: something to keep, something to strip, a file the image brings itself."""
    path = tmp_path / "root.tar"
    with tarfile.open(path, "w") as tar:
        for name in (
            "usr/bin/memcached",
            "usr/share/man/man1/memcached.1",
            "usr/lib/x86_64-linux-gnu/perl/5.40/Foo.pm",
            "usr/lib/x86_64-linux-gnu/libc.so.6",
            "etc/passwd",
        ):
            member = tarfile.TarInfo(f"./{name}")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    return path


def test_an_archive_holds_the_root_less_what_a_container_has_no_use_for(tmp_path: Path, root: Path) -> None:
    archive = tmp_path / "image.tar"
    write_archive(archive, MEMCACHED, root, {})

    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json") or io.BytesIO())[0]
        config = json.load(outer.extractfile(manifest["Config"]) or io.BytesIO())
        with tarfile.open(fileobj=outer.extractfile(manifest["Layers"][0])) as layer:
            names = layer.getnames()
            passwd = (layer.extractfile("etc/passwd") or io.BytesIO()).read().decode()
            entrypoint = layer.getmember("usr/local/bin/docker-entrypoint.sh")
    assert "docker.io/library/memcached:1.6" in manifest["RepoTags"]
    assert {"usr/bin/memcached", "usr/lib/x86_64-linux-gnu/libc.so.6"} <= set(names)
    assert not [name for name in names if "man1" in name or "perl" in name]
    assert names.count("etc/passwd") == 1
    assert "memcache:x:11211:11211:" in passwd
    assert entrypoint.mode == 0o755
    assert config["config"]["User"] == "memcache"
    assert config["config"]["Entrypoint"] == ["docker-entrypoint.sh"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{manifest['Layers'][0].removesuffix('.tar')}"]


def test_a_changed_recipe_makes_another_archive(store: ImageStore) -> None:
    binaries = catalogue(load_versions())
    changed = dataclasses.replace(MEMCACHED, user="root")

    assert store.archive(MEMCACHED, binaries) == store.archive(MEMCACHED, binaries)
    assert store.archive(changed, binaries) != store.archive(MEMCACHED, binaries)


def test_a_newer_binary_makes_another_archive(store: ImageStore) -> None:
    versions = load_versions()
    newer = catalogue({**versions, "memcached_exporter": "v9.9.9"})

    assert store.archive(EXPORTER, newer) != store.archive(EXPORTER, catalogue(versions))
