"""Certificates and kubeconfigs."""

import base64
import ipaddress
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hack.cluster.pki import Authority, KeyPair, kubeconfig, service_account_key, write_kubeconfig


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", "ca")


def load(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def names(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str | bytes]:
    return [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]


def test_a_client_certificate_carries_user_and_groups(authority: Authority) -> None:
    certificate = load(authority.client("kubelet", "system:node:node1", ["system:nodes"]))

    assert names(certificate, NameOID.COMMON_NAME) == ["system:node:node1"]
    assert names(certificate, NameOID.ORGANIZATION_NAME) == ["system:nodes"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_serving_certificate_is_for_names_and_addresses_and_signed_by_the_authority(authority: Authority) -> None:
    certificate = load(authority.server("apiserver", ["kubernetes.default.svc", "10.96.0.1"]))

    certificate.verify_directly_issued_by(load(authority.pair))
    alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternatives.get_values_for_type(x509.DNSName) == ["kubernetes.default.svc"]
    assert alternatives.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.96.0.1")]


def test_a_kubeconfig_holds_everything_and_is_the_owners_alone(authority: Authority, tmp_path: Path) -> None:
    client = authority.client("admin", "admin", ["system:masters"])
    path = write_kubeconfig(
        tmp_path / "kubeconfig", kubeconfig("https://127.0.0.1:6443", authority.pair.certificate, client)
    )

    content = yaml.safe_load(path.read_text())
    assert content["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    user = content["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == client.key.read_bytes()
    for secret in (path, client.key, service_account_key(tmp_path)):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
