"""A real Prometheus scrapes memop and caches as the manifests say, and finds what rules and dashboards read.

MEMOP_REWRITE_GOLDEN=1 writes tests/monitoring/recorded.txt anew.
"""

import json
import math
import os
import re
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import yaml

from memop.certificates import make
from memop.pem import Certificate
from tests.dataplane.client import Client
from tests.monitoring.expressions import MANIFESTS, RECORDED, RULES, Json, dashboards, forms, panels, put_in, recorded
from tests.monitoring.prometheus import Prometheus, discover, scrape_config, targets_file
from tests.support import crds
from tests.support.cache import ready_pods
from tests.support.clusters import PATIENCE, Cluster, memcached_cluster
from tests.support.kubectl import Kubectl, eventually, memcached
from tests.support.operator import Operator, free_port
from tests.support.tls import Authority

NODE = "198.18.0.1"  # where memop, which runs beside the cluster, is reached as a pod would be
SERVICE_MONITORS = "servicemonitors.monitoring.coreos.com"
MONITORING: Json = {"enabled": True, "serviceMonitor": {"interval": "15s"}}
TARGETS = {"memop-metrics": 1, "plain": 2, "secure": 1, "ring-r0": 2, "ring": 2}  # Service → pods
KEYS = [f"key:{number}" for number in range(200)]
ELSEWHERE = ("go_", "process_", "promhttp_")  # series that all programs of their kind have


@dataclass(frozen=True)
class Stack:
    """memop with its metrics in the namespace `system`, pools in another, a Prometheus that scrapes all of them."""

    kubectl: Kubectl
    system: Kubectl
    operator: Operator
    metrics_port: int
    webhook_port: int
    certificate: Path  # admission's: a directory
    prometheus: Prometheus

    def read_metrics(self, token: str = "") -> tuple[int, str]:
        """Status and body of memop's endpoint."""
        request = urllib.request.Request(f"https://{NODE}:{self.metrics_port}/metrics")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        return answered(request)

    def review(self) -> int:
        """Status of a request such as the API server makes."""
        asked = {"uid": "1", "operation": "DELETE", "kind": {"kind": "Memcached"}, "name": "gone"}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
        [configuration] = shipped("webhook/validating.yaml", self.system.namespace)
        path = configuration["webhooks"][0]["clientConfig"]["service"]["path"]
        request = urllib.request.Request(f"https://{NODE}:{self.webhook_port}{path}", data=json.dumps(review).encode())
        request.add_header("Content-Type", "application/json")
        return answered(request)[0]

    def token(self, account: str) -> str:
        return self.system("create", "token", account).stdout.strip()


def answered(request: urllib.request.Request) -> tuple[int, str]:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(request, context=anybody, timeout=10) as answer:  # noqa: S310 - https
            return int(answer.status), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def shipped(path: str, namespace: str) -> list[Json]:
    """The objects of a manifest, for another namespace than memop-system."""
    text = (MANIFESTS.parent / path).read_text(encoding="utf-8").replace("memop-system", namespace)
    return list(yaml.safe_load_all(text))


def published(system: Kubectl, port: int) -> list[Json]:
    """The shipped Service of the metrics, ServiceMonitor and rights; the Service has no pods and is told of memop."""
    [service] = shipped("manager/metrics-service.yaml", system.namespace)
    del service["spec"]["selector"]
    [named] = service["spec"]["ports"]
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service["metadata"]["name"],
            "labels": {"kubernetes.io/service-name": service["metadata"]["name"]},
        },
        "addressType": "IPv4",
        "ports": [{"name": named["name"], "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [NODE], "conditions": {"ready": True}}],
    }
    role, binding = shipped("prometheus/rbac.yaml", system.namespace)
    binding["metadata"]["name"] += f"-{system.namespace}"
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "prometheus", "namespace": system.namespace}]
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        for name in ("prometheus", "stranger")
    ]
    return [*accounts, role, binding, service, endpoints, *shipped("prometheus/servicemonitor.yaml", system.namespace)]


@pytest.fixture(scope="module")
def stack(crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    kubectl = Kubectl(f"t-{uuid.uuid4().hex[:8]}")
    system = Kubectl(f"{kubectl.namespace}-system")
    directory = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as undo:
        for each in (kubectl, system):
            each("create", "namespace", each.namespace)
            undo.callback(each, "delete", "namespace", each.namespace, "--wait=false")
        install_service_monitors()
        undo.callback(system, "delete", "crd", SERVICE_MONITORS)
        undo.callback(system, "delete", "clusterrolebinding", f"memop-metrics-reader-{system.namespace}")
        metrics_port, webhook_port = free_port(), free_port()
        system.apply(*published(system, metrics_port))
        serve(directory, make(["memop"], datetime.now(UTC), days=90))
        operator = undo.enter_context(
            Operator(
                directory / "memop.log",
                *(f"--watch-namespaces={kubectl.namespace}", "--leader-elect", "--metrics-secure=true"),
                *(f"--metrics-bind-address=:{metrics_port}", "--enable-webhooks", f"--webhook-port={webhook_port}"),
                f"--webhook-cert-path={directory}",
            )
        )
        make_pools(kubectl)
        token = directory / "token"
        token.write_text(system("create", "token", "prometheus").stdout.strip())
        monitors = [*system.list("servicemonitors"), *kubectl.list("servicemonitors")]
        assert len(monitors) == len(TARGETS)
        configs = [scrape_config(monitor, directory=directory, token=token, interval="1s") for monitor in monitors]
        for each in (kubectl, system):
            targets_file(directory, each.namespace).write_text(json.dumps(discover(each)))
        prometheus = undo.enter_context(Prometheus(directory, configs, RULES))
        yield Stack(kubectl, system, operator, metrics_port, webhook_port, directory, prometheus)


def serve(directory: Path, certificate: Certificate) -> None:
    """Have admission served with it from the next connection on."""
    (directory / "tls.key").write_text(certificate.key)
    (directory / "tls.crt").write_text(certificate.cert)


def install_service_monitors() -> None:
    Kubectl("default").install(crds.servicemonitors().read_text())


def make_pools(kubectl: Kubectl) -> None:
    """A plain one, one with TLS, and a cluster; ready, and with the ServiceMonitors that lead to them."""
    tls: Json = {"enabled": True, "certificateSecretRef": {"name": "tls"}}
    kubectl.apply(Authority().issue("secure").secret())
    kubectl.apply(
        memcached("plain", replicas=2, monitoring=MONITORING),
        memcached("secure", monitoring=MONITORING, security={"tls": tls}),
        memcached_cluster("ring", shards=2, memcached={"monitoring": MONITORING}),
    )
    ready_pods(kubectl, "plain", 2)
    ready_pods(kubectl, "secure", 1)
    Cluster(kubectl, "ring").ready()

    def assert_led_to() -> None:
        assert len(kubectl.list("servicemonitors")) == len(TARGETS) - 1

    eventually(assert_led_to, timeout=PATIENCE)


def assert_all_up(stack: Stack) -> None:
    targets = stack.prometheus.ask("targets", state="active")["activeTargets"]
    assert [(target["scrapeUrl"], target["lastError"]) for target in targets if target["health"] != "up"] == []
    services = [target["labels"]["service"] for target in targets]
    assert {service: services.count(service) for service in services} == TARGETS
    assert {target["labels"]["job"] for target in targets} == TARGETS.keys() - {"memop-metrics"} | {"memop"}
    answers = {(labels["service"], labels["pod"]): value for labels, value in stack.prometheus.query("memcached_up")}
    assert len(answers) == sum(TARGETS.values()) - 1
    assert set(answers.values()) == {1.0}, answers


def test_prometheus_reaches_memop_and_every_cache(stack: Stack) -> None:
    eventually(partial(assert_all_up, stack))


def test_the_series_of_a_cr_carry_its_namespace_and_not_memops(stack: Stack) -> None:
    found = eventually(partial(series, stack, "memcached_operator_instance_info"))
    assert {labels["namespace"] for labels, _ in found} == {stack.kubectl.namespace}
    assert not [labels for labels, _ in found if "exported_namespace" in labels]


def series(stack: Stack, query: str) -> list[tuple[Json, float]]:
    """Not none, and not only NaN."""
    found = stack.prometheus.query(query)
    assert [value for _, value in found if not math.isnan(value)], query
    return found


def test_metrics_are_for_whoever_has_the_right_alone(stack: Stack) -> None:
    assert stack.read_metrics(stack.token("prometheus"))[0] == 200
    assert stack.read_metrics(stack.token("stranger"))[0] == 403
    assert stack.read_metrics("nobody's")[0] == 401
    assert stack.read_metrics()[0] == 401


def test_every_rule_is_loaded_and_healthy(stack: Stack) -> None:
    shipped = [
        (group["name"], rule.get("alert") or rule["record"]) for group in RULES["groups"] for rule in group["rules"]
    ]

    def check() -> None:
        groups = stack.prometheus.ask("rules")["groups"]
        rules = [(group["name"], rule) for group in groups for rule in group["rules"]]
        assert sorted((group, rule["name"]) for group, rule in rules) == sorted(shipped)
        assert [(rule["name"], rule.get("lastError")) for _, rule in rules if rule["health"] != "ok"] == []

    eventually(check)


def test_every_panel_has_data(stack: Stack) -> None:
    eventually(partial(assert_all_up, stack))  # of what came before the first sample no rate tells
    pods = [pod["status"]["podIP"] for pod in ready_pods(stack.kubectl, "plain", 2)]
    for address, port in [*((pod, 11211) for pod in pods), (Cluster(stack.kubectl, "ring").address, 11211)]:
        with Client(address, port) as client:
            client.put(KEYS)
            assert all(client.ask(f"get {key}\r\n").startswith("VALUE") for key in KEYS)
    assert stack.review() == 200
    # A reconcile that rolls no pod.
    stack.kubectl.patch("memcached", "plain", {"spec": {"service": {"annotations": {"looked": "at"}}}})

    chosen = variables(stack)
    assert chosen == {"$namespace": stack.kubectl.namespace, "$service": "plain|ring-r0|secure", "$proxy": "ring"}
    for _, query in panels(chosen):
        eventually(partial(series, stack, query), timeout=20)


def variables(stack: Stack) -> dict[str, str]:
    """What Grafana puts in for "All": every value that it finds of a variable, whose query may use those before it."""
    chosen: dict[str, str] = {}
    for dashboard in dashboards():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                [query] = re.findall(r"^query_result\((.*)\)$", variable["query"]["query"])
                found = stack.prometheus.query(put_in(query, chosen))
                # query_result's own form, which the variable's regular expression is for.
                texts = [",".join(f'{name}="{value}"' for name, value in labels.items()) for labels, _ in found]
                values = [match[1] for text in texts if (match := re.search(variable["regex"].strip("/"), text))]
                chosen[f"${variable['name']}"] = "|".join(sorted(values))
    return chosen


def alerts(stack: Stack) -> dict[str, str]:
    return {alert["labels"]["alertname"]: alert["state"] for alert in stack.prometheus.ask("alerts")["alerts"]}


def assert_alerts(stack: Stack, expected: dict[str, str]) -> None:
    assert alerts(stack) == expected


def test_no_alert_is_even_pending_while_all_is_well(stack: Stack) -> None:
    eventually(partial(assert_alerts, stack, {}))


def test_a_certificate_about_to_end_becomes_an_alert_once_it_is_served(stack: Stack) -> None:
    eventually(partial(assert_alerts, stack, {}))

    def check(expected: dict[str, str]) -> None:
        assert stack.review() == 200  # a connection is what has it read
        assert_alerts(stack, expected)

    try:
        serve(stack.certificate, make(["memop"], datetime.now(UTC), days=6))
        eventually(partial(check, {"MemopCertificateExpiring": "pending"}))
    finally:
        serve(stack.certificate, make(["memop"], datetime.now(UTC), days=90))
        eventually(partial(check, {}))


def test_the_end_of_memop_becomes_an_alert(stack: Stack) -> None:
    eventually(partial(assert_alerts, stack, {}))
    stack.operator.stop()
    try:
        eventually(partial(assert_alerts, stack, {"MemopDown": "pending"}))
    finally:
        stack.operator.start()
        eventually(partial(assert_all_up, stack))


def test_the_recorded_series_are_what_memop_and_exporters_serve(stack: Stack) -> None:
    status, text = stack.read_metrics(stack.token("prometheus"))
    assert status == 200
    targets = stack.prometheus.ask("targets", state="active")["activeTargets"]
    for service in ("plain", "ring"):
        address = next(target["labels"]["instance"] for target in targets if target["labels"]["service"] == service)
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            text += answer.read().decode()
    served = {form for form in forms(text) if not form.startswith(ELSEWHERE)}
    if "MEMOP_REWRITE_GOLDEN" in os.environ:
        RECORDED.write_text("\n".join(sorted(served)) + "\n", encoding="utf-8")
    assert recorded() <= served
