"""The lives of a `MemcachedCluster` and of the foreign kinds that one serves, as their users lead them.

Nobody waits the two minutes in which kubelets bring proxies a changed config: the user of a step that shrinks or grows
copies says, in memop's own annotation of the ConfigMap, that it changed long ago.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.faults.harness import CONFIG_HASH, Scenario, Step
from tests.support.kubectl import Json, Kubectl, eventually

NAME = "cache"
PROXY = f"{NAME}-proxy"
CLUSTERS = "memcachedclusters.memcached.c5c3.io"
CLUSTER_KINDS = {
    CLUSTERS: "/apis/memcached.c5c3.io/v1alpha1",
    "memcacheds": "/apis/memcached.c5c3.io/v1beta1",
    "configmaps": "/api/v1",
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "services": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "servicemonitors": "/apis/monitoring.coreos.com/v1",
}
MOST_WRITES = 250
SAMPLES = Path(__file__).parents[2] / "manifests/samples/compat"
TWEMPROXY: Json = {"twemproxy": {"image": "memop/twemproxy:0.5.0"}}
_LAYOUT, _SINCE = "memcached.c5c3.io/layout", "memcached.c5c3.io/config-since"
_LONG_AGO = "2026-01-01T00:00:00Z"


def _cluster(shards: int, copies: int, memory: int, proxy: Json, *, monitored: bool) -> Json:
    monitoring = {"monitoring": {"enabled": True, "serviceMonitor": {}}} if monitored else {}
    return {
        "apiVersion": "memcached.c5c3.io/v1alpha1",
        "kind": "MemcachedCluster",
        "metadata": {"name": NAME},
        "spec": {
            "shards": shards,
            "replicasPerShard": copies,
            "memcached": {"memcached": {"maxMemoryMB": memory}, **monitoring},
            "proxy": {"port": 11311, **proxy},
        },
    }


def _step(
    name: str,
    shards: int,
    copies: int,
    memory: int,
    *,
    proxy: Json | None = None,
    monitored: bool = True,
    told_to_proxies: bool = False,
) -> Step:
    """`told_to_proxies`: their config changes, and they are to take it in by themselves."""
    body = _cluster(shards, copies, memory, proxy or {}, monitored=monitored)

    def act(kubectl: Kubectl) -> None:
        kubectl.apply(body)
        if told_to_proxies:
            let_time_pass(kubectl, PROXY, f"{shards}x{copies}")

    def check(kubectl: Kubectl) -> None:
        _assert_serves(kubectl, NAME, shards, copies, proxy=proxy or {}, monitored=monitored)
        assert kubectl.get("service", NAME)["spec"]["ports"][0]["port"] == 11311
        for copy in range(copies):
            template = kubectl.get("statefulset", f"{NAME}-r{copy}")["spec"]["template"]["spec"]
            assert template["containers"][0]["args"][:2] == ["-m", str(memory)]

    return Step(name, act, check)


def let_time_pass(kubectl: Kubectl, config: str, layout: str) -> None:
    def assert_told() -> None:
        annotations = kubectl.get("configmap", config)["metadata"]["annotations"]
        assert annotations.get(_LAYOUT) == layout, annotations
        assert _SINCE in annotations, annotations

    eventually(assert_told, timeout=120, interval=0.5)
    kubectl.patch("configmap", config, {"metadata": {"annotations": {_SINCE: _LONG_AGO}}})


def _assert_serves(
    kubectl: Kubectl, name: str, shards: int, copies: int, *, proxy: Json, monitored: bool = False
) -> None:
    """The CR says so itself, of its newest generation; its pools and proxies are as it wants them, and no others."""
    scraped = monitored and not proxy  # memcached's exporter speaks to no other proxy
    cr = kubectl.get(CLUSTERS, name)
    status = cr.get("status", {})
    assert status.get("observedGeneration") == cr["metadata"]["generation"], status
    assert (status.get("shards"), status.get("replicasPerShard")) == (shards, copies), status
    expected = dict.fromkeys(("Available", "PoolReady", "ProxyReady", "Ready"), "True")
    expected |= {"Progressing": "False", "Degraded": "False"}
    expected |= {"MonitoringReady": str(scraped)} if monitored else {}
    assert {c["type"]: c["status"] for c in status["conditions"]} == expected, status
    config = kubectl.get("configmap", f"{name}-proxy")["metadata"]["annotations"]
    assert config[_LAYOUT] == f"{shards}x{copies}"
    assert status["configHash"] == config[CONFIG_HASH]
    pools = {pool["metadata"]["name"]: pool for pool in kubectl.list("memcacheds")}
    assert pools.keys() == {f"{name}-r{copy}" for copy in range(copies)}
    for pool in pools.values():
        assert pool["status"]["readyReplicas"] == shards, pool["status"]
    [container, *_] = kubectl.get("deployment", f"{name}-proxy")["spec"]["template"]["spec"]["containers"]
    images = {settings["image"] for settings in proxy.values()}
    assert {container["image"]} == (images or {"memcached:1.6.38"})
    monitors = {monitor["metadata"]["name"] for monitor in kubectl.list("servicemonitors")}
    assert monitors == (pools.keys() if monitored else set()) | ({f"{name}-proxy"} if scraped else set())


def _delete(resource: str, name: str) -> Step:
    kinds = ",".join([resource, *(kind for kind in CLUSTER_KINDS if kind != "configmaps"), "pods"])

    def act(kubectl: Kubectl) -> None:
        kubectl.delete(resource, name, wait=False)

    def check(kubectl: Kubectl) -> None:
        found = kubectl("get", kinds, "-o", "name").stdout
        assert not found, f"still there: {found}"
        configs = {config["metadata"]["name"] for config in kubectl.list("configmaps")}
        assert configs == {"kube-root-ca.crt"}, configs

    return Step("delete", act, check)


CLUSTER = Scenario(
    "cluster",
    kinds=CLUSTER_KINDS,
    steps=(
        _step("create", 2, 1, 64),
        _step("update", 2, 1, 128),
        _step("copies up", 2, 2, 128, told_to_proxies=True),
        _step("copies down", 2, 1, 128, told_to_proxies=True),
        _step("twemproxy", 2, 1, 128, proxy=TWEMPROXY),
        _step("shards up", 3, 1, 128, proxy=TWEMPROXY),
        _step("shards down", 2, 1, 128, proxy=TWEMPROXY),
        _step("feature off", 2, 1, 128, proxy=TWEMPROXY, monitored=False),
        _delete(CLUSTERS, NAME),
    ),
    most_writes=MOST_WRITES,
)
# Nothing here takes in a config by itself.
CLUSTER_ROLLED = Scenario(
    "cluster, rolled",
    kinds=CLUSTER_KINDS,
    steps=(
        _step("create", 2, 1, 64, proxy=TWEMPROXY),
        _step("update", 2, 1, 128, proxy=TWEMPROXY),
        _step("shards up", 3, 1, 128, proxy=TWEMPROXY),
        _step("shards down", 2, 1, 128, proxy=TWEMPROXY),
    ),
    most_writes=MOST_WRITES,
)


def _foreign(
    sample: str, resource: str, layouts: tuple[tuple[int, int], tuple[int, int]], *, suffix: str = "", **change: Any
) -> Scenario:
    """The life of a CR as a sample has it, and with `change`; `layouts` are what its cluster has before and after."""
    body: Json = yaml.safe_load((SAMPLES / sample).read_text())
    body["metadata"].pop("namespace", None)
    changed = {**body, "spec": {**body["spec"], **change}}
    name, version = body["metadata"]["name"], body["apiVersion"]
    child = f"{name}{suffix}"

    def serves(manifest: Json, layout: tuple[int, int]) -> Callable[[Kubectl], None]:
        def check(kubectl: Kubectl) -> None:
            cr = kubectl.get(resource, name)
            status = cr.get("status", {})
            assert status.get("observedGeneration") == cr["metadata"]["generation"], status
            told = {condition["type"]: condition["status"] for condition in status["conditions"]}
            assert {type_: told[type_] for type_ in ("Available", "Progressing", "Degraded", "Ready")} == {
                "Available": "True",
                "Progressing": "False",
                "Degraded": "False",
                "Ready": "True",
            }, status
            proxy = kubectl.get(CLUSTERS, child)["spec"]["proxy"]
            asked = {kind: proxy[kind] for kind in ("twemproxy", "mcrouter") if kind in proxy}
            _assert_serves(kubectl, child, *layout, proxy=asked)
            port = manifest["spec"].get("mcrouter_port", 11211)
            assert kubectl.get("service", child)["spec"]["ports"][0]["port"] == port

        return check

    def act(kubectl: Kubectl) -> None:
        kubectl.apply(changed)
        if "mcrouter_image" in body["spec"] and layouts[0] != layouts[1]:
            let_time_pass(kubectl, f"{child}-proxy", "x".join(map(str, layouts[1])))

    return Scenario(
        resource,
        kinds={resource: f"/apis/{version}", **CLUSTER_KINDS},
        steps=(
            Step("create", lambda kubectl: kubectl.apply(body), serves(body, layouts[0])),
            Step("change", act, serves(changed, layouts[1])),
            _delete(resource, name),
        ),
        most_writes=MOST_WRITES,
    )


MCROUTER = _foreign(
    "mcrouter-sharded.yaml",
    "mcrouters.mcrouter.example.com",
    ((2, 1), (3, 1)),
    memcached_pool_size=3,
    mcrouter_port=5001,
)
IANLEWIS = _foreign("ianlewis.yaml", "memcachedclusters.ianlewis.org", ((5, 1), (4, 1)), replicas=4)
MEMSHACK = _foreign(
    "memshack.yaml", "memshacks.example.memshack.com", ((2, 2), (2, 2)), suffix="-memshack", mcrouter_port=5001
)
