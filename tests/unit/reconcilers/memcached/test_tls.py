"""How memcached is told to listen, and where its certificate comes from."""

from typing import Any

import pytest

from memop.reconcilers.memcached.workload import pod_template
from tests.unit.reconcilers.memcached.instances import instance

PAIR = ["-o", "ssl_chain_cert=/etc/memcached/tls/tls.crt", "-o", "ssl_key=/etc/memcached/tls/tls.key"]
PLAIN = {"name": "memcached", "containerPort": 11211, "protocol": "TCP"}
TLS = {"name": "memcached-tls", "containerPort": 11212, "protocol": "TCP"}


def pod(tls: dict[str, Any]) -> dict[str, Any]:
    secured = {"enabled": True, "certificateSecretRef": {"name": "pair"}, **tls}
    found: dict[str, Any] = pod_template(instance({"security": {"tls": secured}}))["spec"]
    return found


@pytest.mark.parametrize(
    ("tls", "command", "args", "keys"),
    [
        (
            {},
            ["memcached", "-l", "*:11211,*:11212,notls:127.0.0.1:11213"],
            ["-Z", *PAIR],
            ["tls.crt", "tls.key"],
        ),
        (
            {"allowPlaintext": True},
            ["memcached", "-l", "notls:*:11211,*:11212,notls:127.0.0.1:11213"],
            ["-Z", *PAIR],
            ["tls.crt", "tls.key"],
        ),
        (
            {"enableClientCert": True},
            ["memcached", "-l", "*:11211,*:11212,notls:127.0.0.1:11213", "-o", "ssl_verify_mode=2"],
            ["-Z", *PAIR, "-o", "ssl_ca_cert=/etc/memcached/tls/ca.crt"],
            ["tls.crt", "tls.key", "ca.crt"],
        ),
    ],
)
def test_listeners_stand_in_the_command_and_files_in_the_arguments(
    tls: dict[str, Any], command: list[str], args: list[str], keys: list[str]
) -> None:
    built = pod(tls)
    container = built["containers"][0]
    assert (container["command"], container["args"][8:]) == (command, args)
    assert container["ports"] == [PLAIN, TLS]
    assert {container[probe]["tcpSocket"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {"memcached"}
    mount = {"name": "tls-certificates", "mountPath": "/etc/memcached/tls", "readOnly": True}
    assert container["volumeMounts"] == [mount]
    items = [{"key": key, "path": key} for key in keys]
    secret = {"secretName": "pair", "items": items, "defaultMode": 0o644}
    assert built["volumes"] == [{"name": "tls-certificates", "secret": secret}]


def test_an_issuer_fills_a_secret_of_the_pools_own() -> None:
    [volume] = pod({"certificateSecretRef": None, "issuerRef": {"name": "ca"}})["volumes"]
    assert volume["secret"]["secretName"] == "cache-memcached-tls"


@pytest.mark.parametrize("tls", [{"enabled": False}, {"enabled": False, "enableClientCert": True}])
def test_without_tls_the_image_starts_memcached_as_it_does(tls: dict[str, Any]) -> None:
    built = pod(tls)
    assert built["containers"][0]["command"] == []
    assert "volumes" not in built
