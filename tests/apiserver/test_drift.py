"""What somebody changes in a child is put back, field by field, by `kubectl patch` as people do it."""

from typing import Any

import pytest

from tests.support.kubectl import Json, Kubectl, eventually, memcached
from tests.support.operator import Operator


def container(**changes: Any) -> Json:
    """A strategic merge patch of the memcached container."""
    return {"spec": {"template": {"spec": {"containers": [{"name": "memcached", **changes}]}}}}


def pod(**changes: Any) -> Json:
    return {"spec": {"template": {"spec": changes}}}


PATCHES: dict[str, tuple[str, Json]] = {
    "replicas": ("deployment", {"spec": {"replicas": 5}}),
    "paused": ("deployment", {"spec": {"paused": True}}),
    "strategy": ("deployment", {"spec": {"strategy": {"rollingUpdate": {"maxUnavailable": 1}}}}),
    "labels": ("deployment", {"metadata": {"labels": {"app.kubernetes.io/version": "9"}}}),
    "owner": ("deployment", {"metadata": {"ownerReferences": None}}),
    "template labels": (
        "deployment",
        {"spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/version": "9"}}}}},
    ),
    "image": ("deployment", container(image="memcached:latest")),
    "command": ("deployment", container(command=["sleep", "1"])),
    "args": ("deployment", container(args=["-m", "1"])),
    "probe": ("deployment", container(readinessProbe={"failureThreshold": 1000})),
    "probe removed": ("deployment", container(livenessProbe=None)),
    "privileged": ("deployment", container(securityContext={"privileged": True, "allowPrivilegeEscalation": True})),
    "root": ("deployment", container(securityContext={"runAsUser": 0, "runAsNonRoot": False})),
    "capabilities": ("deployment", container(securityContext={"capabilities": {"add": ["NET_ADMIN"]}})),
    "writable root": ("deployment", container(securityContext={"readOnlyRootFilesystem": False})),
    "host network": ("deployment", pod(hostNetwork=True)),
    "host processes": ("deployment", pod(hostPID=True, hostIPC=True)),
    "pod security": ("deployment", pod(securityContext={"runAsNonRoot": False, "runAsUser": 0})),
    "API token": ("deployment", pod(automountServiceAccountToken=True)),
    "selector": ("service", {"spec": {"selector": {"extra": "no"}}}),
    "port": ("service", {"spec": {"ports": [{"port": 11211, "targetPort": 80}]}}),
    "not ready": ("service", {"spec": {"publishNotReadyAddresses": True}}),
    "service labels": ("service", {"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}}),
}


def fields(kubectl: Kubectl, kind: str) -> Json:
    """What memop writes and people may change; not the server's own bookkeeping."""
    live = kubectl.get(kind, "pool")
    metadata = {name: live["metadata"].get(name) for name in ("labels", "ownerReferences", "uid")}
    return {"metadata": metadata, "spec": live["spec"]}


def test_each_changed_field_is_put_back(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool", replicas=2))
    eventually(lambda: kubectl.get("deployment", "pool"))
    eventually(lambda: kubectl.get("service", "pool"))
    before = {kind: fields(kubectl, kind) for kind in ("deployment", "service")}
    for name, (kind, patch) in PATCHES.items():
        generation = kubectl.get(kind, "pool")["metadata"]["resourceVersion"]
        kubectl.strategic_patch(kind, "pool", patch)
        assert kubectl.get(kind, "pool")["metadata"]["resourceVersion"] != generation, (
            f"{name}: the patch changed nothing"
        )

        def assert_put_back(kind: str = kind, name: str = name) -> None:
            assert fields(kubectl, kind) == before[kind], name

        eventually(assert_put_back, timeout=15)


@pytest.mark.parametrize("kind", ["deployment", "service"])
def test_what_others_add_stays(kubectl: Kubectl, operator: Operator, kind: str) -> None:
    kubectl.apply(memcached("pool", replicas=2))
    eventually(lambda: kubectl.get(kind, "pool"))
    kubectl("label", f"{kind}/pool", "team=blue")
    kubectl("annotate", f"{kind}/pool", "note=kept")
    kubectl("scale", "memcached/pool", "--replicas=3")
    eventually(lambda: assert_replicas(kubectl, 3))
    metadata = kubectl.get(kind, "pool")["metadata"]
    assert (metadata["labels"]["team"], metadata["annotations"]["note"]) == ("blue", "kept")


def assert_replicas(kubectl: Kubectl, replicas: int) -> None:
    assert kubectl.get("deployment", "pool")["spec"]["replicas"] == replicas
