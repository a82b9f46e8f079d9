"""What memop serves, over loopback: health, metrics to whom they are allowed, hooks, certificates that change."""

import asyncio
import io
import math
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from memop import server as module
from memop.errors import ConfigurationError, Unreachable
from memop.metrics import PIECE, OperatorMetrics, WebhookMetrics
from memop.pem import Certificate
from memop.refs import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, Key, Resource
from memop.server import Health, ReloadingCertificate, Server, TokenGate, parse_address
from memop.webhooks.certificates import issue
from tests.unit.apiserver import ImpatientClock

pytestmark = pytest.mark.real_loop

ANY = "127.0.0.1:0"
HEALTH, METRICS, WEBHOOKS = "--health-probe-bind-address", "--metrics-bind-address", "--webhook-port"
NO_CHECKS = Health(live={}, ready={}, info={})


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def _get(http: aiohttp.ClientSession, url: str, **kwargs: Any) -> tuple[int, str]:
    async with http.get(url, **kwargs) as response:
        return response.status, await response.text()


def _server(**kwargs: Any) -> Server:
    given: dict[str, Any] = {
        "registry": CollectorRegistry(),
        "health": NO_CHECKS,
        "health_address": "0",
        "metrics_address": "0",
    }
    return Server(**(given | kwargs))


# --- Addresses


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        (":8443", ("", 8443)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:80", ("localhost", 80)),
        ("[::1]:8443", ("::1", 8443)),
        ("[::]:0", ("::", 0)),
        ("0", None),
        ("", None),
    ],
)
def test_addresses_are_gos(address: str, parsed: tuple[str, int] | None) -> None:
    assert parse_address("--flag", address) == parsed


@pytest.mark.parametrize("address", ["8443", "host", ":port", "::1:80", ":70000", "host:", ":-1"])
def test_a_bad_address_names_its_flag(address: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--flag={address}: wants"):
        parse_address("--flag", address)


async def test_a_busy_port_names_its_flag_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        server = _server(health_address=ANY, metrics_address=address)
        with pytest.raises(ConfigurationError, match=f"^{METRICS}={address}: Address already in use"):
            await server.start()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.ports[HEALTH])


async def test_all_interfaces_means_both_families(http: aiohttp.ClientSession) -> None:
    async with _server(health_address=":0") as server:
        for host in ("127.0.0.1", "[::1]") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            assert await _get(http, f"http://{host}:{server.ports[HEALTH]}/healthz") == (200, "ok")


async def test_cancelling_run_closes_the_listeners(http: aiohttp.ClientSession) -> None:
    server = _server(health_address=ANY)
    task = asyncio.create_task(server.run())
    async with asyncio.timeout(5):
        while not server.ports:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)
    assert (await _get(http, f"http://127.0.0.1:{server.ports[HEALTH]}/healthz"))[0] == 200
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(aiohttp.ClientConnectionError):
        await _get(http, f"http://127.0.0.1:{server.ports[HEALTH]}/healthz")


# --- Health


async def test_health_answers_as_the_api_servers_endpoints_do(http: aiohttp.ClientSession) -> None:
    def breaks() -> str | None:
        raise RuntimeError("no")

    why: dict[str, str | None] = {"caches": "services not listed yet", "lease": None, "crd": "Memcached is missing"}
    health = Health(
        live={"loop": lambda: None},
        ready={"caches": lambda: why["caches"], "lease": lambda: why["lease"]},
        info={"crd": lambda: why["crd"]},
    )
    async with _server(health=health, health_address=ANY) as server:
        url = f"http://127.0.0.1:{server.ports[HEALTH]}"
        assert await _get(http, url + "/healthz") == (200, "ok")
        assert await _get(http, url + "/healthz?verbose") == (200, "[+]ping ok\n[+]loop ok\nhealthz check passed\n")
        not_ready = (
            "[+]ping ok\n[-]caches failed: services not listed yet\n[+]lease ok\n"
            "[i]crd Memcached is missing\nreadyz check failed\n"
        )
        assert await _get(http, url + "/readyz") == (500, not_ready)
        assert await _get(http, url + "/readyz/caches") == (500, "services not listed yet\n")
        assert await _get(http, url + "/readyz/lease") == (200, "ok")
        assert (await _get(http, url + "/readyz/nothing"))[0] == 404
        assert await _get(http, url + "/readyz?exclude=caches") == (200, "ok")
        status, text = await _get(http, url + "/readyz?verbose&exclude=caches&exclude=typo")
        assert (status, "[+]caches excluded: ok" in text, "no matches for typo" in text) == (200, True, True)
        why["caches"] = None
        assert await _get(http, url + "/readyz") == (200, "ok")  # the missing CRD fails nothing
    assert Health(live={"x": breaks}, ready={}, info={}).answer("healthz", "", verbose=False, exclude=frozenset()) == (
        500,
        "[+]ping ok\n[-]x failed: RuntimeError: no\nhealthz check failed\n",
    )


# --- Metrics


class FakeReviewer:
    """Knows one token, `good`, of whom SubjectAccessReview says `allowed`."""

    def __init__(self) -> None:
        self.asked: list[tuple[Resource, Any]] = []
        self.allowed = True
        self.down = False

    async def review(self, resource: Resource, body: Any) -> bytes:
        self.asked.append((resource, body))
        if self.down:
            raise Unreachable("no route")
        if resource is TOKEN_REVIEWS:
            user = {"username": "prometheus", "uid": "u1", "groups": ["g"], "extra": {"scopes": ["a", "b"]}}
            good = body["spec"]["token"] == "good"  # noqa: S105
            return msgspec.json.encode({"status": {"authenticated": True, "user": user} if good else {}})
        return msgspec.json.encode({"status": {"allowed": self.allowed}})


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_metrics_go_to_whom_the_api_server_admits(http: aiohttp.ClientSession) -> None:
    registry = CollectorRegistry()
    Gauge("memop_up", "", registry=registry).set(1)
    reviewer = FakeReviewer()
    async with _server(registry=registry, metrics_address=ANY, gate=TokenGate(reviewer, ImpatientClock())) as server:
        url = f"http://127.0.0.1:{server.ports[METRICS]}/metrics"
        async with http.get(url) as response:
            assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert (await _get(http, url, headers={"Authorization": "Basic good"}))[0] == 401
        assert not reviewer.asked
        assert (await _get(http, url, headers=_bearer("bad")))[0] == 401
        status, text = await _get(http, url, headers=_bearer("good"))
    assert status == 200
    assert "memop_up 1.0" in text
    resource, body = reviewer.asked[-1]
    assert resource is SUBJECT_ACCESS_REVIEWS
    assert body["spec"] == {
        "user": "prometheus",
        "uid": "u1",
        "groups": ["g"],
        "extra": {"scopes": ["a", "b"]},
        "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
    }


async def test_answers_about_a_token_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    reviewer, clock = FakeReviewer(), ImpatientClock()
    gate = TokenGate(reviewer, clock)
    for _ in range(5):
        assert await gate.status("Bearer good", "/metrics") == 200
    assert len(reviewer.asked) == 2
    clock.ahead += module.ALLOWED_TTL
    reviewer.allowed = False
    for _ in range(5):
        assert await gate.status("Bearer good", "/metrics") == 403
    assert len(reviewer.asked) == 4
    clock.ahead += module.DENIED_TTL
    reviewer.allowed = True
    assert await gate.status("bearer good", "/metrics") == 200
    assert not any("good" in repr(key) for key in gate._known)
    monkeypatch.setattr(module, "MAX_TOKENS", 3)
    for number in range(10):
        await gate.status(f"Bearer t{number}", "/metrics")
    assert len(gate._known) == 3


async def test_with_nobody_to_ask_the_endpoint_is_closed_and_that_is_not_remembered() -> None:
    reviewer = FakeReviewer()
    gate = TokenGate(reviewer, ImpatientClock())
    reviewer.down = True
    assert await gate.status("Bearer good", "/metrics") == 503
    reviewer.down = False
    assert await gate.status("Bearer good", "/metrics") == 200


# --- Certificates and hooks


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_a_family_that_comes_in_pieces_is_one(http: aiohttp.ClientSession, accept: str) -> None:
    registry = CollectorRegistry()
    metrics = OperatorMetrics(registry)
    for number in range(2 * PIECE + 1):
        with metrics.reconciling(Key("ns", f"pool-{number}")):
            pass
    async with _server(registry=registry, metrics_address=ANY) as server:
        url = f"http://127.0.0.1:{server.ports[METRICS]}/metrics"
        async with http.get(url, headers={"Accept": accept}) as answer:
            text = await answer.text()
    lines = text.splitlines()
    assert sum(line.startswith("# TYPE memcached_operator_reconcile_duration_seconds ") for line in lines) == 1
    assert [number for number, line in enumerate(lines) if line == "# EOF"] == ([len(lines) - 1] if accept else [])
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    parse = openmetrics.text_string_to_metric_families if accept else text_string_to_metric_families
    parsed = {family.name: family for family in parse(text)}
    assert len(parsed["memcached_operator_reconcile_duration_seconds"].samples) == (2 * PIECE + 1) * 7


async def test_metrics_are_read_on_the_loop_to_which_caches_and_queues_belong(http: aiohttp.ClientSession) -> None:
    registry = CollectorRegistry()
    # Raises in any other thread.
    Gauge("held_seconds", "", registry=registry).set_function(lambda: asyncio.get_running_loop().time() * 0 + 7)
    async with _server(registry=registry, metrics_address=ANY) as server:
        status, text = await _get(http, f"http://127.0.0.1:{server.ports[METRICS]}/metrics")
    assert (status, "held_seconds 7.0" in text) == (200, True)


def _write(directory: Path, name: str) -> str:
    pair = issue([name], now=datetime.now(UTC), days=1)
    (directory / "tls.crt").write_text(pair.cert)
    (directory / "tls.key").write_text(pair.key)
    return pair.cert


async def _presented(port: int) -> str:
    def fetch() -> str:
        return ssl.get_server_certificate(("127.0.0.1", port), timeout=5)

    return await asyncio.to_thread(fetch)


async def test_a_changed_certificate_is_used_without_a_restart_and_a_broken_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CERTIFICATE_PERIOD", 0.0)
    first = _write(tmp_path, "first")
    certificate = ReloadingCertificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    async with _server(metrics_address=ANY, metrics_certificate=certificate) as server:
        port = server.ports[METRICS]
        assert await _presented(port) == first
        second = _write(tmp_path, "second")
        assert await _presented(port) == second
        (tmp_path / "tls.key").write_text("half")
        assert await _presented(port) == second
        (tmp_path / "tls.key").unlink()
        assert await _presented(port) == second
        third = _write(tmp_path, "third")
        assert await _presented(port) == third


async def test_a_pair_can_be_handed_over_and_replaced() -> None:
    certificate = ReloadingCertificate()
    one, two = (issue([name], now=datetime.now(UTC), days=1) for name in ("one", "two"))
    with pytest.raises(ConfigurationError, match="do not fit"):
        certificate.use(Certificate(one.cert, two.key))
    assert math.isnan(certificate.expires)
    async with _server(metrics_address=ANY, metrics_certificate=certificate) as server:
        with pytest.raises(ssl.SSLError):
            await _presented(server.ports[METRICS])
        certificate.use(one)
        assert await _presented(server.ports[METRICS]) == one.cert
        assert certificate.expires == pytest.approx(time.time() + 86400, abs=60)
        certificate.use(two)
        assert await _presented(server.ports[METRICS]) == two.cert


async def test_missing_certificate_files_are_named(tmp_path: Path) -> None:
    certificate = ReloadingCertificate(tmp_path / "tls.crt", tmp_path / "tls.key")
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/tls.crt"):
        await _server(metrics_address=ANY, metrics_certificate=certificate).start()


async def test_a_hook_turns_bytes_into_bytes(http: aiohttp.ClientSession) -> None:
    async def hook(body: bytes) -> bytes:
        return b'{"got":' + body + b"}"

    pair = issue(["127.0.0.1"], now=datetime.now(UTC), days=1)
    certificate = ReloadingCertificate()
    certificate.use(pair)
    trusting = ssl.create_default_context(cadata=pair.ca)
    registry = CollectorRegistry()
    server = _server(webhook_address=ANY, webhook_certificate=certificate, webhook_metrics=WebhookMetrics(registry))
    server.add_hook("/validate", hook)
    async with server:
        url = f"https://127.0.0.1:{server.ports[WEBHOOKS]}/validate"
        json = {"Content-Type": "application/json"}
        async with http.post(
            url, data=io.BytesIO(b"[" + b"1," * 2_000_000 + b"1]"), headers=json, ssl=trusting
        ) as response:
            assert (response.status, len(await response.read())) == (200, 4_000_011)
        async with http.post(url, data=b"1", ssl=trusting) as response:
            assert response.status == 415
        assert (await _get(http, url, ssl=trusting))[0] == 405
    sample = registry.get_sample_value
    assert sample("controller_runtime_webhook_requests_total", {"webhook": "/validate", "code": "200"}) == 1
    assert sample("controller_runtime_webhook_requests_total", {"webhook": "/validate", "code": "500"}) == 0
    assert sample("controller_runtime_webhook_latency_seconds_count", {"webhook": "/validate"}) == 1
    assert sample("controller_runtime_webhook_requests_in_flight", {"webhook": "/validate"}) == 0
