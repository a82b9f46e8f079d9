"""Other operators' manifests, as their own documentation has them, by traffic."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.dataplane.client import Client
from tests.support.clusters import PATIENCE
from tests.support.kubectl import Kubectl, condition, eventually
from tests.support.operator import Operator

SAMPLE = Path(__file__).parents[2] / "manifests/samples/compat/ianlewis.yaml"
FOREIGN = "memcachedclusters.ianlewis.org"
NATIVE = "memcachedclusters.memcached.c5c3.io"


def memop(*args: str) -> str:
    command = [sys.executable, "-m", "memop.cli", *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def definitions(crds: None) -> Iterator[None]:
    printed = memop("crds", "--compat")
    Kubectl("default").install(printed)
    yield
    Kubectl("default")("delete", "-f", "-", input=printed)


@pytest.fixture
def other(crds: None) -> Iterator[Kubectl]:
    """kubectl in a second namespace."""
    other = Kubectl(f"t-{uuid.uuid4().hex[:8]}")
    other("create", "namespace", other.namespace)
    yield other
    other("delete", "namespace", other.namespace, "--wait=false")


def use(kubectl: Kubectl, name: str) -> None:
    address = kubectl.get("service", name)["spec"]["clusterIP"]
    with Client(address, 11211) as client:
        for number in range(20):
            assert client.ask(f"set key-{number} 0 0 2\r\nv{number % 10}\r\n") == "STORED\r\n"
        for number in range(20):
            assert client.ask(f"get key-{number}\r\n") == f"VALUE key-{number} 0 2\r\nv{number % 10}\r\nEND\r\n"


def test_the_older_cluster_kind_is_served_as_its_manifest_is_and_its_conversion_serves_alike(
    definitions: None, kubectl: Kubectl, other: Kubectl, tmp_path: Path
) -> None:
    """Its definition is installed while memop runs. mcrouter's kinds need an image that this cluster has not."""
    name = yaml.safe_load(SAMPLE.read_text())["metadata"]["name"]
    flags = f"--watch-namespaces={kubectl.namespace},{other.namespace}"
    with Operator(tmp_path / "memop.log", flags):
        kubectl("apply", "-f", str(SAMPLE))
        other("apply", "-f", "-", input=memop("convert", "-f", str(SAMPLE)))
        for where, kind in ((kubectl, FOREIGN), (other, NATIVE)):
            eventually(partial(_ready, where, kind, name), timeout=2 * PATIENCE)
            use(where, name)
        served, converted = (where.get(NATIVE, name)["spec"] for where in (kubectl, other))
        assert served == converted
        kubectl("delete", FOREIGN, name)
        eventually(partial(_gone, kubectl), timeout=PATIENCE)


def _ready(kubectl: Kubectl, kind: str, name: str) -> None:
    assert condition(kubectl.get(kind, name), "Ready")["status"] == "True"


def _gone(kubectl: Kubectl) -> None:
    kinds = f"{NATIVE},memcacheds,deployments,services,configmaps,pods"
    left = kubectl("get", kinds, "-l", "app.kubernetes.io/managed-by", "-o", "name")
    assert not left.stdout, left.stdout
