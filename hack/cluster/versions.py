"""The pinned versions, which Go package each binary is built from, and which Go module has which definition."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HACK = Path(__file__).resolve().parent.parent
VERSIONS_FILE = HACK / "versions.toml"

KUBERNETES_BINARIES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)
_OTHER_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "github.com/coredns/coredns",
    "memcached_exporter": "github.com/prometheus/memcached_exporter/cmd/memcached_exporter",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
    "metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server",
    "pause": "memop.invalid/hack/pause",
}
_FOR_IMAGES = ("memcached_exporter", "pause")
LOCAL_PROJECTS = {"pause": "v1.0.0"}  # their source is in this repository
# Where a binary says its own version only when the linker was told to. {v} is v1.2.3, {bare} is 1.2.3.
_LINKER_VARIABLES = {
    "kubernetes": (
        "k8s.io/component-base/version.gitVersion={v}",
        "k8s.io/component-base/version.gitMajor={major}",
        "k8s.io/component-base/version.gitMinor={minor}",
    ),
    "memcached_exporter": ("github.com/prometheus/common/version.Version={bare}",),
    "kwok": ("sigs.k8s.io/kwok/pkg/consts.Version={v}",),
    "metrics-server": ("k8s.io/client-go/pkg/version.gitVersion={v}",),
}
_VERSION_ARGUMENTS = {"kubectl": ("version", "--client"), "coredns": ("-version",)}


# Both files are plain YAML. cert-manager's chart has its own, templated; what it installs has the same spec.
_CRDS = {
    "servicemonitors.monitoring.coreos.com": (
        "prometheus-operator",
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "certificates.cert-manager.io": (
        "cert-manager",
        "github.com/cert-manager/cert-manager",
        "deploy/crds/cert-manager.io_certificates.yaml",
    ),
}


@dataclass(frozen=True)
class Binary:
    """One program of the cluster: its name, its pinned release and how to build it."""

    name: str
    project: str  # directory under hack/go, and the key in versions.toml
    version: str
    package: str
    installed_will_do: bool = True  # False where it goes into an image made from nothing, and so must be static

    @property
    def bare_version(self) -> str:
        return self.version.removeprefix("v")

    @property
    def version_arguments(self) -> tuple[str, ...]:
        return _VERSION_ARGUMENTS.get(self.name, ("--version",))

    @property
    def ldflags(self) -> str:
        major, minor, *_ = self.bare_version.split(".")
        variables = _LINKER_VARIABLES.get(self.project, ())
        return " ".join(
            ["-s", "-w"]
            + [f"-X {v.format(v=self.version, bare=self.bare_version, major=major, minor=minor)}" for v in variables]
        )


@dataclass(frozen=True)
class Crd:
    """The definition of a kind of somebody else's: its pinned release and where its Go module has it."""

    name: str
    project: str  # directory under hack/go, and the key in versions.toml
    version: str
    module: str
    file: str


def load_versions(path: Path = VERSIONS_FILE) -> dict[str, str]:
    """Project → version, as pinned."""
    return LOCAL_PROJECTS | {name: str(version) for name, version in tomllib.loads(path.read_text()).items()}


def catalogue(versions: dict[str, str]) -> dict[str, Binary]:
    """Every binary the tool knows, by name."""
    kubernetes = {
        name: Binary(name, "kubernetes", versions["kubernetes"], f"k8s.io/kubernetes/cmd/{name}")
        for name in KUBERNETES_BINARIES
    }
    others = {
        name: Binary(name, name, versions[name], package, installed_will_do=name not in _FOR_IMAGES)
        for name, package in _OTHER_PACKAGES.items()
    }
    return kubernetes | others


def crds(versions: dict[str, str]) -> dict[str, Crd]:
    """Every definition the tool knows, by name."""
    return {
        name: Crd(name, project, versions[project], module, file) for name, (project, module, file) in _CRDS.items()
    }
