"""`memop status`, against what really runs."""

import json
import subprocess
import sys

from tests.support.clusters import PATIENCE, Cluster, memcached_cluster
from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import Operator


def rows(kubectl: Kubectl, *flags: str, code: int) -> dict[str, Json]:
    """By the names of what they tell of."""
    command = [sys.executable, "-m", "memop.cli", "status", "-n", kubectl.namespace, *flags]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == code, answer
    return {row["name"].partition("/")[2]: row for row in json.loads(answer.stdout)}


def test_each_proxy_is_asked_which_configuration_it_has(kubectl: Kubectl, operator: Operator) -> None:
    """Through the API server's port forwarding; that of the pool goes into use when kubelet brings it."""
    kubectl.apply(memcached_cluster("cache", shards=1, replicasPerShard=2))
    cluster = Cluster(kubectl, "cache")
    cluster.ready()
    told = rows(kubectl, "--proxies", code=0)
    proxies = [name for name in told if name.startswith("cache-proxy-")]
    assert len(proxies) == 2
    assert {told[name]["config"] for name in proxies} == {"current"}
    assert (told["cache"]["size"], told["cache"]["ready"]) == ("1x2", "yes")
    assert told["cache"]["config"] == cluster.cr["status"]["configHash"]
    assert (told["cache-r1"]["size"], told["cache-r1"]["ready"]) == ("1/1 pods", "yes")

    kubectl("patch", "mcc", "cache", "--type=merge", "-p", json.dumps({"spec": {"proxy": {"readPolicy": "latest"}}}))

    def told_of_the_change() -> None:
        assert rows(kubectl, code=1)["cache"]["ready"] == "no"

    def taken_in() -> None:
        told = rows(kubectl, "--proxies", code=1)
        assert {told[name]["config"] for name in proxies} == {"current"}

    eventually(told_of_the_change, timeout=PATIENCE)
    eventually(taken_in, timeout=PATIENCE)
