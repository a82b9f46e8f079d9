"""Programs out of Debian packages, and what the pinned ones say."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from hack import tools
from hack.cluster.errors import ClusterError
from hack.cluster.progress import Progress
from hack.cluster.versions import catalogue, load_versions

PROGRESS = Progress(Console(file=io.StringIO()))


class Machine:
    """An imagined Debian: its apt offers `prometheus` in one version, whose package has one program."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = root / "cache"
        self._path = root / "path"
        self._path.mkdir()
        monkeypatch.setenv("PATH", f"{self._path}:/bin:/usr/bin")
        self.offer("2.42.0+ds-5")
        self.script("apt-get", "touch prometheus.deb")
        self.script("dpkg-deb", 'mkdir -p "$3/usr/bin" && echo of "$2" >"$3/usr/bin/promtool"')

    def script(self, name: str, body: str) -> None:
        (self._path / name).write_text(f"#!/bin/sh\n{body}\n")
        (self._path / name).chmod(0o755)

    def offer(self, version: str) -> None:
        self.script("apt-cache", f"echo Package: prometheus; echo Version: {version}")

    def programs(self) -> Path:
        return tools._unpacked("prometheus", self.cache, PROGRESS)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_the_programs_of_a_package_are_kept_by_its_version(machine: Machine) -> None:
    programs = machine.programs()

    assert programs == machine.cache / "bin" / "prometheus-2.42.0+ds-5"
    assert (programs / "promtool").read_text().startswith("of ")
    assert sorted(path.name for path in programs.parent.iterdir()) == [programs.name]


def test_what_is_in_the_cache_is_not_downloaded_again(machine: Machine) -> None:
    first = machine.programs()
    machine.script("apt-get", "exit 1")

    assert machine.programs() == first


def test_a_version_that_apt_has_not_offered_before_is_downloaded(machine: Machine) -> None:
    machine.programs()
    machine.offer("2.53.0")

    assert machine.programs().name == "prometheus-2.53.0"


def test_a_failed_download_leaves_nothing_and_shows_its_log(machine: Machine) -> None:
    machine.script("apt-get", "echo no route to host; exit 100")

    with pytest.raises(ClusterError) as failure:
        machine.programs()

    assert "no route to host" in failure.value.render()
    assert list((machine.cache / "bin").iterdir()) == []


def test_root_has_apt_fetch_its_lists_where_there_are_none(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.script("apt-cache", 'test -e "$(dirname "$0")/lists" && echo Version: 3.0 || exit 100')
    machine.script("apt-get", '[ "$1" = update ] && touch "$(dirname "$0")/lists" || touch prometheus.deb')

    assert machine.programs().name == "prometheus-3.0"


def test_others_are_told_what_root_must_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.script("apt-cache", "exit 100")

    with pytest.raises(ClusterError) as failure:
        machine.programs()

    assert "as root: apt-get update" in failure.value.render()


def test_helm_imagines_the_kubernetes_that_tests_run() -> None:
    _, minor, _ = load_versions()["kubernetes"].split(".")

    assert catalogue(load_versions())["helm"].ldflags.count(f"k8sVersionMinor={minor}") == 2
