"""Clusters through their lives: what users change, disturb, forbid and take away, and what memop does about it."""

import json
import re
import urllib.request
import uuid
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.cluster_load import Load
from tests.support.clusters import (
    IMAGES,
    PATIENCE,
    RESTRICTED,
    TWEMPROXY_IMAGE,
    Cluster,
    is_ready,
    memcached_cluster,
    proxy_container,
)
from tests.support.kubectl import Json, Kubectl, eventually
from tests.support.operator import Operator

KINDS = (
    *("memcachedclusters", "memcacheds", "deployments", "replicasets", "statefulsets", "controllerrevisions", "pods"),
    *("services", "endpointslices", "poddisruptionbudgets", "networkpolicies", "configmaps"),
)
OURS = "app.kubernetes.io/managed-by=memcached-operator"
PROXY_LABELS = {
    "app.kubernetes.io/name": "memcached-proxy",
    "app.kubernetes.io/instance": "cache",
    "app.kubernetes.io/managed-by": "memcached-operator",
}
WEB: Json = {"podSelector": {"matchLabels": {"app": "web"}}}


@pytest.fixture(scope="module", autouse=True)
def operator(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """memop for all tests here and all namespaces, as it is without flags: it knows no image of twemproxy."""
    with Operator(tmp_path_factory.mktemp("memop") / "memop.log") as running:
        yield running


@pytest.fixture(scope="module")
def cache(operator: Operator) -> Iterator[Cluster]:
    """One with all features, where Pod Security demands all that it can. Every test leaves it in use."""
    kubectl = Kubectl(f"t-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, RESTRICTED)
    kubectl.apply(
        memcached_cluster(
            "cache",
            shards=2,
            memcached={
                "monitoring": {"enabled": True},
                "security": {"networkPolicy": {"enabled": True, "allowedSources": [WEB]}},
                "highAvailability": {"antiAffinityPreset": "soft"},
            },
        )
    )
    yield Cluster(kubectl, "cache")
    kubectl("delete", "mcc", "--all", "--wait=false")
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


# --- what surrounds the pods


def test_every_pod_is_admitted_where_pod_security_demands_all_that_it_can(cache: Cluster) -> None:
    cache.ready()
    assert len(cache.proxies()) == 2
    assert list(map(len, cache.servers())) == [2]
    enforced = cache.kubectl.get("namespace", cache.kubectl.namespace)["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"
    assert cache.cr["status"]["endpoint"] == f"cache.{cache.kubectl.namespace}:11211"


def scrape(kubectl: Kubectl, service: str) -> list[dict[str, float]]:
    """The samples without labels of each exporter behind a Service, found as Prometheus finds them."""
    targets = [
        (address, port["port"])
        for piece in kubectl.list("endpointslices", f"kubernetes.io/service-name={service}")
        for port in piece["ports"] or ()
        for endpoint in piece["endpoints"] or ()
        for address in endpoint["addresses"]
        if port["name"] == "metrics" and endpoint["conditions"]["ready"]
    ]
    found = []
    for address, port in targets:
        with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found.append({name: float(value) for name, value in re.findall(r"^(memcached_\w+) (\S+)$", text, re.MULTILINE)})
    return found


def test_proxies_and_pool_are_scraped(cache: Cluster) -> None:
    cache.in_use()
    for service in ("cache", "cache-r0"):
        told = eventually(partial(scrape_two, cache.kubectl, service))
        assert [samples["memcached_up"] for samples in told] == [1, 1], service
    proxied = [samples["memcached_max_connections"] for samples in scrape_two(cache.kubectl, "cache")]
    assert proxied == [16384, 16384]  # it is the proxy that is asked, not one of the pool behind it
    cache.assert_condition("MonitoringReady", "True", "MonitoringReady")


def scrape_two(kubectl: Kubectl, service: str) -> list[dict[str, float]]:
    told = scrape(kubectl, service)
    assert len(told) == 2
    return told


def test_the_pools_network_policy_admits_the_proxies_beside_whom_the_user_named(cache: Cluster) -> None:
    """The object alone: nothing enforces policies in this cluster."""
    policy = eventually(lambda: cache.kubectl.get("networkpolicy", "cache-r0"))
    [rule] = policy["spec"]["ingress"]
    assert rule["from"] == [WEB, {"podSelector": {"matchLabels": PROXY_LABELS}}]
    assert [port["port"] for port in rule["ports"]] == [11211, 9150]
    cache.in_use()
    for pod in cache.proxies():
        assert PROXY_LABELS.items() <= pod["metadata"]["labels"].items()
    assert pool_names(cache) == {"cache-r0-0", "cache-r0-1"}


def pool_names(cluster: Cluster) -> set[str]:
    """The pods that the scale subresource's selector finds."""
    found = cluster.kubectl.list("pods", scale_of(cluster)["status"]["selector"])
    return {pod["metadata"]["name"] for pod in found}


def scale_of(cluster: Cluster) -> Json:
    path = f"/apis/memcached.c5c3.io/v1alpha1/namespaces/{cluster.kubectl.namespace}/memcachedclusters"
    found: Json = json.loads(cluster.kubectl("get", "--raw", f"{path}/{cluster.name}/scale").stdout)
    return found


def evict(kubectl: Kubectl, pod: Json) -> str:
    """What `kubectl drain` does to one pod; the server's refusal, empty where it agreed."""
    name = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    done = kubectl("create", "--raw", path, "-f", "-", input=json.dumps(body), check=False)
    return done.stderr if done.returncode else ""


def test_a_drain_takes_one_proxy_at_a_time_and_no_request_with_it(cache: Cluster) -> None:
    cache.in_use()
    eventually(lambda: assert_allowed(cache, 1))
    with Load(cache) as load:
        one, other = cache.proxies()
        assert evict(cache.kubectl, one) == ""
        assert "violate the pod's disruption budget" in evict(cache.kubectl, other)
        eventually(lambda: assert_gone(cache, [one]), timeout=PATIENCE, interval=1)
        cache.in_use()
        load.well()
    assert load.lost == []


def assert_allowed(cluster: Cluster, allowed: int) -> None:
    assert cluster.kubectl.get("pdb", f"{cluster.name}-proxy")["status"]["disruptionsAllowed"] == allowed


def assert_gone(cluster: Cluster, pods: list[Json]) -> None:
    """Not even on their way out."""
    there = {pod["metadata"]["uid"] for pod in cluster.kubectl.list("pods")}
    assert not there & {pod["metadata"]["uid"] for pod in pods}


# --- changes by hand


def test_while_paused_memop_leaves_all_as_it_is_and_says_so(cache: Cluster) -> None:
    cache.in_use()
    kubectl = cache.kubectl
    kubectl("annotate", "mcc/cache", "memcached.c5c3.io/paused=true")
    cache.change(proxy={"replicas": 3})
    kubectl.patch("service", "cache", {"spec": {"ports": [{"name": "memcached", "port": 11211, "targetPort": 1}]}})
    eventually(lambda: cache.assert_condition("Paused", "True"))
    eventually(lambda: assert_told(cache))
    assert kubectl.get("deployment", "cache-proxy")["spec"]["replicas"] == 2
    assert kubectl.get("service", "cache")["spec"]["ports"][0]["targetPort"] == 1
    kubectl("annotate", "mcc/cache", "memcached.c5c3.io/paused-")
    eventually(lambda: cache.assert_condition("Paused", ""))
    cache.in_use()
    assert len(cache.proxies()) == 3
    eventually(lambda: assert_served(cache))
    cache.become(proxy={"replicas": 2})


def assert_told(cluster: Cluster) -> None:
    cr = cluster.cr
    assert cr["status"]["observedGeneration"] == cr["metadata"]["generation"]


def assert_served(cluster: Cluster) -> None:
    try:
        with cluster.client() as client:
            assert client.ask("set served 0 0 1\r\n1\r\n") == "STORED\r\n"
    except OSError as error:
        raise AssertionError(repr(error)) from error


def test_what_others_change_or_delete_is_put_back(cache: Cluster) -> None:
    cache.in_use()
    kubectl = cache.kubectl

    def spec(kind: str, name: str) -> Json:
        return dict(kubectl.get(kind, name)["spec"])

    def data() -> Json:
        return dict(kubectl.get("configmap", "cache-proxy")["data"])

    pool, deployment, service = (
        spec("memcached", "cache-r0"),
        spec("deployment", "cache-proxy"),
        spec("service", "cache"),
    )
    told = data()
    with Load(cache) as load:
        kubectl("scale", "memcached/cache-r0", "--replicas=1")
        kubectl.patch("memcached", "cache-r0", {"spec": {"memcached": {"maxMemoryMB": 64}}})
        kubectl.patch("deployment", "cache-proxy", {"spec": {"replicas": 1}})
        kubectl.patch("configmap", "cache-proxy", {"data": {"config.lua": "nonsense"}})
        kubectl.delete("pdb", "cache-proxy")
        kubectl.delete("service", "cache")

        def check() -> None:
            assert spec("memcached", "cache-r0") == pool
            assert spec("deployment", "cache-proxy") == deployment
            assert data() == told
            kubectl.get("pdb", "cache-proxy")
            assert {**spec("service", "cache"), "clusterIP": "", "clusterIPs": []} == {
                **service,
                "clusterIP": "",
                "clusterIPs": [],
            }

        eventually(check)
    assert load.answered
    kubectl.delete("configmap", "cache-proxy")
    kubectl.delete("memcached", "cache-r0")
    eventually(check)
    cache.in_use()
    assert_served(cache)


def test_a_strangers_service_is_left_alone_and_told_of_until_it_goes(cache: Cluster) -> None:
    kubectl, taken = cache.kubectl, Cluster(cache.kubectl, "taken")
    kubectl("create", "service", "clusterip", "taken", "--tcp=80:80")
    before = kubectl.get("service", "taken")
    kubectl.apply(memcached_cluster("taken", shards=1, proxy={"replicas": 1}))
    eventually(lambda: taken.assert_condition("Degraded", "True", "ObjectConflict", "Service"))
    eventually(lambda: assert_events(kubectl, "taken", "ObjectConflict"))
    # All else goes on.
    eventually(lambda: taken.assert_condition("ProxyReady", "True"), timeout=PATIENCE, interval=1)
    assert kubectl.get("service", "taken") == before
    kubectl.delete("service", "taken")
    taken.ready()
    taken.assert_condition("Degraded", "False")
    assert_served(taken)
    kubectl.delete("mcc", "taken", wait=False)


def assert_events(kubectl: Kubectl, name: str, reason: str) -> None:
    found = {(e["regarding"]["name"], e["reason"]) for e in kubectl.list("events.events.k8s.io")}
    assert (name, reason) in found


def test_twemproxy_without_an_image_is_told_of_and_begins_when_one_is_named(cache: Cluster) -> None:
    kubectl, bare = cache.kubectl, Cluster(cache.kubectl, "bare")
    manifest = memcached_cluster("bare", "twemproxy", shards=1, proxy={"twemproxy": {}, "replicas": 1})
    kubectl.apply(manifest)
    eventually(lambda: bare.assert_condition("Degraded", "True", "InvalidSpec", "image"))
    assert kubectl.find("deployment", "bare-proxy") is None
    bare.change(proxy={"twemproxy": IMAGES["twemproxy"]})
    bare.ready()
    bare.assert_condition("Degraded", "False")
    assert_served(bare)
    kubectl.delete("mcc", "bare", wait=False)


# --- changes by the user


def test_another_port_is_served_from_when_the_service_has_it(cache: Cluster) -> None:
    """By proxies that listen elsewhere until they are replaced, one by one."""
    cache.in_use()
    before = cache.proxies()
    cache.change(proxy={"port": 11311})
    eventually(lambda: assert_port(cache, 11311))
    eventually(lambda: assert_served(cache))
    with Load(cache) as load:
        replaced(cache, before)
        load.well()
    assert load.lost == []
    assert cache.cr["status"]["endpoint"] == f"cache.{cache.kubectl.namespace}:11311"
    cache.become(proxy={"port": 11211})
    assert_served(cache)


def assert_port(cluster: Cluster, port: int) -> None:
    assert cluster.port == port


def replaced(cluster: Cluster, before: list[Json]) -> None:
    """Wait until there are as many new proxies, and the old ones are gone altogether."""
    uids = {pod["metadata"]["uid"] for pod in before}

    def check() -> None:
        found = cluster.proxies()
        assert len(found) == len(before)
        assert all(map(is_ready, found))
        assert not uids & {pod["metadata"]["uid"] for pod in found}
        assert_gone(cluster, before)

    eventually(check, timeout=PATIENCE, interval=1)


def test_proxies_of_another_image_or_kind_come_one_by_one_and_no_request_is_lost(cache: Cluster) -> None:
    """A client that reconnects tries once more at most. Another kind hashes otherwise, so keys are elsewhere then."""
    cache.in_use()
    pool = cache.servers()
    changes: tuple[tuple[Json, str, str], ...] = (
        ({"builtin": {"image": "memcached:1.6.39"}}, "memcached", "memcached:1.6.39"),
        ({"builtin": None, "twemproxy": IMAGES["twemproxy"]}, "nutcracker", TWEMPROXY_IMAGE),
        ({"builtin": {"image": None}, "twemproxy": None}, "memcached", "memcached:1.6.38"),
    )
    for proxy, program, image in changes:
        before = cache.proxies()
        with Load(cache) as load:
            cache.change(proxy=proxy)
            replaced(cache, before)
            load.well()
        assert load.lost == []
        for pod in cache.proxies():
            container = proxy_container(pod)
            assert (container["command"][0], container["image"]) == (program, image)
        cache.in_use()
        assert cache.servers() == pool
        monitored = ("True", "MonitoringReady") if program == "memcached" else ("False", "ProxyNotMonitored")
        eventually(partial(cache.assert_condition, "MonitoringReady", *monitored))


def test_a_restart_trigger_replaces_every_pod(cache: Cluster) -> None:
    cache.in_use()
    before = cache.kubectl.list("pods", OURS)
    cache.kubectl("annotate", "--overwrite", "mcc/cache", f"memcached.c5c3.io/restart-trigger={uuid.uuid4().hex}")
    eventually(lambda: assert_gone(cache, before), timeout=PATIENCE, interval=1)
    cache.in_use()
    assert_served(cache)


def test_kubectl_scale_sets_the_shards(cache: Cluster) -> None:
    cache.become(shards=2)
    cache.kubectl("scale", "mcc/cache", "--replicas=3")
    cache.in_use()
    scale = scale_of(cache)
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
    assert pool_names(cache) == {"cache-r0-0", "cache-r0-1", "cache-r0-2"}


# --- the end


def test_of_a_deleted_cluster_nothing_remains(kubectl: Kubectl) -> None:
    """Be it in use or not yet."""
    spec: Json = {"shards": 1, "replicasPerShard": 2}
    security = {"networkPolicy": {"enabled": True}}
    kubectl.apply(memcached_cluster("cache", **spec, memcached={"security": security}))
    Cluster(kubectl, "cache").ready()
    kubectl.apply(memcached_cluster("early", **spec))
    eventually(partial(kubectl.get, "memcached", "early-r0"), interval=0.01)
    kubectl("delete", "mcc", "cache", "early", "--wait=false")
    eventually(lambda: assert_nothing(kubectl), timeout=PATIENCE, interval=1)


def assert_nothing(kubectl: Kubectl) -> None:
    left = [
        f"{kind}/{item['metadata']['name']}"
        for kind in KINDS
        for item in kubectl.list(kind)
        if item["metadata"]["name"] != "kube-root-ca.crt"
    ]
    assert not left
