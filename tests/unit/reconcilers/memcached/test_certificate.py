"""Spec in, Certificate out."""

from typing import Any

import pytest

from memop.reconcilers.memcached.certificate import certificate, dns_names
from tests.unit.reconcilers.memcached.instances import SELECTOR, instance

SERVICE = ["cache", "cache.default", "cache.default.svc", "cache.default.svc.cluster.local"]


def issued(**spec: Any) -> dict[str, Any]:
    return {**spec, "security": {"tls": {"enabled": True, "issuerRef": {"name": "ca"}}}}


@pytest.mark.parametrize(
    "tls",
    [
        {},
        {"enabled": True, "certificateSecretRef": {"name": "mine"}},
        {"enabled": False, "issuerRef": {"name": "ca"}},
    ],
)
def test_there_is_none_without_an_issuer(tls: dict[str, Any]) -> None:
    assert certificate(instance({"security": {"tls": tls}})) is None


def test_it_asks_the_issuer_for_the_names_of_the_service() -> None:
    assert certificate(instance(issued())) == {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "cache", "namespace": "default", "labels": SELECTOR},
        "spec": {
            "secretName": "cache-memcached-tls",
            "secretTemplate": {"labels": SELECTOR},
            "dnsNames": SERVICE,
            "usages": ["digital signature", "key encipherment", "server auth"],
            "issuerRef": {"name": "ca", "kind": "Issuer", "group": "cert-manager.io"},
        },
    }


def test_stable_pods_have_names_of_their_own() -> None:
    names = dns_names(instance(issued(podIdentity="Stable")))
    assert names == [*SERVICE, "*.cache.default", "*.cache.default.svc", "*.cache.default.svc.cluster.local"]


def test_the_size_does_not_change_it() -> None:
    small, large = (dns_names(instance(issued(podIdentity="Stable", replicas=size))) for size in (1, 64))
    assert small == large


def test_the_domain_is_the_clusters() -> None:
    assert dns_names(instance(issued(), cluster_domain="corp.example"))[-1] == "cache.default.svc.corp.example"
