"""Monitoring: what Prometheus would read from the exporter, and the ServiceMonitor that leads it there."""

import re
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.support import crds
from tests.support.cache import pods, ready_pods
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.operator import Operator
from tests.support.tls import Authority, users

LABELS = {
    "app.kubernetes.io/name": "memcached",
    "app.kubernetes.io/instance": "pool",
    "app.kubernetes.io/managed-by": "memcached-operator",
}
TLS: Json = {"enabled": True, "certificateSecretRef": {"name": "tls"}}
SASL: Json = {"enabled": True, "credentialsSecretRef": {"name": "users"}}
READY = ("True", "MonitoringReady")
UNSERVED = ("False", "ServiceMonitorUnavailable")


def scrape(kubectl: Kubectl, name: str = "pool") -> dict[str, float]:
    """The samples without labels of a pool's one pod, found as Prometheus finds it: by the Service's endpoints."""
    targets = [
        (address, port["port"])
        for piece in kubectl.list("endpointslices", f"kubernetes.io/service-name={name}")
        for port in piece["ports"] or ()
        for endpoint in piece["endpoints"] or ()
        for address in endpoint["addresses"]
        if port["name"] == "metrics" and endpoint["conditions"]["ready"]
    ]
    assert len(targets) == 1, targets
    [(address, port)] = targets
    with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r"^(memcached_\w+) (\S+)$", text, re.MULTILINE)}


def assert_monitoring(kubectl: Kubectl, status: str, reason: str, name: str = "pool") -> None:
    stated = condition(kubectl.get("memcached", name), "MonitoringReady")
    assert (stated["status"], stated["reason"]) == (status, reason), stated


def assert_warned(kubectl: Kubectl, reason: str, name: str = "pool") -> None:
    warned = {
        (event["regarding"]["name"], event["reason"])
        for event in kubectl.list("events.events.k8s.io")
        if event["type"] == "Warning"
    }
    assert (name, reason) in warned


def test_the_exporter_reads_memcached_whatever_it_speaks_but_has_no_password(
    kubectl: Kubectl, operator: Operator
) -> None:
    kubectl.apply(Authority().issue("pool").secret(), users("anna:one"))
    pools: dict[str, tuple[int, Json]] = {  # told apart by maxConnections, which the exporter reads from memcached
        "plain": (101, {}),
        "tls": (102, {"tls": TLS}),
        "mtls": (103, {"tls": {**TLS, "enableClientCert": True}}),
        "mixed": (104, {"tls": {**TLS, "allowPlaintext": True}}),
    }
    for name, (connections, security) in pools.items():
        spec = {"memcached": {"maxConnections": connections}, "security": security}
        kubectl.apply(memcached(name, monitoring={"enabled": True}, **spec))
    kubectl.apply(memcached("locked", monitoring={"enabled": True}, security={"sasl": SASL}))

    for name, (connections, _) in pools.items():
        ready_pods(kubectl, name, 1)
        told = eventually(partial(scrape, kubectl, name))
        assert told["memcached_up"] == 1, name
        assert told["memcached_max_connections"] == connections
        eventually(partial(assert_monitoring, kubectl, *READY, name))
    ready_pods(kubectl, "locked", 1)
    assert eventually(partial(scrape, kubectl, "locked"))["memcached_up"] == 0
    eventually(partial(assert_monitoring, kubectl, "False", "ExporterCannotAuthenticate", "locked"))
    eventually(partial(assert_warned, kubectl, "ExporterCannotAuthenticate", "locked"))


@pytest.fixture
def serve_servicemonitors(kubectl: Kubectl) -> Iterator[Callable[[], None]]:
    """A cluster without the Prometheus operator's ServiceMonitor, until this is called, and after the test."""
    crd = "servicemonitors.monitoring.coreos.com"
    kubectl("delete", "crd", crd, "--ignore-not-found")
    yield lambda: kubectl.install(crds.servicemonitors().read_text())
    kubectl("delete", "crd", crd, "--ignore-not-found")


def test_a_service_monitor_is_made_as_soon_as_the_cluster_serves_them_and_goes_with_monitoring(
    kubectl: Kubectl, serve_servicemonitors: Callable[[], None], start_operator: OperatorFactory
) -> None:
    start_operator()  # only now: what the cluster does not serve is asked for ever more rarely
    asked = {
        "interval": "15s",
        "scrapeTimeout": "5s",
        "additionalLabels": {"release": "prometheus", "app.kubernetes.io/name": "theirs"},
    }
    monitoring = {"enabled": True, "serviceMonitor": asked}
    kubectl.apply(memcached("pool", monitoring=monitoring), memcached("idle", replicas=0, monitoring=monitoring))
    for name in ("pool", "idle"):
        eventually(partial(assert_monitoring, kubectl, *UNSERVED, name))
        eventually(partial(assert_warned, kubectl, "ServiceMonitorUnavailable", name))
    eventually(lambda: assert_settled(kubectl, "idle"))  # nothing else makes memop look at it again
    serve_servicemonitors()
    eventually(partial(kubectl.get, "servicemonitor", "idle"))
    made = eventually(partial(kubectl.get, "servicemonitor", "pool"))
    assert made["metadata"]["labels"] == {**LABELS, "release": "prometheus"}
    [owner] = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Memcached", "pool", True)
    assert made["spec"] == {
        "selector": {"matchLabels": LABELS},
        "namespaceSelector": {"matchNames": [kubectl.namespace]},
        "endpoints": [{"port": "metrics", "interval": "15s", "scrapeTimeout": "5s"}],
    }
    eventually(lambda: assert_monitoring(kubectl, *READY))
    assert_scraped_where_it_leads(kubectl, made)
    kubectl.patch("servicemonitor", "pool", {"spec": {"endpoints": [{"port": "other"}]}})

    def assert_put_back() -> None:
        assert kubectl.get("servicemonitor", "pool")["spec"] == made["spec"]

    eventually(assert_put_back)

    kubectl.patch("memcached", "pool", {"spec": {"monitoring": {"enabled": False}}})
    [pod] = eventually(partial(pods_of, kubectl, ["memcached"]), timeout=90)
    assert kubectl.find("servicemonitor", "pool") is None
    assert ports(kubectl) == {"memcached": 11211}
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{pod['status']['podIP']}:9150/metrics", timeout=5)
    eventually(lambda: assert_monitoring(kubectl, "", ""))

    kubectl.patch("memcached", "pool", {"spec": {"monitoring": {"enabled": True}}})
    eventually(partial(pods_of, kubectl, ["memcached", "exporter"]), timeout=90)
    assert kubectl.get("servicemonitor", "pool")["spec"] == made["spec"]
    assert ports(kubectl) == {"memcached": 11211, "metrics": 9150}
    assert eventually(partial(scrape, kubectl))["memcached_up"] == 1
    eventually(lambda: assert_monitoring(kubectl, *READY))


def assert_settled(kubectl: Kubectl, name: str) -> None:
    assert condition(kubectl.get("memcached", name), "Progressing")["status"] == "False"


def assert_scraped_where_it_leads(kubectl: Kubectl, monitor: Json) -> None:
    """What it selects is the pool's Service alone, and behind the port that it names an exporter answers."""
    selector = ",".join(f"{name}={value}" for name, value in monitor["spec"]["selector"]["matchLabels"].items())
    [service] = kubectl.list("services", selector)
    assert service["metadata"]["name"] == "pool"
    assert monitor["spec"]["endpoints"][0]["port"] in ports(kubectl)
    ready_pods(kubectl, "pool", 1)
    assert eventually(partial(scrape, kubectl))["memcached_up"] == 1


def ports(kubectl: Kubectl) -> dict[str, int]:
    return {port["name"]: port["port"] for port in kubectl.get("service", "pool")["spec"]["ports"]}


def pods_of(kubectl: Kubectl, containers: list[str]) -> list[Json]:
    """The pool's pods, once all of them have these containers, ready."""
    found = pods(kubectl, "pool")
    assert found
    for pod in found:
        assert [container["name"] for container in pod["spec"]["containers"]] == containers
        states = {state["name"]: state["ready"] for state in pod["status"].get("containerStatuses", ())}
        assert states == dict.fromkeys(containers, True)
    return found
