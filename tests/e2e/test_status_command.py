"""`memop status`, against what really runs."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.support.cache import addresses, client, ready_pods
from tests.support.clusters import PATIENCE, Cluster, memcached_cluster
from tests.support.kubectl import Json, Kubectl, eventually, memcached
from tests.support.operator import Operator
from tests.support.tls import Authority, users

COMMAND = [sys.executable, "-m", "memop.cli", "status"]
ROLES = Path("manifests/rbac/cluster/users.yaml")


def asked(kubectl: Kubectl, *flags: str, code: int = 0) -> Json:
    """The JSON."""
    command = [*COMMAND, "-n", kubectl.namespace, *flags]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stderr) == (code, ""), answer
    report: Json = json.loads(answer.stdout)
    return report


def of(report: Json, kind: str, name: str) -> Json:
    [found] = (item for item in report[kind] if item["name"] == name)
    return dict(found)


def somebody(kubectl: Kubectl, directory: Path) -> str:
    """A kubeconfig of a user who may do nothing."""
    kubectl("create", "serviceaccount", "somebody")
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout)
    config["users"][0]["user"] = {"token": kubectl("create", "token", "somebody").stdout.strip()}
    path = directory / "somebody.kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


def missing(report: Json) -> list[str]:
    """The rights that it says are missing."""
    return sorted(problem.split(" in namespace ")[0].removeprefix("you may not ") for problem in report["problems"])


def count(address: str, *, writes: int, misses: int) -> None:
    """So many keys written and read back, and so many read that are not there."""
    with closing(client(address)) as cache:
        for number in range(writes):
            assert cache.set(f"key-{number}", "x" * 100, noreply=False)
            assert cache.get(f"key-{number}") is not None
        for number in range(misses):
            assert cache.get(f"none-{number}") is None


# --- what memcached says


def test_the_figures_are_those_of_every_memcached_whatever_it_demands_of_clients(
    kubectl: Kubectl, operator: Operator
) -> None:
    """TLS that demands client certificates is no obstacle; a pool with passwords says why it is not read."""
    certificate = Authority().issue(f"*.{kubectl.namespace}.svc")
    kubectl.apply(certificate.secret(), users("me:secret"))
    tls = {"enabled": True, "certificateSecretRef": {"name": "tls"}, "enableClientCert": True}
    sasl = {"enabled": True, "credentialsSecretRef": {"name": "users"}}
    kubectl.apply(
        memcached("plain", replicas=2, memcached={"maxMemoryMB": 32}),
        memcached("tls", memcached={"maxMemoryMB": 16}, security={"tls": tls}),
        memcached("sasl", memcached={"maxMemoryMB": 16}, security={"sasl": sasl}),
    )
    plain = addresses(ready_pods(kubectl, "plain", 2))
    ready_pods(kubectl, "tls", 1)
    ready_pods(kubectl, "sasl", 1)
    for address in plain:
        count(address, writes=30, misses=10)

    def all_ready() -> Json:
        report = asked(kubectl)
        assert report["problems"] == []
        return report

    report = eventually(all_ready, timeout=30, interval=1)
    pool = of(report, "pools", "plain")
    stats = pool["stats"]
    assert (pool["readyPods"], pool["wantedPods"], pool["state"]) == (2, 2, "Ready")
    assert {name: stats[name] for name in ("hits", "misses", "items", "evictions", "requests")} == {
        "hits": 60,
        "misses": 20,
        "items": 60,
        "evictions": 0,
        "requests": 140,
    }
    assert stats["limitBytes"] == 2 * 32 << 20
    assert 60 * 100 < stats["usedBytes"] < 60 * 300
    assert [server["stats"]["items"] for server in pool["pods"]] == [30, 30]
    assert of(report, "pools", "tls")["stats"]["limitBytes"] == 16 << 20
    assert of(report, "pools", "sasl")["stats"] is None
    assert "password" in of(report, "pools", "sasl")["pods"][0]["error"]


def test_who_has_the_shipped_role_in_a_namespace_sees_all_and_others_what_they_may(
    kubectl: Kubectl, operator: Operator, tmp_path: Path
) -> None:
    """The rights are those of the manifests, and each of the pods' is needed."""
    kubectl("apply", "--server-side", "-f", str(ROLES))
    kubectl.apply(memcached_cluster("cache", shards=1))
    Cluster(kubectl, "cache").ready()
    config = somebody(kubectl, tmp_path)
    refused = subprocess.run(
        [*COMMAND, "-n", kubectl.namespace, "--kubeconfig", config], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr == (
        f"memop: you may not list memcacheds.memcached.c5c3.io in namespace {kubectl.namespace}; "
        "the ClusterRole memop-status grants it\n"
    )

    user = f"--serviceaccount={kubectl.namespace}:somebody"
    kubectl("create", "rolebinding", "look", "--clusterrole=memop-view", user)
    report = asked(kubectl, "--kubeconfig", config)
    assert missing(report) == ["get configmaps", "list pods"]
    assert of(report, "clusters", "cache")["readyPods"] == 1

    kubectl("create", "role", "pods", "--verb=list", "--resource=pods")
    kubectl("create", "rolebinding", "pods", "--role=pods", user)
    report = asked(kubectl, "--kubeconfig", config)
    assert missing(report) == ["get and create pods/portforward", "get configmaps"]

    kubectl("create", "rolebinding", "all", "--clusterrole=memop-status", user)
    report = asked(kubectl, "--kubeconfig", config)
    assert report["problems"] == []
    cluster = of(report, "clusters", "cache")
    assert cluster["stats"]["limitBytes"] == 16 << 20
    assert {proxy["config"] for proxy in cluster["proxies"]} == {"current"}


# --- watching


@contextmanager
def watching(kubectl: Kubectl, seconds: float, **kwargs: Any) -> Iterator[subprocess.Popen[Any]]:
    """`memop status --watch`, which Ctrl-C ends even where these tests run in the background, which it does not end."""
    command = ["env", "--default-signal=INT", *COMMAND, "-n", kubectl.namespace, "--watch", str(seconds)]
    with subprocess.Popen(command, **kwargs) as process:
        try:
            yield process
        finally:
            process.kill()


def test_watching_counts_what_happens_between_two_looks(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool"))
    [pod] = ready_pods(kubectl, "pool", 1)
    with watching(kubectl, 1, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        assert first["pools"][0]["sinceLast"] is None
        count(pod["status"]["podIP"], writes=10, misses=5)

        def counted() -> None:
            look = json.loads(process.stdout.readline()) if process.stdout else {}
            assert look["pools"][0]["ready"]
            seen["requests"] += look["pools"][0]["sinceLast"]["requests"]
            seen["misses"] += look["pools"][0]["sinceLast"]["misses"]
            assert seen == {"requests": 25, "misses": 5}

        seen = {"requests": 0, "misses": 0}
        eventually(counted, timeout=30)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert process.stderr.read() == ""


def test_in_a_terminal_one_table_stays_in_its_place_until_ctrl_c(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(memcached("pool"))
    ready_pods(kubectl, "pool", 1)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    with watching(kubectl, 0.5, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = ""
        while seen.count("Ctrl-C ends") < 3:
            seen += os.read(ours, 1 << 16).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
    os.close(ours)
    assert "\x1b[1A" in seen, "the cursor goes up to the last table's first line"
    assert "\x1b[32mReady" in seen
    assert "REQ/S" in seen


# --- clusters


def test_each_proxy_is_asked_which_configuration_it_has(kubectl: Kubectl, operator: Operator) -> None:
    """Through the API server's port forwarding; that of the pool goes into use when kubelet brings it."""
    kubectl.apply(memcached_cluster("cache", shards=1, replicasPerShard=2))
    cluster = Cluster(kubectl, "cache")
    cluster.ready()
    report = asked(kubectl)
    told = of(report, "clusters", "cache")
    assert [proxy["config"] for proxy in told["proxies"]] == ["current", "current"]
    assert (told["shards"], told["replicasPerShard"], told["readyPods"], told["ready"]) == (1, 2, 2, True)
    assert told["configHash"] == cluster.cr["status"]["configHash"]
    assert of(report, "pools", "cache-r1")["cluster"] == "cache"

    kubectl("patch", "mcc", "cache", "--type=merge", "-p", json.dumps({"spec": {"proxy": {"readPolicy": "latest"}}}))

    def told_of_the_change() -> None:
        assert not of(asked(kubectl, code=1), "clusters", "cache")["ready"]

    def taken_in() -> None:
        told = of(asked(kubectl, code=1), "clusters", "cache")
        assert {proxy["config"] for proxy in told["proxies"]} == {"current"}

    eventually(told_of_the_change, timeout=PATIENCE)
    eventually(taken_in, timeout=PATIENCE)
