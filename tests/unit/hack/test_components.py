"""Where two components must agree about a third thing."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from hack.cluster.cluster import HERE
from hack.cluster.components import Components, Ports
from hack.cluster.layout import Layout


@pytest.fixture
def components(tmp_path: Path) -> Components:
    made = Components(Layout(tmp_path, "x"), 3, Ports(), {"metrics-server": Path("/bin/metrics-server")})
    made.write_pki()
    return made


@pytest.fixture
def metrics_server(components: Components) -> dict[str, str]:
    """Its flags."""
    return dict(str(word).removeprefix("--").split("=", 1) for word in components.metrics_server()[1:])


def bootstrapped(kind: str, name: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((HERE / "bootstrap.yaml").read_text())
    return next(one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name))


def test_the_service_leads_to_where_metrics_server_listens(metrics_server: dict[str, str]) -> None:
    slice_ = bootstrapped("EndpointSlice", "metrics-server")
    service = bootstrapped("Service", "metrics-server")

    assert slice_["endpoints"][0]["addresses"] == [metrics_server["bind-address"]]
    port = {"name": service["spec"]["ports"][0]["name"], "port": int(metrics_server["secure-port"])}
    assert slice_["ports"] == [port]


def test_the_api_server_can_verify_metrics_server(components: Components, metrics_server: dict[str, str]) -> None:
    spec = yaml.safe_load(components.metrics_api().read_text())["spec"]
    certificate = x509.load_pem_x509_certificate(Path(metrics_server["tls-cert-file"]).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    # The name under which the aggregator looks for a Service's certificate.
    expected = f"{spec['service']['name']}.{spec['service']['namespace']}.svc"
    assert names.get_values_for_type(x509.DNSName) == [expected]
    bundle = x509.load_pem_x509_certificate(base64.b64decode(spec["caBundle"]))
    certificate.verify_directly_issued_by(bundle)


def test_metrics_server_is_who_the_bindings_name(components: Components, metrics_server: dict[str, str]) -> None:
    user = yaml.safe_load(Path(metrics_server["kubeconfig"]).read_text())["users"][0]["user"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))

    bindings = [
        bootstrapped("ClusterRoleBinding", "system:metrics-server"),
        bootstrapped("ClusterRoleBinding", "metrics-server:system:auth-delegator"),
        bootstrapped("RoleBinding", "metrics-server-auth-reader"),
    ]
    for binding in bindings:
        assert certificate.subject.rfc4514_string() == f"CN={binding['subjects'][0]['name']}"
