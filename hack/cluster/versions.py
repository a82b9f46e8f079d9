"""The pinned versions, which Go package each binary is built from, and which Go module has which definition."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HACK = Path(__file__).resolve().parent.parent
VERSIONS_FILE = HACK / "versions.toml"

KUBERNETES = "kubernetes"
# What of the range's ends is taken: all of levels 1 and 2. kubectl is always the default's.
_RANGE_BINARIES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
KUBERNETES_BINARIES = (*_RANGE_BINARIES, "kubelet", "kube-proxy", "kubectl")
_OTHER_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "github.com/coredns/coredns",
    "memcached_exporter": "github.com/prometheus/memcached_exporter/cmd/memcached_exporter",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
    "metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server",
    "pause": "memop.invalid/hack/pause",
    "helm": "helm.sh/helm/v3/cmd/helm",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
}
_FOR_IMAGES = ("memcached_exporter", "pause")
LOCAL_PROJECTS = {"pause": "v1.0.0"}  # their source is in this repository
# Where a binary says its own version only when the linker was told to. {v} is v1.2.3, {bare} is 1.2.3.
_LINKER_VARIABLES = {
    KUBERNETES: (
        "k8s.io/component-base/version.gitVersion={v}",
        "k8s.io/component-base/version.gitMajor={major}",
        "k8s.io/component-base/version.gitMinor={minor}",
    ),
    "memcached_exporter": ("github.com/prometheus/common/version.Version={bare}",),
    "kwok": ("sigs.k8s.io/kwok/pkg/consts.Version={v}",),
    "metrics-server": ("k8s.io/client-go/pkg/version.gitVersion={v}",),
    # The Kubernetes that `helm template` and `helm lint` imagine; without these it is 1.20.
    "helm": (
        "helm.sh/helm/v3/internal/version.version={v}",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34",
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
        "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=34",
    ),
    "kubeconform": ("main.version={v}",),
}
_VERSION_ARGUMENTS = {
    "kubectl": ("version", "--client"),
    "coredns": ("-version",),
    "helm": ("version",),
    "kubeconform": ("-v",),
}


# All files are plain YAML. cert-manager's chart has its own, templated; what it installs has the same spec.
_PROMETHEUS_OPERATOR = ("prometheus-operator", "github.com/prometheus-operator/prometheus-operator")
_CERT_MANAGER = ("cert-manager", "github.com/cert-manager/cert-manager")
_CRDS = {
    f"{plural}.{group}": (*module, f"{directory}/{group}_{plural}.yaml")
    for module, directory, group, plurals in (
        (
            _PROMETHEUS_OPERATOR,
            "example/prometheus-operator-crd",
            "monitoring.coreos.com",
            ("servicemonitors", "podmonitors", "prometheusrules"),
        ),
        (_CERT_MANAGER, "deploy/crds", "cert-manager.io", ("certificates", "issuers", "clusterissuers")),
    )
    for plural in plurals
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
    def of_kubernetes(self) -> bool:
        return is_kubernetes(self.project)

    @property
    def bare_version(self) -> str:
        return self.version.removeprefix("v")

    @property
    def version_arguments(self) -> tuple[str, ...]:
        return _VERSION_ARGUMENTS.get(self.name, ("--version",))

    @property
    def ldflags(self) -> str:
        major, minor, *_ = self.bare_version.split(".")
        variables = _LINKER_VARIABLES.get(KUBERNETES if self.of_kubernetes else self.project, ())
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


def is_kubernetes(project: str) -> bool:
    return project.partition("-")[0] == KUBERNETES


def kubernetes_project(versions: dict[str, str], wanted: str) -> str | None:
    """The project that `wanted` names: "oldest", "newest", or a pinned release ("1.34", "v1.34.4")."""
    for project in filter(is_kubernetes, versions):
        version = versions[project]
        if project == f"{KUBERNETES}-{wanted}" or f"{version}.".startswith(f"v{wanted.removeprefix('v')}."):
            return project
    return None


def catalogue(versions: dict[str, str], kubernetes_project: str = KUBERNETES) -> dict[str, Binary]:
    """Every binary the tool knows, by name; the control plane is that of `kubernetes_project`."""
    projects = dict.fromkeys(KUBERNETES_BINARIES, KUBERNETES) | dict.fromkeys(_RANGE_BINARIES, kubernetes_project)
    kubernetes = {
        name: Binary(name, project, versions[project], f"k8s.io/kubernetes/cmd/{name}")
        for name, project in projects.items()
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
