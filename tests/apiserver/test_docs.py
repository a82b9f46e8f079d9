"""Every manifest that the documentation or the samples show, applied to a real API server and taken by memop."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest
import yaml

from memop.api.schema import foreign_kinds, kinds
from tests.support import crds as definitions
from tests.support.kubectl import Json, Kubectl, condition, eventually
from tests.support.operator import Operator
from tests.support.pages import manifests

KINDS = ",".join(kind.crd_name for kind in (*kinds(), *foreign_kinds()))
CONVERTED = "cache.example.com"
GROUPS = {CONVERTED, *(kind.group for kind in (*kinds(), *foreign_kinds()))}
MANIFESTS = manifests()


class World(NamedTuple):
    """By place: the manifests' namespaces, kubectl's answers to them, and the CRs, once memop has told of each."""

    namespaces: dict[str, str]
    answers: dict[str, subprocess.CompletedProcess[str]]
    crs: dict[str, list[Json]]


@pytest.fixture(scope="module")
def all_kinds(crds: None) -> Iterator[None]:
    """Foreign kinds, ServiceMonitor and Certificate, for these tests alone: others are about clusters without."""
    kubectl = Kubectl("default")
    others = (definitions.servicemonitors(), definitions.certificates())
    texts = [memop("crds", "--compat"), *(path.read_text(encoding="utf-8") for path in others)]
    for text in texts:
        kubectl.install(text)
    yield
    for text in texts:
        kubectl("delete", "--ignore-not-found", "-f", "-", input=text)


@pytest.fixture(scope="module")
def world(all_kinds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Each manifest in a namespace of its own, and one memop for all."""
    kubectl = Kubectl("default")
    run = uuid.uuid4().hex[:8]
    namespaces = {place: f"docs-{run}-{number}" for number, (place, _) in enumerate(MANIFESTS)}
    kubectl.apply(
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces.values())
    )
    with Operator(tmp_path_factory.mktemp("memop") / "memop.log"):
        answers = {place: apply(text, namespaces[place]) for place, text in MANIFESTS}
        with suppress(AssertionError):  # each manifest's own test says so
            eventually(lambda: assert_all_told(in_namespaces(kubectl, namespaces)))
        yield World(namespaces, answers, in_namespaces(kubectl, namespaces))
    # No garbage collection runs here. Not by Kubectl, which keeps to one namespace.
    made = [cr for crs in in_namespaces(kubectl, namespaces).values() for cr in crs]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    subprocess.run(["kubectl", "delete", "--wait=false", "-f", "-"], input=body, text=True, check=True)
    kubectl("delete", "namespace", *namespaces.values(), "--wait=false")


def apply(text: str, namespace: str) -> subprocess.CompletedProcess[str]:
    if CONVERTED in text:
        text = memop("convert", "-f", "-", stdin=text)
    # A sample that names its namespace goes into the one for it.
    text = text.replace("namespace: default\n", f"namespace: {namespace}\n")
    return Kubectl(namespace)("apply", "--server-side", "-f", "-", input=text, check=False)


def assert_all_told(found: dict[str, list[Json]]) -> None:
    for crs in found.values():
        for cr in crs:
            assert_told(cr)


def assert_told(cr: Json) -> None:
    """memop has told of the CR as it is."""
    assert cr.get("status", {}).get("observedGeneration") == cr["metadata"]["generation"], cr


def in_namespaces(kubectl: Kubectl, namespaces: dict[str, str]) -> dict[str, list[Json]]:
    """CRs by place, pools of clusters and clusters of foreign CRs among them."""
    items = json.loads(kubectl("get", KINDS, "--all-namespaces", "-o", "json").stdout)["items"]
    return {
        place: [item for item in items if item["metadata"]["namespace"] == namespace]
        for place, namespace in namespaces.items()
    }


def memop(*args: str, stdin: str | None = None) -> str:
    command = [sys.executable, "-m", "memop.cli", *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("place", "text"), MANIFESTS, ids=[place for place, _ in MANIFESTS])
def test_every_manifest_is_applied_and_taken_by_memop(place: str, text: str, world: World) -> None:
    answer = world.answers[place]
    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr
    shown = [one for one in yaml.safe_load_all(text) if one["apiVersion"].partition("/")[0] in GROUPS]
    assert len(world.crs[place]) >= len(shown)
    for cr in world.crs[place]:
        assert_told(cr)
        degraded = condition(cr, "Degraded")
        assert degraded["reason"] in ("Degraded", "NotDegraded", "SecretNotFound"), degraded
        assert condition(cr, "Translated")["status"] in ("", "True"), condition(cr, "Translated")
