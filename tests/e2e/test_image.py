"""memop's own image: what is in it and what is not, and that it runs as the manifests run it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster.binaries import architecture
from hack.cluster.progress import Progress
from hack.image.archive import Image, open_image
from hack.image.build import REFERENCE, build
from hack.image.prune import LEFT_OUT, SITE
from hack.image.sbom import bill
from memop import __version__
from tests.support.kubectl import Json, Kubectl, eventually

MIB = 2**20
# A fifth above what was measured (docs/image.md), so that growth is a decision.
BOUND, COMPRESSED_BOUND = 118 * MIB, 41 * MIB
KUBECONFIG = json.dumps(
    {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://api.example"}}],
        "users": [{"name": "u", "user": {"token": "mine"}}],
    }
)
DISTRIBUTION = re.compile(r"(.*/)?[^/]+\.dist-info/METADATA")
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
INSIDE = """
import os, subprocess, sys
print(os.getuid(), os.getgid(), os.getgroups())
for path in ("/x", "/tmp/x", f"{sys.path[-1]}/x"):
    try:
        open(path, "w")
    except OSError as error:
        print(error.strerror)
try:
    subprocess.run("true", shell=True)
except FileNotFoundError as error:
    print("no", error.filename)
"""


@pytest.fixture(scope="module")
def archive() -> Path:
    """`make test-e2e` has built it and loaded it into the cluster's node."""
    return build(architecture(), Progress())


@pytest.fixture
def image(archive: Path) -> Iterator[Image]:
    with open_image(archive) as image:
        yield image


@pytest.fixture
def restricted(kubectl: Kubectl) -> Kubectl:
    """In a namespace that takes no pod which is not restricted, as memop's own is."""
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    return kubectl


def run(kubectl: Kubectl, name: str, **container: object) -> str:
    """What the image prints and exits 0 for, under the manifests' security settings; the user is the image's own."""
    pod: Json = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "memop",
                    "image": REFERENCE,
                    "imagePullPolicy": "Never",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    **container,
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }

    def ended() -> str:
        phase: str = kubectl.get("pod", name)["status"]["phase"]
        assert phase in {"Succeeded", "Failed"}, kubectl("describe", "pod", name).stdout
        return phase

    kubectl.create(pod)
    phase = eventually(ended)
    printed = kubectl("logs", name).stdout
    assert phase == "Succeeded", printed
    return printed


def test_python_is_the_only_command_in_the_image(image: Image) -> None:
    """So there is no shell, compiler, package manager or pip, whatever its name."""
    directories = {"bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"}
    commands = {path for path in image.files if path.rpartition("/")[0] in directories}
    assert commands == {"usr/bin/python", "usr/bin/python3", "usr/bin/python3.11"}
    modules = {path.removeprefix(f"{SITE[1:]}/").partition("/")[0] for path in image.files}
    assert not modules & {"pip", "setuptools", "wheel"}
    assert not [path for path in image.files if "ensurepip" in path]


def test_nothing_in_the_image_gives_rights_or_may_be_written_by_its_user(image: Image) -> None:
    gives = [path for path, (_, member) in image.files.items() if member.mode & 0o6000]
    writable = [
        path
        for path, (_, member) in image.files.items()
        if not member.issym() and (member.mode & 0o002 or (member.uid == 65532 and member.mode & 0o200))
    ]
    assert (gives, writable) == ([], [])


def test_nothing_of_the_building_machine_is_in_the_image(image: Image) -> None:
    assert not [path for path in image.files if path.endswith(("pip.conf", ".netrc")) or path.startswith("run/")]
    for layer in image.layers[1:]:
        content = {member.name: layer.tar.extractfile(member) for member in layer.tar if member.isreg()}
        root = str(Path.cwd()).encode()
        assert not [name for name, file in content.items() if file and root in file.read()]


def test_the_image_says_what_it_is_and_whom_it_runs_as(image: Image) -> None:
    config = image.config["config"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}

    assert (labels["title"], labels["licenses"], labels["version"]) == ("memop", "Apache-2.0", __version__)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])
    assert config["User"] == "65532:65532"
    assert (config["Entrypoint"], config["Cmd"]) == (["/usr/bin/python3", "-I", "-m", "memop.cli"], ["run"])
    assert (image.config["os"], image.config["architecture"]) == ("linux", architecture())


def test_the_image_stays_small(image: Image) -> None:
    assert sum(layer.size() for layer in image.layers) < BOUND
    assert sum(layer.compressed_size() for layer in image.layers) < COMPRESSED_BOUND


def test_the_image_has_what_the_lock_names_less_what_is_left_out_and_the_bill_says_so(image: Image) -> None:
    locked = re.findall(r"^([a-z0-9-]+)==(\S+)", Path("requirements-image.lock").read_text(), re.MULTILINE)
    wanted = {f"pkg:pypi/{name}@{version}" for name, version in locked if name not in LEFT_OUT}
    listed = {part["purl"] for part in bill(image)["components"]}

    assert {purl for purl in listed if not purl.startswith("pkg:deb/")} == wanted | {f"pkg:generic/memop@{__version__}"}
    installed = {match[0] for match in map(DISTRIBUTION.match, image.files) if match}
    assert len(installed) == len(wanted) + 1


def test_the_image_prints_its_version(restricted: Kubectl) -> None:
    assert run(restricted, "version", args=["--version"]) == f"memop {__version__}\n"


def test_the_image_prints_the_crds(restricted: Kubectl) -> None:
    here = subprocess.run([sys.executable, "-m", "memop.cli", "crds"], capture_output=True, text=True, check=True)
    assert run(restricted, "crds", args=["crds"]) == here.stdout


def test_the_image_runs_without_a_shell_as_a_user_who_can_write_nothing(restricted: Kubectl) -> None:
    printed = run(restricted, "inside", command=["/usr/bin/python3", "-I", "-c", INSIDE]).splitlines()
    assert printed == ["65532 65532 [65532]", *["Read-only file system"] * 3, "no /bin/sh"]


def test_the_image_has_all_that_memop_loads_and_reads_both_kinds_of_credentials(restricted: Kubectl) -> None:
    script = Path("tests/support/image_probe.py").read_text()
    command = ["/usr/bin/python3", "-I", "-c", script, KUBECONFIG, ACCOUNT]
    printed = run(restricted, "probe", command=command, volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}])  # noqa: S108
    assert printed.splitlines() == ["https://api.example Bearer mine", "https://10.96.0.1:443 Bearer eyJh"]
