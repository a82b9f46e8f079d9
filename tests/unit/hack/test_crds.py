"""Where the definitions of kinds are taken from."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from hack.cluster.crds import CrdStore
from hack.cluster.errors import ClusterError
from hack.cluster.progress import Progress
from hack.cluster.versions import HACK, Crd, crds, load_versions

PINNED = crds(load_versions())
CRD = PINNED["certificates.cert-manager.io"]


class Place:
    """An imagined machine: its cache, its Go and the module that this Go gets."""

    def __init__(self, root: Path) -> None:
        self.store = CrdStore(root / "cache", Progress(Console(file=io.StringIO())), {"PATH": f"{root / 'path'}:/bin"})
        self._path = root / "path"
        self._path.mkdir()
        self._module = root / "module"

    def publish(self, text: str) -> None:
        file = self._module / CRD.file
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(0o444)  # as everything in Go's module cache

    def install_go(self, download: str = "true") -> None:
        program = self._path / "go"
        program.write_text(f'#!/bin/sh\nif [ "$1" = list ]; then echo {self._module}; else {download}; fi\n')
        program.chmod(0o755)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_definition_is_what_the_module_has(place: Place) -> None:
    place.publish("kind: CustomResourceDefinition\n")
    place.install_go()

    place.store.ensure([CRD])

    assert place.store.cached(CRD).read_text() == "kind: CustomResourceDefinition\n"


def test_what_is_in_the_cache_needs_no_go(place: Place) -> None:
    place.store.cached(CRD).parent.mkdir(parents=True)
    place.store.cached(CRD).touch()

    place.store.ensure([CRD])

    assert place.store.missing([CRD]) == []


def test_without_go_the_error_says_what_to_install(place: Place) -> None:
    with pytest.raises(ClusterError) as failure:
        place.store.ensure([CRD])

    assert "install Go" in failure.value.render()


def test_a_refused_download_leaves_nothing_and_shows_its_log(place: Place) -> None:
    place.publish("")
    place.install_go(download="echo checksum mismatch >&2; exit 1")

    with pytest.raises(ClusterError) as failure:
        place.store.ensure([CRD])

    assert place.store.missing([CRD]) == [CRD]
    assert "checksum mismatch" in failure.value.render()


@pytest.mark.parametrize("crd", PINNED.values(), ids=lambda crd: crd.name)
def test_the_checked_in_go_module_pins_version_and_content(crd: Crd) -> None:
    directory = HACK / "go" / crd.project

    assert f"require {crd.module} {crd.version}\n" in (directory / "go.mod").read_text()
    assert f"{crd.module} {crd.version} h1:" in (directory / "go.sum").read_text()
