"""A real Prometheus, configured as the Prometheus operator would from ServiceMonitors and rules.

Debian builds it without Kubernetes' service discovery, so targets reach it in a file, with the labels that
`role: endpointslice` gives them; relabeling is the operator's.
"""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import yaml

from hack.tools import tool
from tests.monitoring.expressions import Json
from tests.support.kubectl import Kubectl, eventually
from tests.support.operator import free_port

# Of a ServiceMonitor and its endpoints: what is translated here. Anything else would go untested.
_FIELDS = {"jobLabel", "selector", "namespaceSelector", "endpoints"}
_ENDPOINT = {"port", "scheme", "path", "interval", "scrapeTimeout", "honorLabels", "bearerTokenFile", "tlsConfig"}
_TLS = {"insecureSkipVerify": "insecure_skip_verify", "serverName": "server_name"}
_OWN_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path

_SERVICE, _SLICE = "__meta_kubernetes_service", "__meta_kubernetes_endpointslice"


def scrape_config(monitor: Json, *, directory: Path, token: Path, interval: str) -> Json:
    """The job of a ServiceMonitor that has one endpoint, by the operator's rules (its pkg/prometheus/promcfg.go).

    `directory` has a file of targets for each namespace, `token` stands in for Prometheus' own, `interval` is a test's.
    """
    spec, namespace = monitor["spec"], monitor["metadata"]["namespace"]
    [endpoint] = spec["endpoints"]
    assert not (spec.keys() - _FIELDS) | (endpoint.keys() - _ENDPOINT) | (spec["selector"].keys() - {"matchLabels"})
    namespaces = spec.get("namespaceSelector", {}).get("matchNames", [namespace])
    config: Json = {
        "job_name": f"serviceMonitor/{namespace}/{monitor['metadata']['name']}/0",
        "scheme": endpoint.get("scheme", "http"),
        "metrics_path": endpoint.get("path", "/metrics"),
        "honor_labels": endpoint.get("honorLabels", False),
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "tls_config": {_TLS[name]: value for name, value in endpoint.get("tlsConfig", {}).items()},
        "file_sd_configs": [{"files": [str(targets_file(directory, name)) for name in namespaces]}],
        "relabel_configs": list(_relabelings(spec, endpoint["port"])),
    }
    if "bearerTokenFile" in endpoint:
        assert endpoint["bearerTokenFile"] == _OWN_TOKEN
        config["authorization"] = {"credentials_file": str(token)}
    return config


def _relabelings(spec: Json, port: str) -> Iterable[Json]:
    for label, value in sorted(spec["selector"]["matchLabels"].items()):
        name = _meta(label)
        yield _keep([f"{_SERVICE}_label_{name}", f"{_SERVICE}_labelpresent_{name}"], f"({re.escape(value)});true")
    yield _keep([f"{_SLICE}_port_name"], port)
    yield {"source_labels": ["__meta_kubernetes_pod_phase"], "action": "drop", "regex": "(Failed|Succeeded)"}
    yield _label("namespace", "__meta_kubernetes_namespace")
    yield _label("service", f"{_SERVICE}_name")
    yield _label("pod", "__meta_kubernetes_pod_name")
    yield _label("container", "__meta_kubernetes_pod_container_name")
    yield _label("job", f"{_SERVICE}_name")
    if "jobLabel" in spec:
        yield _label("job", f"{_SERVICE}_label_{_meta(spec['jobLabel'])}")
    yield {"target_label": "endpoint", "replacement": port}


def _keep(sources: list[str], regex: str) -> Json:
    return {"source_labels": sources, "action": "keep", "regex": regex}


def _label(name: str, source: str) -> Json:
    return {"source_labels": [source], "regex": "(.+)", "target_label": name}


def targets_file(directory: Path, namespace: str) -> Path:
    return directory / f"targets-{namespace}.json"


def discover(kubectl: Kubectl) -> list[Json]:
    """Every port of every endpoint of every Service in the namespace, as Prometheus would find it now."""
    services = {service["metadata"]["name"]: service for service in kubectl.list("services")}
    pods = {pod["metadata"]["name"]: pod for pod in kubectl.list("pods")}
    return [
        {
            "targets": [f"{address}:{port['port']}"],
            "labels": {
                "__meta_kubernetes_namespace": kubectl.namespace,
                f"{_SLICE}_port_name": port["name"],
                **_of_service(services[piece["metadata"]["labels"]["kubernetes.io/service-name"]]),
                **_of_pod(pods.get(endpoint.get("targetRef", {}).get("name")), port["port"]),
            },
        }
        for piece in kubectl.list("endpointslices")
        for endpoint in piece["endpoints"] or ()
        for port in piece["ports"] or ()
        for address in endpoint["addresses"]
    ]


def _of_service(service: Json) -> dict[str, str]:
    labels = {f"{_SERVICE}_name": service["metadata"]["name"]}
    for label, value in service["metadata"].get("labels", {}).items():
        name = _meta(label)
        labels.update({f"{_SERVICE}_label_{name}": value, f"{_SERVICE}_labelpresent_{name}": "true"})
    return labels


def _of_pod(pod: Json | None, port: int) -> dict[str, str]:
    if pod is None:
        return {}
    containers = (
        container["name"]
        for container in pod["spec"]["containers"]
        for named in container.get("ports", ())
        if named["containerPort"] == port
    )
    return {
        "__meta_kubernetes_pod_name": pod["metadata"]["name"],
        "__meta_kubernetes_pod_phase": pod["status"]["phase"],
        "__meta_kubernetes_pod_container_name": next(containers, ""),
    }


def _meta(label: str) -> str:
    """A label's name as part of a meta label's."""
    return re.sub(r"\W", "_", label)


class Prometheus:
    """One process, scraping and evaluating every second; a context manager that ends it."""

    def __init__(self, directory: Path, scrape_configs: list[Json], rules: Json) -> None:
        self._directory = directory
        self._config = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": scrape_configs,
        }
        self._rules = rules
        self._address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self._directory / "rules.yaml").write_text(yaml.safe_dump(self._rules))
        config = self._directory / "prometheus.yaml"
        config.write_text(yaml.safe_dump(self._config))
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(tool("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={self._directory / 'data'}"),
                    *(f"--web.listen-address={self._address}", "--log.level=warn"),
                ],
                stdout=log,
                stderr=log,
            )
        eventually(self._assert_ready, timeout=30)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def _assert_ready(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self._directory / "prometheus.log").read_text())
        try:
            urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5).close()
        except OSError as error:
            raise AssertionError(str(error)) from error

    def ask(self, path: str, **parameters: str) -> Json:
        """`data` of an answer of /api/v1."""
        url = f"http://{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                data: Json = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error
        return data

    def query(self, query: str) -> list[tuple[Json, float]]:
        """Labels and value of each series that a query has now."""
        result = self.ask("query", query=query)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]
