"""TLS and passwords: who is served and who is not, by clients that verify what they are shown; and restricted pods."""

import itertools
import json
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.support import crds
from tests.support.cache import pods, ready_pods
from tests.support.fixtures import OperatorFactory
from tests.support.kubectl import Json, Kubectl, condition, eventually, memcached
from tests.support.operator import Operator
from tests.support.tls import Authority, Cache, Refused, users

BOTH_PORTS = (11211, 11212)
SASL: Json = {"enabled": True, "credentialsSecretRef": {"name": "users"}}


def tls(**more: Any) -> Json:
    return {"enabled": True, "certificateSecretRef": {"name": "tls"}, **more}


@pytest.fixture
def ca() -> Authority:
    return Authority()


@pytest.fixture
def operator(start_operator: OperatorFactory) -> Operator:
    """memop, which here sees within a second that a Secret changed."""
    return start_operator("--secret-resync-interval=1s")


def service(kubectl: Kubectl, name: str = "pool") -> str:
    return f"{name}.{kubectl.namespace}.svc"


def make(kubectl: Kubectl, name: str = "pool", **spec: Any) -> Json:
    """A pool's one pod, ready."""
    kubectl.apply(memcached(name, **spec))
    [pod] = ready_pods(kubectl, name, 1)
    return pod


def replaced(kubectl: Kubectl, before: Json) -> Json:
    """The pod that has taken the place of this one."""

    def check() -> None:
        assert before["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in pods(kubectl, "pool")}

    eventually(check, timeout=90)
    [pod] = ready_pods(kubectl, "pool", 1)
    return pod


def assert_serves(cache: Cache) -> None:
    assert cache.set("whose", "mine") == "STORED"
    assert cache.get("whose") == "mine"


def assert_refuses(cache: Cache) -> None:
    """memcached is there and answers nothing."""
    with pytest.raises(Refused):
        cache.get("whose")


def assert_absent(cache: Cache) -> None:
    with pytest.raises(ConnectionRefusedError):
        cache.get("whose")


def assert_degraded(kubectl: Kubectl, reason: str, text: str) -> None:
    degraded = condition(kubectl.get("memcached", "pool"), "Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", reason), degraded
    assert text in degraded["message"], degraded


def assert_sound(kubectl: Kubectl, name: str = "pool") -> None:
    cr = kubectl.get("memcached", name)
    assert condition(cr, "Degraded")["status"] == "False", cr.get("status")
    assert condition(cr, "Ready")["status"] == "True", cr["status"]


def secret_hash(kubectl: Kubectl) -> str:
    template = kubectl.get("deployment", "pool")["spec"]["template"]
    return str(template["metadata"]["annotations"]["memcached.c5c3.io/secret-hash"])


def test_tls_is_served_on_both_ports_and_plain_text_on_none(
    kubectl: Kubectl, ca: Authority, operator: Operator
) -> None:
    kubectl.apply(ca.issue(service(kubectl)).secret())
    address = make(kubectl, security={"tls": tls()})["status"]["podIP"]
    for port in BOTH_PORTS:
        cache = partial(Cache, address, port)
        assert_serves(cache(ca.trusted(), service(kubectl)))
        assert_refuses(cache())
        for trusted, name in ((Authority().trusted(), service(kubectl)), (ca.trusted(), "other.default.svc")):
            with pytest.raises(ssl.SSLCertVerificationError):
                cache(trusted, name).get("whose")
    assert_absent(Cache(address, 11213))
    ports = {port["name"]: port["port"] for port in kubectl.get("service", "pool")["spec"]["ports"]}
    assert ports == {"memcached": 11211, "memcached-tls": 11212}
    assert_sound(kubectl)


def test_with_client_certificates_only_those_of_the_ca_are_served(
    kubectl: Kubectl, ca: Authority, operator: Operator
) -> None:
    kubectl.apply(ca.issue(service(kubectl)).secret())
    address = make(kubectl, security={"tls": tls(enableClientCert=True)})["status"]["podIP"]
    for port in BOTH_PORTS:
        client = partial(Cache, address, port, name=service(kubectl))
        assert_serves(client(trusted=ca.trusted(ca.issue())))
        assert_refuses(client(trusted=ca.trusted()))
        assert_refuses(client(trusted=ca.trusted(Authority().issue())))
        assert_refuses(client())
    assert_absent(Cache(address, 11213))


def test_plain_text_is_served_on_its_port_where_it_is_allowed(
    kubectl: Kubectl, ca: Authority, operator: Operator
) -> None:
    kubectl.apply(ca.issue(service(kubectl)).secret())
    address = make(kubectl, security={"tls": tls(allowPlaintext=True)})["status"]["podIP"]
    assert_serves(Cache(address))
    assert_refuses(Cache(address, 11211, ca.trusted(), service(kubectl)))
    assert_serves(Cache(address, 11212, ca.trusted(), service(kubectl)))
    assert_refuses(Cache(address, 11212))
    assert_absent(Cache(address, 11213))


def test_a_new_certificate_is_served_by_new_pods(kubectl: Kubectl, ca: Authority, operator: Operator) -> None:
    kubectl.apply(ca.issue(service(kubectl)).secret())
    before = make(kubectl, security={"tls": tls()})
    digest = secret_hash(kubectl)
    new = Authority()
    kubectl.apply(new.issue(service(kubectl)).secret())
    address = replaced(kubectl, before)["status"]["podIP"]
    assert secret_hash(kubectl) != digest
    for port in BOTH_PORTS:
        assert_serves(Cache(address, port, new.trusted(), service(kubectl)))
        with pytest.raises(ssl.SSLCertVerificationError):
            Cache(address, port, ca.trusted(), service(kubectl)).get("whose")


@pytest.fixture
def serve_certificates(kubectl: Kubectl) -> Iterator[Callable[[], None]]:
    """A cluster without cert-manager's Certificate, until this is called, and after the test."""
    crd = "certificates.cert-manager.io"
    kubectl("delete", "crd", crd, "--ignore-not-found")
    yield lambda: kubectl.install(crds.certificates().read_text())
    kubectl("delete", "crd", crd, "--ignore-not-found")


def test_an_issuer_gets_a_certificate_for_all_names_as_soon_as_the_cluster_serves_them(
    kubectl: Kubectl, ca: Authority, serve_certificates: Callable[[], None], start_operator: OperatorFactory
) -> None:
    # Only now: what the cluster does not serve is asked for ever more rarely.
    start_operator("--secret-resync-interval=1s")
    issuer = {"name": "ours", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    kubectl.apply(memcached("pool", podIdentity="Stable", security={"tls": {"enabled": True, "issuerRef": issuer}}))
    eventually(lambda: assert_degraded(kubectl, "CertificateUnavailable", "no Certificate is made"))
    serve_certificates()
    wanted = eventually(partial(kubectl.get, "certificate", "pool"))["spec"]
    eventually(lambda: assert_degraded(kubectl, "SecretNotFound", f"{kubectl.namespace}/{wanted['secretName']}"))
    assert wanted["issuerRef"] == issuer
    # What cert-manager does.
    secret = ca.issue(*wanted["dnsNames"]).secret(wanted["secretName"])
    secret["metadata"]["labels"] = wanted["secretTemplate"]["labels"]
    kubectl.apply(secret)
    [pod] = ready_pods(kubectl, "pool", 1)
    bare = f"pool.{kubectl.namespace}"
    names = [bare, f"{bare}.svc", f"{bare}.svc.cluster.local"]
    for name in ("pool", *names, *(f"pool-0.{name}" for name in names)):
        assert_serves(Cache(pod["status"]["podIP"], 11212, ca.trusted(), name))
    eventually(lambda: assert_sound(kubectl))
    kubectl.patch("memcached", "pool", {"spec": {"security": {"tls": None}}})

    def assert_gone() -> None:
        assert kubectl.find("certificate", "pool") is None

    eventually(assert_gone)


def test_a_password_opens_the_cache_until_another_takes_its_place(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(users("anna:one"))
    before = make(kubectl, security={"sasl": SASL})
    client = partial(Cache, before["status"]["podIP"])
    assert client().get("whose") == "CLIENT_ERROR unauthenticated"
    for wrong in ("anna two", "berta one"):
        assert client(login=wrong).get("whose") == "CLIENT_ERROR authentication failure"
    assert_serves(client(login="anna one"))
    kubectl.apply(users("anna:two"))
    client = partial(Cache, replaced(kubectl, before)["status"]["podIP"])
    assert client(login="anna one").get("whose") == "CLIENT_ERROR authentication failure"
    assert_serves(client(login="anna two"))


def test_while_a_secret_is_missing_pods_stay_as_they_are(kubectl: Kubectl, operator: Operator) -> None:
    kubectl.apply(users("anna:one"))
    before = make(kubectl, security={"sasl": SASL})
    digest = secret_hash(kubectl)
    cache = Cache(before["status"]["podIP"], login="anna one")
    kubectl.delete("secret", "users")
    eventually(lambda: assert_degraded(kubectl, "SecretNotFound", f"{kubectl.namespace}/users"))
    kubectl.patch("memcached", "pool", {"spec": {"memcached": {"threads": 3}}})

    def assert_edited() -> None:
        [container] = kubectl.get("deployment", "pool")["spec"]["template"]["spec"]["containers"]
        assert container["args"][4:6] == ["-t", "3"]
        assert len(pods(kubectl, "pool")) == 2

    eventually(assert_edited)
    assert secret_hash(kubectl) == digest
    assert before["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in pods(kubectl, "pool")}
    assert_serves(cache)
    kubectl.apply(users("anna:two"))
    assert_serves(Cache(replaced(kubectl, before)["status"]["podIP"], login="anna two"))
    assert secret_hash(kubectl) != digest
    eventually(lambda: assert_sound(kubectl))


def test_a_restricted_namespace_takes_pods_of_every_combination(
    kubectl: Kubectl, ca: Authority, operator: Operator
) -> None:
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    kubectl.apply(ca.issue(service(kubectl)).secret(), users("anna:one"))
    features: list[Json] = [
        {"security": {"tls": tls(enableClientCert=True)}},
        {"security": {"sasl": SASL}},
        {"monitoring": {"enabled": True}},
        {"highAvailability": {"gracefulShutdown": {"enabled": True, "preStopDelaySeconds": 1}}},
    ]
    combinations = {
        f"pool-{number}": merged(chosen)
        for number, chosen in enumerate(itertools.product(*(({}, feature) for feature in features)))
    }
    everything = combinations.pop(f"pool-{len(combinations) - 1}")
    kubectl.apply(
        memcached("pool", **everything),
        *(memcached(name, replicas=0, **spec) for name, spec in combinations.items()),
    )
    for name in combinations:  # no pods, but the API server says what would become of them
        template = eventually(partial(kubectl.get, "deployment", name))["spec"]["template"]
        assert admitted(kubectl, template) == "", name
    template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert "violates PodSecurity" in admitted(kubectl, template)

    [pod] = ready_pods(kubectl, "pool", 1)
    assert len(pod["spec"]["containers"]) == 2
    client = partial(Cache, pod["status"]["podIP"], trusted=ca.trusted(ca.issue()), name=service(kubectl))
    for port in BOTH_PORTS:
        assert_serves(client(port, login="anna one"))
        assert client(port, login="anna two").get("whose") == "CLIENT_ERROR authentication failure"
        assert client(port).get("whose") == "CLIENT_ERROR unauthenticated"
        assert_refuses(Cache(pod["status"]["podIP"], port, login="anna one"))
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["sasl-credentials", "tls-certificates"]
    look = ("sh", "-c", "ls /etc/memcached /var/run/secrets/kubernetes.io || true")
    seen = kubectl("exec", pod["metadata"]["name"], "-c", "memcached", "--", *look).stdout
    assert seen.split() == ["/etc/memcached:", "sasl", "tls"]


def merged(parts: tuple[Json, ...]) -> Json:
    """The features in one spec."""
    spec: Json = {}
    for part in parts:
        for block, fields in part.items():
            spec[block] = {**spec.get(block, {}), **fields}
    return spec


def admitted(kubectl: Kubectl, template: Json) -> str:
    """What the API server has against a pod of this template; nothing, if empty."""
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "probe"}}
    return kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False).stderr
