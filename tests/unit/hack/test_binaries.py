"""Where a binary is taken from."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from hack.cluster.binaries import Finder, says_version
from hack.cluster.errors import ClusterError
from hack.cluster.progress import Progress
from hack.cluster.versions import (
    HACK,
    KUBERNETES,
    LOCAL_PROJECTS,
    Binary,
    catalogue,
    is_kubernetes,
    kubernetes_project,
    load_versions,
)

VERSIONS = load_versions()
RANGE_ENDS = [project for project in VERSIONS if is_kubernetes(project) and project != KUBERNETES]
ETCD = Binary("etcd", "etcd", "v3.6.5", "go.etcd.io/etcd/server/v3")


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


class Place:
    """An imagined machine: what is installed where, and what was said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said = io.StringIO()

    def finder(self, **environment: str) -> Finder:
        return Finder(
            self.root / "cache",
            Progress(Console(file=self.said, width=500)),
            {"PATH": f"{self.root / 'path'}:/bin:/usr/bin", **environment},
            download_base=None,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def etcd_of(version: str) -> str:
    return f'echo "etcd Version: {version}"'


def test_the_named_directory_comes_before_everything_else(place: Place) -> None:
    named = script(place.root / "assets" / "etcd", etcd_of("0.0.1"))
    script(place.root / "path" / "etcd", etcd_of("3.6.5"))

    found = place.finder(KUBEBUILDER_ASSETS=str(named.parent)).find([ETCD])

    assert found == {"etcd": named}
    assert "binaries from $KUBEBUILDER_ASSETS: etcd v3.6.5" in place.said.getvalue()


def test_a_program_on_the_path_is_taken_when_it_has_the_pinned_version(place: Place) -> None:
    installed = script(place.root / "path" / "etcd", etcd_of("3.6.5"))

    assert place.finder().find([ETCD]) == {"etcd": installed}


def test_a_program_on_the_path_of_another_version_is_ignored_aloud(place: Place) -> None:
    script(place.root / "path" / "etcd", etcd_of("3.4.23"))
    cached = script(place.root / "cache" / "bin" / "etcd-v3.6.5" / "etcd", "")

    assert place.finder().find([ETCD]) == {"etcd": cached}
    assert "etcd ignored: it does not say v3.6.5" in place.said.getvalue()
    assert "binaries from the cache: etcd v3.6.5" in place.said.getvalue()


def test_what_is_nowhere_is_built_and_kept(place: Place) -> None:
    script(place.root / "path" / "go", 'while [ "$1" != -o ]; do shift; done; echo built >"$2"')

    path = place.finder().find([ETCD])["etcd"]

    assert path == place.root / "cache" / "bin" / "etcd-v3.6.5" / "etcd"
    assert path.read_text() == "built\n"
    assert path.stat().st_mode & 0o111
    assert "binaries from a Go build" in place.said.getvalue()


def test_a_build_that_fails_midway_leaves_no_binary_and_shows_its_log(place: Place) -> None:
    script(place.root / "path" / "go", 'while [ "$1" != -o ]; do shift; done; echo half >"$2"; echo no space; exit 1')

    with pytest.raises(ClusterError) as failure:
        place.finder().find([ETCD])

    assert not place.finder().cached(ETCD).exists()
    assert "no space" in failure.value.render()


def test_without_go_the_error_says_what_to_install(place: Place) -> None:
    with pytest.raises(ClusterError) as failure:
        place.finder(PATH=str(place.root / "path")).find([ETCD])

    assert "install Go" in failure.value.render()


@pytest.mark.parametrize(
    ("output", "matches"),
    [
        ("Kubernetes v1.34.4", True),
        ("Client Version: v1.34.4\nKustomize Version: v5.7.1", True),
        ("CoreDNS-1.34.4\nlinux/amd64", True),
        ("etcd Version: 1.34.4", True),
        ("Kubernetes v1.34.40", False),
        ("Kubernetes v1.34.4-rc.1", False),
        ("Kubernetes v11.34.4", False),
        ("Client Version: v1.32.4-dispatcher", False),
    ],
)
def test_a_version_is_recognised_as_a_whole(output: str, matches: bool) -> None:
    assert says_version(output, "v1.34.4") is matches


@pytest.mark.parametrize(
    "binary",
    dict.fromkeys(
        binary
        for project in (KUBERNETES, *RANGE_ENDS)
        for binary in catalogue(VERSIONS, project).values()
        if binary.project not in LOCAL_PROJECTS
    ),
    ids=lambda binary: f"{binary.project}-{binary.name}",
)
def test_the_checked_in_go_module_pins_the_version_in_versions_toml(binary: Binary) -> None:
    gomod = (HACK / "go" / binary.project / "go.mod").read_text()
    module_of = {
        **dict.fromkeys((KUBERNETES, *RANGE_ENDS), "k8s.io/kubernetes"),
        "memcached_exporter": "github.com/prometheus/memcached_exporter",
        "kwok": "sigs.k8s.io/kwok",
        "metrics-server": "sigs.k8s.io/metrics-server",
        "helm": "helm.sh/helm/v3",
        "kubeconform": "github.com/yannh/kubeconform",
    }

    assert f"{module_of.get(binary.project, binary.package)} {binary.version}" in gomod


def test_kubernetes_is_told_its_version_by_the_linker() -> None:
    flags = catalogue({**load_versions(), "kubernetes": "v1.34.4"})["kube-apiserver"].ldflags

    assert "gitVersion=v1.34.4" in flags
    assert "gitMajor=1 " in flags
    assert flags.endswith("gitMinor=34")


@pytest.mark.parametrize("project", RANGE_ENDS)
def test_an_end_of_the_range_has_its_own_control_plane_and_the_usual_rest(project: str) -> None:
    binaries, usual = catalogue(VERSIONS, project), catalogue(VERSIONS)

    assert {name for name in usual if binaries[name] != usual[name]} == {
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
    }
    assert f"gitVersion={VERSIONS[project]}" in binaries["kube-apiserver"].ldflags


@pytest.mark.parametrize(
    ("wanted", "project"),
    [
        ("oldest", "kubernetes-oldest"),
        ("newest", "kubernetes-newest"),
        ("v1.30.14", "kubernetes-oldest"),
        ("1.30", "kubernetes-oldest"),
        ("1.34", "kubernetes"),
        ("1.3", None),
        ("1.30.1", None),
        ("", None),
    ],
)
def test_a_version_of_kubernetes_is_named_by_its_end_of_the_range_or_by_number(
    wanted: str, project: str | None
) -> None:
    versions = {
        "etcd": "v3.6.5",
        "kubernetes": "v1.34.4",
        "kubernetes-oldest": "v1.30.14",
        "kubernetes-newest": "v1.36.3",
    }

    assert kubernetes_project(versions, wanted) == project


def test_the_default_lies_within_the_range() -> None:
    minors = {project: int(VERSIONS[project].split(".")[1]) for project in (*RANGE_ENDS, KUBERNETES)}

    assert minors["kubernetes-oldest"] < minors[KUBERNETES] <= minors["kubernetes-newest"]
