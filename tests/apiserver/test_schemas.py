"""Every manifest and sample has only fields that the oldest, the default and the newest API server and the CRDs know.

Told by kubeconform. No schema is downloaded, and no API server asked.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster.crds import CrdStore
from hack.cluster.layout import cache_dir
from hack.cluster.progress import Progress
from hack.cluster.versions import KUBERNETES, crds, is_kubernetes, load_versions
from hack.schemas import LOCATION, write_custom, write_kubernetes
from hack.tools import tool

MANIFESTS = Path(__file__).parents[2] / "manifests"
CHART = MANIFESTS / "chart" / "memop"
VALUES = {
    "default": [],
    "everything": [
        "webhooks.certManager.enabled=true",
        "metrics.serviceMonitor.enabled=true",
        "metrics.rules.enabled=true",
        "metrics.dashboard.enabled=true",
        "networkPolicy.enabled=true",
        "compat.install=true",
        "priorityClassName=system-cluster-critical",
    ],
    "namespaced": ["watchNamespaces={default}", "webhooks.enabled=false", "metrics.secure=false"],
}
PROJECTS = [project for project in load_versions() if is_kubernetes(project)]


@pytest.fixture(scope="session")
def foreign_definitions() -> list[Path]:
    wanted = list(crds(load_versions()).values())
    store = CrdStore(cache_dir(), Progress())
    store.ensure(wanted)
    return [store.cached(crd) for crd in wanted]


@pytest.fixture(scope="session")
def schemas(foreign_definitions: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kubernetes project → a directory with the schemas of its kinds, our own and the foreign ones."""
    root = tmp_path_factory.mktemp("schemas")
    own = [path for directory in ("crd", "compat") for path in plain(MANIFESTS / directory)]

    def written(project: str) -> Path:
        directory = root / project
        if not directory.exists():
            write_kubernetes(directory, project)
            write_custom(directory, (crd for path in [*own, *foreign_definitions] for crd in loaded(path)))
        return directory

    return written


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything that a user may apply: plain files, kustomize builds, the chart as rendered."""
    directory = tmp_path_factory.mktemp("manifests")
    made = {path.relative_to(MANIFESTS): path.read_text() for path in plain(MANIFESTS) if CHART not in path.parents}
    for path in MANIFESTS.rglob("kustomization.yaml"):
        if yaml.safe_load(path.read_text())["kind"] == "Kustomization":  # a Component is built where it is used
            made[path.relative_to(MANIFESTS)] = output("kubectl", "kustomize", path.parent)
    for name, settings in VALUES.items():
        rendered = output(tool("helm"), "template", "memop", CHART, *(f"--set={setting}" for setting in settings))
        made[Path("chart") / f"{name}.yaml"] = rendered
    for path, text in made.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    return directory


@pytest.fixture(scope="session")
def documents(manifests: Path) -> int:
    """How many objects these are."""
    return sum(len(loaded(path)) for path in manifests.rglob("*.yaml"))


def loaded(path: Path) -> list[Any]:
    return [document for document in yaml.load_all(path.read_text(), yaml.CSafeLoader) if document]


def plain(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*.yaml")) if path.name != "kustomization.yaml"]


def sample(name: str) -> str:
    return (MANIFESTS / "samples" / name).read_text()


def output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def conform(schemas: Path, *paths: Path) -> tuple[int, list[str]]:
    """How many documents are valid, and a complaint for each other."""
    done = subprocess.run(
        [tool("kubeconform"), "-strict", "-summary", "-output=json", f"-schema-location={schemas}/{LOCATION}", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["summary"]["skipped"] == 0
    complaints = [f"{r['filename']}: {r.get('kind')} {r.get('name')}: {r['msg']}" for r in told.get("resources", ())]
    assert bool(done.returncode) == bool(complaints), done.stderr
    return told["summary"]["valid"], complaints


@pytest.mark.parametrize("project", PROJECTS)
def test_every_manifest_conforms(project: str, schemas: Callable[[str], Path], manifests: Path, documents: int) -> None:
    valid, complaints = conform(schemas(project), manifests)

    assert complaints == []
    assert valid == documents > 0


SERVICE_MONITOR = """\
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: x}
spec: {selector: {}, endpoints: [{port: x}]}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: x}
spec:
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec:
      containers: [{name: x, image: x, resources: {limits: {memory: 1Gi}}, ports: [{containerPort: 1, name: x}]}]
"""


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (DEPLOYMENT.replace("image: x", "imagee: x"), "'imagee' not allowed"),
        (DEPLOYMENT.replace("memory: 1Gi", "memory: lots"), "does not match pattern"),
        (DEPLOYMENT.replace("containerPort: 1", "containerPort: web"), "got string, want integer"),
        (DEPLOYMENT.replace("metadata: {name: x}", "metadata: {name: x}\nspec: {}"), 'key "spec" already set'),
        (DEPLOYMENT.replace("apps/v1", "apps/v2"), "could not find schema"),
        (sample("minimal.yaml").replace("{}", "{memory: 1}"), "'memory' not allowed"),
        (sample("cluster/minimal.yaml").replace("{}", "{shards: many}"), "got string, want integer"),
        (sample("compat/memshack.yaml").replace("num_shards: 2", "num_shards: two"), "got string, want integer"),
        (sample("minimal.yaml").replace("name: minimal", "nam: minimal"), "'nam' not allowed"),
        (SERVICE_MONITOR.replace("port: x", "prot: x"), "'prot' not allowed"),
    ],
)
def test_a_wrong_field_is_told(wrong: str, complaint: str, schemas: Callable[[str], Path], tmp_path: Path) -> None:
    manifest = tmp_path / "wrong.yaml"
    manifest.write_text(wrong)

    valid, complaints = conform(schemas(KUBERNETES), manifest)

    assert valid == 0
    assert complaint in "".join(complaints)


@pytest.mark.parametrize("right", [DEPLOYMENT, SERVICE_MONITOR], ids=["Deployment", "ServiceMonitor"])
def test_without_their_mistakes_these_conform(right: str, schemas: Callable[[str], Path], tmp_path: Path) -> None:
    manifest = tmp_path / "right.yaml"
    manifest.write_text(right)

    assert conform(schemas(KUBERNETES), manifest) == (1, [])
