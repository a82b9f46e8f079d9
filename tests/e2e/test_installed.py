"""memop as users install it: the shipped image and manifests, its own pods and ServiceAccount."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from hack.tools import tool
from memop import rights
from tests.support.cache import addresses, assert_serves, pods, ready_pods
from tests.support.clusters import Cluster, is_ready, memcached_cluster
from tests.support.keys import ask
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached

ROOT = Path(__file__).parents[2]
LEASE = "d4f3c8a2.c5c3.io"
POD = "app.kubernetes.io/name=memop,app.kubernetes.io/component=operator"


@pytest.fixture(scope="module")
def home() -> Iterator[Kubectl]:
    """kubectl in memop's namespace, where it runs as its manifests say."""
    kubectl = Kubectl(rights.NAMESPACE)
    install(kubectl, "manifests/default")
    yield kubectl
    remove(kubectl)


def remove(kubectl: Kubectl) -> None:
    """memop and its admission; what it serves stays."""
    kubectl("delete", "-k", str(ROOT / "manifests/manager"), "--ignore-not-found")
    kubectl("wait", "--for=delete", "pod", "-l", POD, "--timeout=60s")
    for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
        kubectl("delete", kind, "memop-webhook", "--ignore-not-found")


def install(kubectl: Kubectl, directory: str) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / directory))
    kubectl("rollout", "status", "deployment/memop", "--timeout=120s")


@pytest.fixture(scope="module")
def kubectl(home: Kubectl) -> Iterator[Kubectl]:
    """In a namespace for all tests here."""
    kubectl = Kubectl(f"t-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    yield kubectl
    kubectl("delete", "memcacheds,memcachedclusters", "--all", "--wait=false")
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def report(figure: str) -> None:
    print(f"\n{figure}")  # noqa: T201 - quoted in release notes


def operators(home: Kubectl) -> list[Json]:
    return [pod for pod in home.list("pods", POD) if is_ready(pod)]


def process(pod: Json) -> int:
    """The pid of the pod's memop: its pod's uid is in the name of its cgroup."""
    uid = pod["metadata"]["uid"]
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes()
            if b"memop" in command and uid in (directory / "cgroup").read_text():
                return int(directory.name)
        except OSError:
            continue  # it has just ended
    raise AssertionError(f"no process of {pod['metadata']['name']}")


def holder(home: Kubectl) -> str:
    """The pod that holds the Lease; empty where it was released."""
    lease = json.loads(home("get", "lease", LEASE, "-o", "json").stdout)
    return str(lease["spec"].get("holderIdentity") or "").rpartition("_")[0]


def leader(home: Kubectl) -> Json:
    def check() -> Json:
        name = holder(home)
        found = [pod for pod in operators(home) if pod["metadata"]["name"] == name]
        assert found, f"the Lease is held by {name!r}"
        return found[0]

    return eventually(check, timeout=30)


def assert_both_ready(home: Kubectl) -> None:
    assert len(operators(home)) == 2


def budget(limit: int) -> Json:
    """A change that moves no pods, only a PodDisruptionBudget."""
    return {"highAvailability": {"podDisruptionBudget": {"enabled": True, "maxUnavailable": limit}}}


def assert_served(kubectl: Kubectl, name: str, limit: int) -> None:
    found = kubectl.find("poddisruptionbudget", name)
    assert found
    assert found["spec"]["maxUnavailable"] == limit


def test_it_runs_restricted_and_small(home: Kubectl) -> None:
    running = operators(home)
    assert len(running) == 2
    enforced = home.get("namespace", rights.NAMESPACE)["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in running:
        assert pod["spec"]["serviceAccountName"] == rights.NAME
        status = Path(f"/proc/{process(pod)}/status").read_text()
        told = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
        assert told["Uid"].split() == ["65532"] * 4
        assert int(told["CapEff"], 16) == 0
        report(f"{pod['metadata']['name']}: VmRSS {int(told['VmRSS'].split()[0]) / 1024:.1f} MiB")


def test_a_pool_and_a_cluster_serve_and_admission_answers_through_the_service(kubectl: Kubectl) -> None:
    refused = kubectl(
        "create", "-f", "-", input=json.dumps(memcached("bad", memcached={"extraArgs": ["-p", "1"]})), check=False
    )
    assert "spec.memcached.extraArgs" in refused.stderr
    kubectl.apply(memcached("pool", replicas=2), memcached_cluster("ring", shards=2, proxy={"replicas": 1}))
    stored = kubectl.get("memcached", "pool")["spec"]
    assert stored["memcached"]["threads"] == 4  # a default that only the webhook stores
    for address in addresses(ready_pods(kubectl, "pool", 2)):
        assert_serves(address)
    ring = Cluster(kubectl, "ring")
    ring.ready()
    with ring.client() as client:
        assert ask(client, ["set k 0 0 1\r\nv\r\n", "get k\r\n"]) == ["STORED\r\n", "VALUE k 0 1\r\nv\r\nEND\r\n"]


def test_after_the_leaders_death_the_other_serves_a_change(home: Kubectl, kubectl: Kubectl) -> None:
    kubectl.apply(memcached("killed", replicas=0, **budget(1)))
    eventually(partial(assert_served, kubectl, "killed", 1))
    dead = leader(home)
    os.kill(process(dead), signal.SIGKILL)
    started = time.monotonic()
    # Until kubelet has seen the death, the Service leads half of all admissions there.
    eventually(partial(kubectl.patch, "memcached", "killed", {"spec": budget(2)}))
    eventually(partial(assert_served, kubectl, "killed", 2), timeout=30, interval=0.1)
    took = time.monotonic() - started
    report(f"a change was served {took:.1f} s after the leader was killed")
    assert took < 20
    assert holder(home) == leader(home)["metadata"]["name"]
    eventually(partial(assert_both_ready, home))


def test_after_the_leaders_orderly_end_the_other_serves_a_change(home: Kubectl, kubectl: Kubectl) -> None:
    kubectl.apply(memcached("orderly", replicas=0, **budget(1)))
    eventually(partial(assert_served, kubectl, "orderly", 1))
    name = leader(home)["metadata"]["name"]
    home("delete", "pod", name, "--wait=false")

    def assert_released() -> None:
        assert holder(home) != name

    eventually(assert_released, timeout=30, interval=0.02)
    released = time.monotonic()
    kubectl.patch("memcached", "orderly", {"spec": budget(2)})
    eventually(partial(assert_served, kubectl, "orderly", 2), timeout=30, interval=0.02)
    took = time.monotonic() - released
    report(f"a change was served {took:.1f} s after the Lease was released")
    assert took < 3
    eventually(partial(assert_both_ready, home))


class Stream:
    """Changes of CRs, one after the other, for as long as the context lasts."""

    def __init__(self, kubectl: Kubectl, names: list[str]) -> None:
        self.refused: list[str] = []
        self.last = dict.fromkeys(names, 1)
        self._kubectl = kubectl
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        count = 1
        while not self._over.is_set():
            count += 1
            name = list(self.last)[count % len(self.last)]
            body = json.dumps({"spec": budget(count)})
            done = self._kubectl("patch", "memcached", name, "--type=merge", "-p", body, check=False)
            if done.returncode:
                self.refused.append(done.stderr.strip())
            else:
                self.last[name] = count


def test_a_rolling_update_of_memop_loses_no_change_and_fails_no_admission(home: Kubectl, kubectl: Kubectl) -> None:
    names = ["stream-a", "stream-b", "stream-c"]
    kubectl.apply(*(memcached(name, replicas=0, **budget(1)) for name in names))
    before = {pod["metadata"]["name"] for pod in operators(home)}
    with Stream(kubectl, names) as stream:
        home("rollout", "restart", "deployment/memop")
        home("rollout", "status", "deployment/memop", "--timeout=180s")
        eventually(partial(assert_gone, home, before), timeout=60)
    report(f"{max(stream.last.values()) - 1} changes while both pods were replaced")
    assert not stream.refused
    assert max(stream.last.values()) > 20
    for name, limit in stream.last.items():
        eventually(partial(assert_served, kubectl, name, limit), timeout=30)


def assert_gone(home: Kubectl, names: set[str]) -> None:
    assert not names & {pod["metadata"]["name"] for pod in home.list("pods", POD)}


# --- who may only make CRs


@pytest.fixture(scope="module")
def user(kubectl: Kubectl) -> Kubectl:
    """Somebody who may edit CRs in one namespace, and nothing else."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "caches"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "memop-edit"},
        "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    kubectl.apply(binding)
    return Alice(kubectl.namespace)


class Alice(Kubectl):
    def __call__(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002
        return super().__call__("--as=alice", *args, input=input, check=check)


def test_who_may_make_crs_alone_may_make_no_more(user: Kubectl) -> None:
    for verb, kind in (("get", "secrets"), ("create", "pods"), ("create", "deployments"), ("get", "pods")):
        assert user("auth", "can-i", verb, kind, check=False).stdout.strip() == "no", (verb, kind)
    assert user("auth", "can-i", "create", "memcacheds").stdout.strip() == "yes"


def test_no_privileged_pod_comes_of_a_cr(user: Kubectl, kubectl: Kubectl) -> None:
    security = {"containerSecurityContext": {"privileged": True}}
    for body in (
        memcached("rooted", security=security),
        memcached("rooted", security={"podSecurityContext": {"runAsUser": 0, "runAsNonRoot": False}}),
        memcached_cluster("rooted", proxy={"security": security}),
        memcached_cluster("rooted", memcached={"security": security}),
    ):
        refused = user("create", "-f", "-", input=json.dumps(body), check=False)
        assert refused.returncode, body
        assert "ontainerSecurityContext" in refused.stderr or "podSecurityContext" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    ("given", "stored", "told"),
    [
        ({"name": "memop-webhook-cert", "namespace": rights.NAMESPACE}, "memop-webhook-cert", "memop-webhook-cert"),
        ({"name": "../../memop-system/secrets/memop-webhook-cert"}, "", "cannot be a name"),
    ],
)
def test_anothers_secret_is_out_of_reach(
    user: Kubectl, kubectl: Kubectl, given: dict[str, str], stored: str, told: str
) -> None:
    """A CR names Secrets of its own namespace alone, and memop finds none of that name there."""
    name = f"thief-{len(given)}"
    body = memcached(name, replicas=1, security={"tls": {"enabled": True, "certificateSecretRef": given}})
    user("create", "--validate=ignore", "-f", "-", input=json.dumps(body))

    def assert_degraded() -> None:
        degraded = condition(kubectl.get("memcached", name), "Degraded")
        assert degraded["status"] == "True"
        assert told in degraded["message"], degraded

    eventually(assert_degraded)
    if stored:
        assert kubectl.get("memcached", name)["spec"]["security"]["tls"]["certificateSecretRef"] == {"name": stored}
    assert not [pod for pod in pods(kubectl, name) if is_ready(pod)]


def test_memops_token_is_in_no_pod_of_a_cr(user: Kubectl, kubectl: Kubectl) -> None:
    """Neither by asking for its ServiceAccount, which no field can, nor by default: pods have no token at all."""
    body = memcached("impostor", serviceAccountName=rights.NAME, automountServiceAccountToken=True)
    user("create", "--validate=ignore", "-f", "-", input=json.dumps(body))
    [pod] = ready_pods(kubectl, "impostor", 1)
    assert pod["spec"]["serviceAccountName"] == "default"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"].get("volumes", ()) if "projected" in volume]
    assert "serviceAccountName" not in kubectl.get("memcached", "impostor")["spec"]


# --- what people are told of it


def examined(kubectl: Kubectl, code: int) -> dict[str, list[tuple[str, str]]]:
    """What `memop doctor` finds amiss: check → subjects and messages."""
    command = (sys.executable, "-m", "memop.cli", "doctor", "-n", kubectl.namespace)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (code, ""), done
    found: dict[str, list[tuple[str, str]]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        if finding["verdict"] != "ok":
            assert finding["verdict"] == "trouble", finding
            assert finding["remedy"], finding
            found.setdefault(finding["check"], []).append((finding["subject"], finding["message"]))
    return found


def test_doctor_finds_what_is_in_trouble_and_nothing_else(home: Kubectl, kubectl: Kubectl) -> None:
    kubectl("delete", "memcacheds,memcachedclusters", "--all")
    kubectl.apply(memcached("well", replicas=1))
    ready_pods(kubectl, "well", 1)
    eventually(lambda: examined(kubectl, 0))
    tls = {"enabled": True, "certificateSecretRef": {"name": "none"}}
    kubectl.apply(memcached("poor", replicas=1, security={"tls": tls}))

    def assert_told() -> None:
        [(subject, message)] = examined(kubectl, 1)["objects"]
        assert subject == f"Memcached {kubectl.namespace}/poor"
        assert "SecretNotFound" in message

    eventually(assert_told)
    kubectl.delete("memcached", "poor")
    home("delete", "validatingwebhookconfiguration", "memop-webhook")
    home("delete", "clusterrolebinding", "memop-metrics-auth")
    home("scale", "deployment", "memop", "--replicas=0")
    home("wait", "--for=delete", "pod", "-l", POD, "--timeout=60s")

    def assert_all_told() -> None:
        found = examined(kubectl, 1)
        assert found["operator"] == [(f"Deployment {rights.NAMESPACE}/memop", "is scaled to 0")]
        assert found["leader"] == [(f"Lease {rights.NAMESPACE}/{LEASE}", "nobody holds it")]
        assert found["rights"][0][1].startswith("may not create tokenreviews.authentication.k8s.io")
        [gone, unanswered] = found["admission"]
        assert gone[0] == "ValidatingWebhookConfiguration memop-webhook"
        assert "no spec can be changed" in unanswered[1]
        assert not found.keys() - {"operator", "leader", "rights", "admission"}

    eventually(assert_all_told)
    install(home, "manifests/default")
    eventually(lambda: examined(kubectl, 0))


# --- the other ways in; last, as they take the place of what ran until here


def test_the_chart_as_rendered_runs_and_serves(home: Kubectl, kubectl: Kubectl) -> None:
    chart = (str(tool("helm")), "template", "memop", str(ROOT / "manifests/chart/memop"), "--namespace", home.namespace)
    rendered = subprocess.run(chart, capture_output=True, text=True, check=True).stdout
    remove(home)
    home("apply", "--server-side", "--force-conflicts", "-f", "-", input=rendered)
    home("rollout", "status", "deployment/memop", "--timeout=120s")
    eventually(partial(assert_both_ready, home))
    assert all(pod["metadata"]["labels"].get("app.kubernetes.io/name") == "memop" for pod in operators(home))
    eventually(partial(kubectl.apply, memcached("charted", replicas=1)))
    [address] = addresses(ready_pods(kubectl, "charted", 1))
    assert_serves(address)
