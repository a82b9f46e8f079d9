"""What the image leaves out of its Python packages, and that memop does without."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest

from hack.image.prune import KEPT_PARTS, LEFT_OUT, prune
from tests.support.tls import Authority

METADATA = ("METADATA", "RECORD")
KUBECONFIG = json.dumps(
    {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example"}}],
        "users": [{"name": "u", "user": {"token": "mine"}}],
    }
)
PACKAGE = {
    "kept/__init__.py": "X = 1\n",
    "kept/__init__.pyi": "X: int\n",
    "kept/_fast.pyx": "",
    "kept/tests/test_x.py": "",
    "kept-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: kept\nVersion: 1\n",
    "README.md": "",
    "bin/kept": "",
    "pygments/__init__.py": "",
    "pygments-2.dist-info/METADATA": "Metadata-Version: 2.1\nName: Pygments\nVersion: 2\n",
    "kubernetes_asyncio/__init__.py": "",
    "kubernetes_asyncio/client/api.py": "",
    "kubernetes_asyncio/config/kube_config.py": "",
    "kubernetes_asyncio/config/kube_config_test.py": "",
    "kubernetes_asyncio-36.dist-info/METADATA": "Metadata-Version: 2.1\nName: kubernetes_asyncio\nVersion: 36\n",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory as `pip install --target` leaves it, in small."""
    site = tmp_path / "site"
    for name, text in PACKAGE.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for metadata in site.glob("*.dist-info"):
        owner = metadata.name.partition("-")[0]
        files = [*(site / owner).rglob("*.*"), *metadata.iterdir(), metadata / "RECORD", site / "README.md"]
        rows = [f"{path.relative_to(site)},sha256=abc,1" for path in files]
        (metadata / "RECORD").write_text("\n".join([*rows, f"../../bin/{owner},,", ""]))
    return site


def test_source_and_bytecode_of_what_is_used_stay_and_nothing_else(site: Path) -> None:
    prune(site)

    left = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    sources = {"kept/__init__.py", "kubernetes_asyncio/__init__.py", "kubernetes_asyncio/config/kube_config.py"}
    compiled = {importlib.util.cache_from_source(name) for name in sources}
    metadata = {f"{name}.dist-info/{file}" for name in ("kept-1", "kubernetes_asyncio-36") for file in METADATA}
    assert left == sources | compiled | metadata


def test_records_list_what_is_there(site: Path) -> None:
    prune(site)

    recorded = {str(file) for distribution in distributions(path=[str(site)]) for file in distribution.files or ()}
    left = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert recorded == left


def test_bytecode_is_never_checked_against_source_on_a_root_that_is_read_only(site: Path) -> None:
    prune(site)

    flags = Path(importlib.util.cache_from_source(str(site / "kept/__init__.py"))).read_bytes()[4:8]
    assert int.from_bytes(flags, "little") == 0b01, "hash-based, unchecked (PEP 552)"


def test_what_does_not_compile_fails_the_build(site: Path) -> None:
    (site / "kept/broken.py").write_text("def\n")

    with pytest.raises(SystemExit, match="not everything compiles"):
        prune(site)


def test_every_distribution_left_out_is_in_the_lock() -> None:
    """Otherwise the list says what is no longer so."""
    lock = Path("requirements-image.lock").read_text()
    assert not [name for name in LEFT_OUT if f"\n{name}==" not in lock]


# An import of what the image lacks fails.
HIDE = """
import json, sys

absent, parts = json.loads(sys.argv.pop(1))

class Absent:
    def find_spec(self, name, path=None, target=None):
        top, _, rest = name.partition(".")
        if top in absent or (rest and top in parts and rest.partition(".")[0] not in parts[top]):
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def service_account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("the-pod's")
    (tmp_path / "ca.crt").write_text(Authority().pem)
    return tmp_path


def run_without(modules: Iterable[str], service_account: Path) -> subprocess.CompletedProcess[str]:
    script = HIDE + Path("tests/support/image_probe.py").read_text()
    parts = {package: sorted(kept) for package, kept in KEPT_PARTS.items()}
    command = [sys.executable, "-c", script, json.dumps([[*modules], parts]), KUBECONFIG, str(service_account)]
    environment = {"PATH": os.defpath, "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_memop_runs_and_reads_its_credentials_without_what_the_image_leaves_out(service_account: Path) -> None:
    owners = {module: {name.lower() for name in names} for module, names in packages_distributions().items()}
    absent = [module for module in owners if owners[module] & LEFT_OUT.keys()]
    assert set().union(*(owners[module] for module in absent)) >= LEFT_OUT.keys()

    done = run_without(absent, service_account)

    assert done.stdout.splitlines() == ["https://api.example Bearer mine", "https://10.0.0.1:443 Bearer the-"], (
        done.stderr
    )


def test_what_memop_needs_would_be_missed(service_account: Path) -> None:
    assert "aiohttp is not in the image" in run_without(["aiohttp"], service_account).stderr
