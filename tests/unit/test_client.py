"""The client against a scripted server: what it sends, what it makes of the answers, what it tries again."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from memop import client as module
from memop.client import Client, Connection, Credentials
from memop.clock import Clock
from memop.errors import (
    AlreadyExists,
    ApiError,
    BadResponse,
    ConfigurationError,
    Conflict,
    Forbidden,
    Gone,
    LeadershipLost,
    NotFound,
    Rejected,
    RequestTimeout,
    ServerError,
    Throttled,
    Unauthorized,
    Unreachable,
    status_error,
)
from memop.metrics import ClientMetrics
from memop.refs import DEPLOYMENTS, EVENTS, LEASES, SERVICES, TOKEN_REVIEWS, Key, Resource
from memop.webhooks.certificates import issue
from tests.unit.apiserver import Answer, ImpatientClock, client, failure, json, plain, serving, speaking

pytestmark = pytest.mark.real_loop

KEY = Key("ns", "cache")
SECRETS = Resource("", "v1", "Secret", "secrets")
OBJECT = {"kind": "Deployment", "metadata": {"name": "cache", "uid": "u1"}}


# --- What is sent


@pytest.mark.parametrize(
    ("act", "method", "path", "query", "content_type", "body"),
    [
        (lambda c: c.get(DEPLOYMENTS, KEY), "GET", "/apis/apps/v1/namespaces/ns/deployments/cache", {}, None, None),
        (lambda c: c.create(SERVICES, "ns", OBJECT), "POST", "/api/v1/namespaces/ns/services", {}, module.JSON, OBJECT),
        (
            lambda c: c.replace(LEASES, KEY, OBJECT),
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/ns/leases/cache",
            {},
            module.JSON,
            OBJECT,
        ),
        (
            lambda c: c.apply(DEPLOYMENTS, KEY, OBJECT, manager="memop-memcached"),
            "PATCH",
            "/apis/apps/v1/namespaces/ns/deployments/cache",
            {"fieldManager": "memop-memcached", "force": "true"},
            module.APPLY,
            OBJECT,
        ),
        (
            lambda c: c.apply_status(DEPLOYMENTS, KEY, OBJECT, manager="m"),
            "PATCH",
            "/apis/apps/v1/namespaces/ns/deployments/cache/status",
            {"fieldManager": "m", "force": "true"},
            module.APPLY,
            OBJECT,
        ),
        (
            lambda c: c.patch(DEPLOYMENTS, KEY, [{"op": "remove"}], content_type="application/json-patch+json"),
            "PATCH",
            "/apis/apps/v1/namespaces/ns/deployments/cache",
            {},
            "application/json-patch+json",
            [{"op": "remove"}],
        ),
        (
            lambda c: c.patch(DEPLOYMENTS, KEY, {}, subresource="scale", manager="m"),
            "PATCH",
            "/apis/apps/v1/namespaces/ns/deployments/cache/scale",
            {"fieldManager": "m"},
            module.MERGE_PATCH,
            {},
        ),
        (
            lambda c: c.delete(SERVICES, KEY, uid="u1", resource_version="7"),
            "DELETE",
            "/api/v1/namespaces/ns/services/cache",
            {},
            module.JSON,
            {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": {"uid": "u1", "resourceVersion": "7"},
                "propagationPolicy": "Background",
            },
        ),
        (
            lambda c: c.review(TOKEN_REVIEWS, OBJECT),
            "POST",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            {},
            module.JSON,
            OBJECT,
        ),
    ],
)
async def test_each_verb_asks_as_the_api_defines_it(  # noqa: PLR0917 - a table's columns
    act: Callable[[Client], Awaitable[Any]],
    method: str,
    path: str,
    query: dict[str, str],
    content_type: str | None,
    body: Any,
) -> None:
    async with serving(json(OBJECT)) as server, client(plain(server.url, "t0")) as api:
        answer = await act(api)
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.query, seen.body) == (method, path, query, body)
    assert seen.headers.get("Content-Type") == content_type
    assert seen.headers["Authorization"] == "Bearer t0"
    assert seen.headers["User-Agent"] == "memop/test"
    assert "Accept-Encoding" not in seen.headers
    assert answer is None or msgspec.json.decode(answer) == OBJECT


async def test_a_secret_is_asked_for_its_metadata_only() -> None:
    async with serving(json(OBJECT)) as server, client(server.url) as api:
        await api.get(SECRETS, KEY, metadata_only=True)
    assert server.seen[0].headers["Accept"] == "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


async def test_a_list_is_read_page_by_page() -> None:
    first = {"metadata": {"resourceVersion": "9", "continue": "to/ken+=", "remainingItemCount": 1}, "items": [OBJECT]}
    last = {"metadata": {"resourceVersion": "9"}, "items": None}
    async with serving(json(first), json(last)) as server, client(server.url) as api:
        page = await api.list(DEPLOYMENTS, label_selector="a=b,c in (d, e)", resource_version="0", limit=1)
        rest = await api.list(DEPLOYMENTS, "ns", continue_token=page.continue_token, resource_version="0")
    assert [msgspec.json.decode(item) for item in page.items] == [OBJECT]
    assert (page.resource_version, page.continue_token, page.remaining) == ("9", "to/ken+=", 1)
    assert (rest.items, rest.continue_token, rest.remaining) == ([], "", None)
    assert server.seen[0].path == "/apis/apps/v1/deployments"
    assert server.seen[0].query == {"labelSelector": "a=b,c in (d, e)", "resourceVersion": "0", "limit": "1"}
    assert server.seen[1].query == {"continue": "to/ken+=", "limit": "500"}


async def test_server_version_is_told() -> None:
    async with serving(json({"gitVersion": "v1.34.2"})) as server, client(server.url) as api:
        assert await api.server_version() == "v1.34.2"


async def test_a_host_with_a_path_keeps_it() -> None:
    async with serving(json(OBJECT)) as server, client(server.url + "/k8s/clusters/c-1/") as api:
        await api.get(SERVICES, KEY)
    assert server.seen[0].path == "/k8s/clusters/c-1/api/v1/namespaces/ns/services/cache"


@pytest.mark.parametrize(
    "name", ["../../kube-system/secrets/admin", "..", ".", "a/b", "a?b", "a%2Fb", "a#b", "", "a b"]
)
async def test_a_name_cannot_lead_a_request_elsewhere(name: str) -> None:
    async with serving(json(OBJECT)) as server, client(server.url) as api:
        with pytest.raises(Rejected, match="get secrets"):
            await api.get(SECRETS, Key("ns", name), metadata_only=True)
    assert not server.seen


async def test_requests_are_counted_by_code_method_and_host() -> None:
    registry = CollectorRegistry()
    answers = (json(OBJECT), failure(404))
    async with serving(*answers) as server, client(server.url, metrics=ClientMetrics(registry)) as api:
        await api.get(SERVICES, KEY)
        with pytest.raises(NotFound):
            await api.delete(SERVICES, KEY, uid="u")
    async with client("http://127.0.0.1:1", metrics=ClientMetrics(other := CollectorRegistry())) as api:
        with pytest.raises(Unreachable):
            await api.create(SERVICES, "ns", {})

    def count(where: CollectorRegistry, code: str, method: str, host: str) -> float | None:
        return where.get_sample_value("rest_client_requests_total", {"code": code, "method": method, "host": host})

    host = server.url.removeprefix("http://")
    assert count(registry, "200", "GET", host) == 1
    assert count(registry, "404", "DELETE", host) == 1
    assert count(other, "<error>", "POST", "127.0.0.1:1") == 1


# --- Answers become our errors


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failure(400, "BadRequest"), Rejected),
        (failure(401, "Unauthorized"), Unauthorized),
        (failure(403, "Forbidden"), Forbidden),
        (failure(404, "NotFound"), NotFound),
        (failure(405, "MethodNotAllowed"), Rejected),
        (failure(409, "Conflict"), Conflict),
        (failure(409, "AlreadyExists"), AlreadyExists),
        (failure(410, "Expired"), Gone),
        (failure(413, "RequestEntityTooLarge"), Rejected),
        (failure(422, "Invalid"), Rejected),
        (failure(429, "TooManyRequests"), Throttled),
        (failure(500, "InternalError"), ServerError),
        (failure(503, "ServiceUnavailable"), ServerError),
        (failure(503, "ServiceUnavailable", Retry_After="3600"), Throttled),
        (failure(504, "Timeout"), RequestTimeout),
    ],
)
async def test_a_status_becomes_the_error_of_its_place_with_the_servers_words(
    answer: Answer, kind: type[ApiError]
) -> None:
    async with serving(answer) as server, client(server.url) as api:
        with pytest.raises(ApiError) as caught:
            await api.apply(DEPLOYMENTS, KEY, OBJECT, manager="m")
    assert type(caught.value) is kind
    assert str(caught.value) == "apply deployments.apps ns/cache: because"
    assert caught.value.message == "because"
    assert len(server.seen) == (2 if kind is Unauthorized else 1)  # with credentials read again


@pytest.mark.parametrize(
    "answer",
    [
        {"kind": "Status", "status": "Success", "details": {"uid": "u1"}},
        {"kind": "Service", "metadata": {"uid": "u1"}},
    ],
)
async def test_what_was_deleted_is_gone_unless_it_lingers(answer: dict[str, Any]) -> None:
    async with serving(json(answer)) as server, client(server.url) as api:
        assert await api.delete(SERVICES, KEY, uid="u1") is None
    lingering = {"metadata": {"uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    async with serving(json(lingering)) as server, client(server.url) as api:
        assert await api.delete(SERVICES, KEY, uid="u1") == msgspec.json.encode(lingering)


async def test_a_success_about_something_else_is_no_deletion() -> None:
    async with serving(json({"kind": "Status", "status": "Success"})) as server, client(server.url) as api:
        with pytest.raises(BadResponse, match="nothing about that object"):
            await api.delete(SERVICES, KEY, uid="u1")


async def test_a_redirect_is_not_followed() -> None:
    async with serving(json({}, 302, Location="/elsewhere")) as server, client(server.url) as api:
        with pytest.raises(BadResponse):
            await api.get(SERVICES, KEY)
    assert len(server.seen) == 1


async def test_a_refusal_that_is_no_status_is_quoted() -> None:
    async with serving(web.Response(text="404 page not found\n", status=404)) as server, client(server.url) as api:
        with pytest.raises(NotFound, match=r"get services ns/cache: 404 page not found$"):
            await api.get(SERVICES, KEY)


def test_a_watchs_error_event_becomes_the_same_errors() -> None:
    error = status_error(b'{"kind":"Status","code":410,"reason":"Expired","message":"too old"}', request="watch pods")
    assert type(error) is Gone
    assert (error.status, error.reason, str(error)) == (410, "Expired", "watch pods: too old")


async def test_a_body_that_is_not_json_is_rejected_before_it_is_sent() -> None:
    async with serving(json(OBJECT)) as server, client(server.url) as api:
        with pytest.raises(Rejected, match="create services ns"):
            await api.create(SERVICES, "ns", {"a": object()})
    assert not server.seen


# --- Nothing foreign slips through


async def _closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def _resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _says(text: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()

    return talk


async def _stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _stalls_in_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await reader.read()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BROKEN = [
    pytest.param(_closes, Unreachable, id="closes"),
    pytest.param(_resets, Unreachable, id="resets"),
    pytest.param(_says(OK + b"Content-Length: 100\r\n\r\n{"), BadResponse, id="truncated"),
    pytest.param(_says(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"), BadResponse, id="truncated-chunk"),
    pytest.param(_says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}"), BadResponse, id="bad-chunk"),
    pytest.param(_says(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n{}{}"), BadResponse, id="not-gzip"),
    pytest.param(_says(OK + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\n"), BadResponse, id="long-header"),
    pytest.param(_says(b"\x15\x03\x01\x00\x02\x02"), BadResponse, id="not-http"),
    pytest.param(_says(OK + b"Content-Length: 6\r\n\r\n<html>"), BadResponse, id="not-json"),
    pytest.param(_says(OK + b"Content-Length: 1\r\n\r\n{"), BadResponse, id="half-json"),
    pytest.param(_says(b"HTTP/1.1 204 No Content\r\n\r\n"), BadResponse, id="empty"),
    pytest.param(_stalls, RequestTimeout, id="stalls"),
    pytest.param(_stalls_in_body, RequestTimeout, id="stalls-in-body"),
]


@pytest.mark.parametrize(("talk", "kind"), BROKEN)
async def test_a_broken_answer_becomes_our_error(
    monkeypatch: pytest.MonkeyPatch, talk: Any, kind: type[ApiError]
) -> None:
    if kind is RequestTimeout:
        monkeypatch.setattr(module, "REQUEST_TIMEOUT", 0.05)
    async with speaking(talk) as url, client(url) as api:
        with pytest.raises(kind) as caught:
            await api.list(SERVICES, "ns")
    assert str(caught.value).startswith("list services ns: ")


@pytest.mark.parametrize(("talk", "kind"), BROKEN)
async def test_a_broken_watch_becomes_our_error(
    monkeypatch: pytest.MonkeyPatch, talk: Any, kind: type[ApiError]
) -> None:
    if kind is RequestTimeout:
        monkeypatch.setattr(module, "REQUEST_TIMEOUT", 0.05)
        monkeypatch.setattr(module, "WATCH_SILENCE", 0.05)
    async with speaking(talk) as url, client(url) as api:
        try:
            async with api.watch(SERVICES, resource_version="1", timeout=1) as lines:
                _ = [line async for line in lines]
        except ApiError as error:
            assert str(error).startswith("watch services: ")  # noqa: PT017 - not every one of these must fail


async def test_no_listener_no_name_and_no_url_are_unreachable() -> None:
    for host in ("http://127.0.0.1:1", "http://no-such-host.invalid", "http://127.0.0.1:port", "ftp://127.0.0.1"):
        with pytest.raises((Unreachable, BadResponse)):
            async with client(plain(host)) as api:
                await api.get(SERVICES, KEY)


async def test_a_closed_client_is_unreachable() -> None:
    async with client("http://127.0.0.1:1") as api:
        pass
    with pytest.raises(Unreachable, match="closed"):
        await api.get(SERVICES, KEY)


async def test_cancellation_passes_untouched() -> None:
    async with speaking(_stalls) as url, client(url) as api:
        task = asyncio.create_task(api.get(SERVICES, KEY))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def _server_tls(tmp_path: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    from datetime import UTC, datetime  # noqa: PLC0415

    pair = issue(names, now=datetime.now(UTC), days=1)
    (tmp_path / "tls.crt").write_text(pair.cert)
    (tmp_path / "tls.key").write_text(pair.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    (tmp_path / "ca.crt").write_text(pair.ca)
    return context, tmp_path / "ca.crt"


async def test_a_certificate_that_does_not_verify_is_unreachable_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, _ = _server_tls(tmp_path, "127.0.0.1")
    unknown = ssl.create_default_context()
    async with serving(json(OBJECT), tls=tls) as server, client(plain(server.url, tls=unknown)) as api:
        with pytest.raises(Unreachable, match="certificate verify failed"):
            await api.get(SERVICES, KEY)
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.1)  # it is waited out, twice
    async with speaking(_closes) as url, client(url.replace("http", "https")) as api:
        with pytest.raises(Unreachable):
            await api.get(SERVICES, KEY)


async def test_a_rotated_ca_is_read_when_the_old_one_no_longer_verifies(tmp_path: Path) -> None:
    tls, ca = _server_tls(tmp_path, "127.0.0.1")
    contexts = [ssl.create_default_context(), ssl.create_default_context(cafile=str(ca))]

    async def read() -> Credentials:
        return Credentials(tls=contexts.pop(0))

    clock = ImpatientClock()
    async with serving(json(OBJECT), tls=tls) as server, client(Connection(server.url, read), clock) as api:
        clock.ahead += module.CREDENTIALS_PAUSE
        await api.create(SERVICES, "ns", OBJECT)
    assert len(server.seen) == 1


async def test_tls_server_name_is_the_name_verified(tmp_path: Path) -> None:
    tls, ca = _server_tls(tmp_path, "kubernetes.example")

    async def read() -> Credentials:
        return Credentials(tls=ssl.create_default_context(cafile=str(ca)))

    async with serving(json(OBJECT), tls=tls) as server:
        async with client(Connection(server.url, read, tls_server_name="kubernetes.example")) as api:
            await api.get(SERVICES, KEY)
        async with client(Connection(server.url, read)) as api:
            with pytest.raises(Unreachable, match="mismatch"):
                await api.get(SERVICES, KEY)


async def test_a_proxy_gets_the_request() -> None:
    async with serving(json(OBJECT)) as proxy:
        connection = plain("http://api.invalid:6443")
        async with client(Connection(connection.host, connection.read, proxy=proxy.url)) as api:
            await api.get(SERVICES, KEY)
    assert proxy.seen[0].headers["Host"] == "api.invalid:6443"


# --- What is tried again


async def test_retry_after_is_honoured_and_bounded() -> None:
    clock = ImpatientClock()
    answers = (failure(429, Retry_After="2"), failure(503, retry=1), json(OBJECT))
    async with serving(*answers) as server, client(server.url, clock) as api:
        await api.create(SERVICES, "ns", OBJECT)
    assert [int(pause) for pause in clock.slept] == [2, 1]

    clock = ImpatientClock()
    async with serving(failure(429, Retry_After="4")) as server, client(server.url, clock) as api:
        with pytest.raises(Throttled) as caught:
            await api.create(SERVICES, "ns", OBJECT)
    assert caught.value.retry_after == 4
    assert sum(clock.slept) <= module.THROTTLE_BUDGET * 1.2
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("act", "sent"),
    [
        (lambda c: c.get(SERVICES, KEY), 2),
        (lambda c: c.list(SERVICES), 2),
        (lambda c: c.review(TOKEN_REVIEWS, OBJECT), 2),
        (lambda c: c.apply(SERVICES, KEY, OBJECT, manager="m"), 1),
        (lambda c: c.create(SERVICES, "ns", OBJECT), 1),
        (lambda c: c.patch(SERVICES, KEY, OBJECT), 1),
        (lambda c: c.replace(LEASES, KEY, OBJECT), 1),
        (lambda c: c.delete(SERVICES, KEY, uid="u"), 1),
    ],
)
async def test_a_broken_connection_is_tried_again_for_reads_only(
    act: Callable[[Client], Awaitable[Any]], sent: int
) -> None:
    requests = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await _resets(reader, writer)

    clock = ImpatientClock()
    async with speaking(talk) as url, client(url, clock) as api:
        with pytest.raises(Unreachable):
            await act(api)
    assert requests == sent
    assert not clock.slept


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.apply(SERVICES, KEY, OBJECT, manager="m"),
        lambda c: c.apply_status(SERVICES, KEY, OBJECT, manager="m"),
        lambda c: c.patch(SERVICES, KEY, OBJECT),
        lambda c: c.delete(SERVICES, KEY, uid="u1"),
    ],
)
async def test_who_may_not_write_any_more_sends_no_write(act: Callable[[Client], Awaitable[Any]]) -> None:
    async with serving(json(OBJECT)) as server, client(server.url) as api:
        leading = True
        api.fence(lambda: leading)
        await act(api)
        leading = False
        with pytest.raises(LeadershipLost, match="not sent"):
            await act(api)
        for free in (api.get(SERVICES, KEY), api.replace(LEASES, KEY, OBJECT), api.create(EVENTS, "ns", OBJECT)):
            await free
        await api.patch(EVENTS, KEY, OBJECT)
    assert len(server.seen) == 5


async def test_a_write_that_waits_for_its_connection_is_not_sent_when_the_term_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the process is suspended in the TLS handshake."""
    leading = True
    connect = aiohttp.TCPConnector.connect

    async def slow(*args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        nonlocal leading
        connection = await connect(*args, **kwargs)
        leading = False
        return connection

    async with serving(json(OBJECT)) as server, client(server.url) as api:
        api.fence(lambda: leading)
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", slow)
        with pytest.raises(LeadershipLost, match="apply services ns/cache: not sent"):
            await api.apply(SERVICES, KEY, OBJECT, manager="m")
        await api.get(SERVICES, KEY)
    assert [request.method for request in server.seen] == ["GET"]


class Tokens:
    """Credentials that change at every reading."""

    def __init__(self, lifetime: float | None = None) -> None:
        self.readings = 0
        self.broken = False
        self._lifetime = lifetime

    async def __call__(self) -> Credentials:
        if self.broken:
            raise ConfigurationError("kubeconfig /k: no such plugin")
        self.readings += 1
        await asyncio.sleep(0)
        return Credentials(f"Bearer t{self.readings}", None, self._lifetime)


def _wants(token: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == f"Bearer {token}":
            return web.json_response(OBJECT)
        return web.json_response({"kind": "Status", "code": 401, "message": "who?"}, status=401)

    return answer


async def test_concurrent_401s_share_one_reading_of_the_credentials() -> None:
    tokens, clock = Tokens(), ImpatientClock()
    async with serving(_wants("t2")) as server, client(Connection(server.url, tokens), clock) as api:
        clock.ahead += module.CREDENTIALS_PAUSE
        await asyncio.gather(*(api.create(SERVICES, "ns", OBJECT) for _ in range(8)))
    assert tokens.readings == 2
    assert len(server.seen) == 16


async def test_credentials_that_stay_refused_are_not_read_for_every_request() -> None:
    tokens, clock = Tokens(), ImpatientClock()
    async with serving(_wants("none")) as server, client(Connection(server.url, tokens), clock) as api:
        clock.ahead += module.CREDENTIALS_PAUSE
        for _ in range(10):
            with pytest.raises(Unauthorized, match="who"):
                await api.get(SERVICES, KEY)
    assert tokens.readings == 2


async def test_credentials_that_cannot_be_read_again_are_unauthorized_with_the_reason() -> None:
    tokens, clock = Tokens(), ImpatientClock()
    async with serving(_wants("t2")) as server, client(Connection(server.url, tokens), clock) as api:
        clock.ahead += module.CREDENTIALS_PAUSE
        tokens.broken = True
        with pytest.raises(Unauthorized, match="no such plugin"):
            await api.get(SERVICES, KEY)


async def test_credentials_are_read_again_when_due_and_kept_when_that_fails() -> None:
    tokens, clock = Tokens(lifetime=60), ImpatientClock()
    async with serving(json(OBJECT)) as server, client(Connection(server.url, tokens), clock) as api:
        for ahead in (0, 59, 2, 30, 31):
            clock.ahead += ahead
            await api.get(SERVICES, KEY)
        tokens.broken = True
        clock.ahead += 61
        await api.get(SERVICES, KEY)
    assert [seen.headers["Authorization"][-2:] for seen in server.seen] == ["t1", "t1", "t2", "t2", "t3", "t3"]


async def test_qps_limits_requests_but_not_leases() -> None:
    clock = ImpatientClock()
    async with serving(json(OBJECT)) as server, client(server.url, clock, qps=2) as api:
        for _ in range(3):
            await api.get(SERVICES, KEY)
        assert not clock.slept
        for _ in range(4):
            await api.get(SERVICES, KEY)
        assert sum(clock.slept) == pytest.approx(2, abs=0.2)
        slept = len(clock.slept)
        for _ in range(5):
            await api.get(LEASES, KEY)
        assert len(clock.slept) == slept


# --- Watches


def _stream(*pieces: bytes, hold: asyncio.Event | None = None) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if hold is not None:
            await hold.wait()
        return response

    return answer


async def test_a_watch_asks_for_bookmarks_and_ends_when_the_server_says() -> None:
    async with (
        serving(_stream(b'{"type":"AD', b'DED"}\n{"a":1}\n{"b', b'":2}\n\n')) as server,
        client(server.url) as api,
        api.watch(DEPLOYMENTS, "ns", label_selector="a=b", resource_version="5", timeout=299.5) as lines,
    ):
        assert [line async for line in lines] == [b'{"type":"ADDED"}', b'{"a":1}', b'{"b":2}']
    assert server.seen[0].path == "/apis/apps/v1/namespaces/ns/deployments"
    assert server.seen[0].query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "labelSelector": "a=b",
        "resourceVersion": "5",
        "timeoutSeconds": "300",
    }


async def test_a_watch_from_too_old_a_version_is_gone() -> None:
    async with serving(failure(410, "Expired")) as server, client(server.url) as api:
        with pytest.raises(Gone, match="watch services"):
            async with api.watch(SERVICES, resource_version="5", timeout=10):
                pass


async def test_a_big_event_passes_and_an_over_long_line_is_a_bad_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 3 << 20)
    big = b"x" * (3 << 20)
    async with (
        serving(_stream(big + b"\n")) as server,
        client(server.url) as api,
        api.watch(SERVICES, resource_version="1", timeout=10) as lines,
    ):
        assert await anext(lines) == big
    async with (
        serving(_stream(big, b"x\n")) as server,
        client(server.url) as api,
        api.watch(SERVICES, resource_version="1", timeout=10) as lines,
    ):
        with pytest.raises(BadResponse, match="MiB"):
            await anext(lines)


async def test_a_watch_cut_within_a_line_is_a_bad_response() -> None:
    async with (
        serving(_stream(b'{"a":1}\n{"b"')) as server,
        client(server.url) as api,
        api.watch(SERVICES, resource_version="1", timeout=10) as lines,
    ):
        assert await anext(lines) == b'{"a":1}'
        with pytest.raises(BadResponse, match="within a line"):
            await anext(lines)


async def test_a_watch_whose_connection_breaks_can_go_on_from_its_last_line() -> None:
    half = OK + b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"a":1}\n\r\n8\r\n{"b"'
    async with (
        speaking(_says(half)) as url,
        client(url) as api,
        api.watch(SERVICES, resource_version="1", timeout=10) as lines,
    ):
        assert await anext(lines) == b'{"a":1}'
        with pytest.raises(Unreachable, match="broke off"):
            await anext(lines)


async def test_events_thick_and_fast_are_taken_in_batches_and_the_first_one_at_once() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            writer.write(b"3\r\n{}\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(b"0\r\n\r\n")

    class CountingClock(Clock):
        pauses = 0

        async def sleep(self, seconds: float) -> None:
            self.pauses += 1
            await super().sleep(seconds)

    clock = CountingClock()
    async with (
        speaking(talk) as url,
        client(url, clock) as api,
        api.watch(SERVICES, resource_version="1", timeout=10) as lines,
    ):
        await anext(lines)
        assert clock.pauses == 0
        assert len([line async for line in lines]) == 99
    assert 1 <= clock.pauses < 50


async def test_a_silent_watch_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_SILENCE", 0.02)
    hold = asyncio.Event()
    async with serving(_stream(b"{}\n", hold=hold)) as server, client(server.url) as api:
        async with api.watch(SERVICES, resource_version="1", timeout=300) as lines:
            assert await anext(lines) == b"{}"
            with pytest.raises(RequestTimeout):
                await anext(lines)
        hold.set()


async def test_watches_and_leases_do_not_wait_behind_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 2)
    hold = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if "services" in request.path:
            await hold.wait()
        return web.json_response(OBJECT)

    async with serving(slow) as server, client(server.url) as api:
        stuck = [asyncio.create_task(api.get(SERVICES, KEY)) for _ in range(5)]
        await api.get(LEASES, KEY)
        async with api.watch(DEPLOYMENTS, resource_version="1", timeout=1):
            pass
        assert sum("services" in seen.path for seen in server.seen) == 2
        hold.set()
        await asyncio.gather(*stuck)
    assert len(server.seen) == 7


async def test_a_dead_peer_is_noticed_by_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    made = module._socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1)))
    with made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert struct.unpack("ii", made.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
