"""What memop serves: health, metrics and admission, each on an address of its own, one handler a route.

Handlers know nothing of HTTP: a check is a function that tells why not, a hook turns bytes into bytes.
Health follows the API server's own endpoints (`?verbose`, `?exclude=`, one path a check). Metrics follow
controller-runtime's: TLS, and whom TokenReview and SubjectAccessReview admit.
"""

import asyncio
import errno
import hashlib
import math
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from memop.clock import Clock
from memop.errors import ApiError, ConfigurationError
from memop.metrics import WebhookMetrics
from memop.pem import Certificate, server_context, validity
from memop.refs import SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS, Resource

log = structlog.stdlib.get_logger(__name__)

Check = Callable[[], str | None]  # None: fine; else why not
Hook = Callable[[bytes], Awaitable[bytes]]

MAX_HOOK_BODY = 16 << 20  # bytes; an AdmissionReview carries an object twice, and an object is 3 MiB at most
STOP_TIMEOUT = 3.0  # seconds that requests under way get when the server stops
ALLOWED_TTL, DENIED_TTL = 60.0, 10.0  # seconds that an answer about a token is remembered
MAX_TOKENS = 1024
END_OF_OPENMETRICS = b"# EOF\n"
MAX_REVIEWS = 4  # at once, so that strangers at the metrics endpoint are not passed on as load to the API server
CERTIFICATE_PERIOD = 1.0  # seconds between two looks at certificate files, both of which a handshake causes


class Reviewer(Protocol):
    """What of the client is used."""

    async def review(self, resource: Resource, body: Any) -> bytes: ...


def parse_address(flag: str, address: str) -> tuple[str, int] | None:
    """Host ("" is all interfaces) and port of `host:port`, `:port` or `[v6]:port`; None for `0` or nothing: off.

    Raises: ConfigurationError, naming `flag`.
    """
    if address in ("", "0"):
        return None
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ConfigurationError(f"{flag}={address}: wants host:port, :port or [ipv6]:port, or 0 to turn it off")
    return host[1:-1] if bracketed else host, int(port)


class ReloadingCertificate:
    """A serving certificate that handshakes look up anew: files that change are used from the next connection on.

    Give it files, or hand over a pair with `use`; handshakes fail until then. A pair that does not fit (half-written,
    say) leaves the old one. `expires` is when the one in use ends, in seconds since 1970; NaN without one.
    """

    def __init__(self, cert_file: str | Path = "", key_file: str | Path = "") -> None:
        self._files = (Path(cert_file), Path(key_file)) if cert_file else None
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._looked_at = 0.0
        self._current: ssl.SSLContext | None = None
        self.expires = math.nan

    @property
    def context(self) -> ssl.SSLContext:
        """What to listen with. Raises: ConfigurationError for files that are missing or do not fit."""
        if self._files and self._current is None:
            try:
                self._load(*self._files, self._look())
            except (OSError, ValueError, ConfigurationError) as error:
                raise ConfigurationError(f"certificate {self._files[0]} with key {self._files[1]}: {error}") from error
        outer = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        outer.sni_callback = self._choose
        return outer

    def use(self, certificate: Certificate) -> None:
        """Serve with it from the next connection on. Raises: ConfigurationError when it and its key do not fit."""
        self._current = server_context(certificate)
        self.expires = validity(certificate)[1].timestamp()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _outer: ssl.SSLContext) -> None:
        now = time.monotonic()
        if self._files and now >= self._looked_at + CERTIFICATE_PERIOD:
            self._looked_at = now
            self._reload(*self._files)
        if self._current is not None:
            connection.context = self._current

    def _reload(self, cert: Path, key: Path) -> None:
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._load(cert, key, stamp)
                log.info("the certificate was reloaded", file=str(cert))
        except (OSError, ValueError, ConfigurationError) as error:
            log.warning("the certificate was not reloaded", file=str(cert), error=str(error))

    def _load(self, cert: Path, key: Path, stamp: tuple[tuple[int, int, int], ...]) -> None:
        self.use(Certificate(cert.read_text(), key.read_text()))
        self._stamp = stamp

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        stats = [file.stat() for file in self._files or ()]  # follows kubelet's symlinks: the inode tells
        return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


class _User(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    user: _User | None = None


class _TokenReview(msgspec.Struct):
    status: _TokenStatus


class _AccessStatus(msgspec.Struct):
    allowed: bool = False


class _AccessReview(msgspec.Struct):
    status: _AccessStatus


class TokenGate:
    """Whether a bearer token may GET a path that is no resource, by the API server's word, remembered for a while."""

    def __init__(self, client: Reviewer, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[tuple[bytes, str], tuple[int, float]] = OrderedDict()
        self._places = asyncio.Semaphore(MAX_REVIEWS)

    async def status(self, authorization: str, path: str) -> int:
        """HTTP status for the caller: 200, 401 (who?), 403 (not you) or 503 (nobody to ask: closed, not open)."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return 401
        key = (hashlib.sha256(token.encode(errors="replace")).digest(), path)
        known = self._known.get(key)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        try:
            async with self._places:
                answer = await self._ask(token, path)
        except (ApiError, msgspec.MsgspecError) as error:
            log.warning("the metrics endpoint cannot review a token", error=str(error))
            return 503
        self._known[key] = answer, self._clock.monotonic() + (ALLOWED_TTL if answer == 200 else DENIED_TTL)
        self._known.move_to_end(key)
        while len(self._known) > MAX_TOKENS:
            self._known.popitem(last=False)
        return answer

    async def _ask(self, token: str, path: str) -> int:
        raw = await self._client.review(
            TOKEN_REVIEWS,
            {"apiVersion": TOKEN_REVIEWS.api_version, "kind": TOKEN_REVIEWS.kind, "spec": {"token": token}},
        )
        told = msgspec.json.decode(raw, type=_TokenReview).status
        if not told.authenticated or told.user is None:
            return 401
        user = told.user
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        raw = await self._client.review(
            SUBJECT_ACCESS_REVIEWS,
            {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": SUBJECT_ACCESS_REVIEWS.kind, "spec": spec},
        )
        return 200 if msgspec.json.decode(raw, type=_AccessReview).status.allowed else 403


class Health:
    """Named checks. `live` fail /healthz, `ready` fail /readyz; `info` fail nothing, `/readyz?verbose` tells them."""

    def __init__(self, *, live: Mapping[str, Check], ready: Mapping[str, Check], info: Mapping[str, Check]) -> None:
        self._checks: Mapping[str, Mapping[str, Check]] = {"healthz": live, "readyz": ready}
        self._info: Mapping[str, Mapping[str, Check]] = {"healthz": {}, "readyz": info}

    def answer(self, endpoint: str, name: str, *, verbose: bool, exclude: frozenset[str]) -> tuple[int, str]:
        """Status and text for `/endpoint` (`name` empty) or one of its checks."""
        checks = self._checks[endpoint]
        if name:
            if name == "ping":
                return 200, "ok"
            if name not in checks:
                return 404, f"no such check; there are: {', '.join(['ping', *checks])}\n"
            why = _ask(checks[name])
            return (500, f"{why}\n") if why is not None else (200, "ok")
        lines = [] if "ping" in exclude else ["[+]ping ok"]
        failed = False
        for check_name, check in checks.items():
            if check_name in exclude:
                lines.append(f"[+]{check_name} excluded: ok")
                continue
            why = _ask(check)
            failed = failed or why is not None
            lines.append(f"[+]{check_name} ok" if why is None else f"[-]{check_name} failed: {why}")
        if unknown := sorted(exclude - checks.keys() - {"ping"}):
            lines.append(f"warn: some health checks cannot be excluded: no matches for {', '.join(unknown)}")
        if not failed and not verbose:
            return 200, "ok"
        for check_name, check in self._info[endpoint].items():
            why = _ask(check)
            lines.append(f"[i]{check_name} {'ok' if why is None else why}")
        lines.append(f"{endpoint} check {'failed' if failed else 'passed'}")
        return 500 if failed else 200, "\n".join(lines) + "\n"


def _ask(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that breaks is a check that fails
        return f"{type(error).__name__}: {error}"


class Server:
    """Every listener. Addresses are Go's (`:8081`); `0` turns one off. Use as an async context manager.

    `metrics_certificate` None serves metrics in plain text; `gate` None serves them to everybody.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry,
        health: Health,
        health_address: str = ":8081",
        metrics_address: str = ":8443",
        metrics_certificate: ReloadingCertificate | None = None,
        gate: TokenGate | None = None,
        webhook_address: str = "0",
        webhook_certificate: ReloadingCertificate | None = None,
        webhook_metrics: WebhookMetrics | None = None,
    ) -> None:
        self._registry = registry
        self._health = health
        self._health_address = health_address
        self._metrics_address = metrics_address
        self._metrics_certificate = metrics_certificate
        self._gate = gate
        self._webhook_address = webhook_address
        self._webhook_certificate = webhook_certificate
        self._webhook_metrics = webhook_metrics
        self._hooks: dict[str, Hook] = {}
        self._scrape = asyncio.Lock()
        self._runners: list[web.AppRunner] = []
        self.ports: dict[str, int] = {}  # by flag, once started

    def add_hook(self, path: str, hook: Hook) -> None:
        """Serve POSTs of JSON to `path` on the webhook listener; before the server starts."""
        self._hooks[path] = hook
        if self._webhook_metrics is not None:
            self._webhook_metrics.begin(path)

    async def start(self) -> None:
        """Raises: ConfigurationError for an address or certificate that cannot be served on, naming the flag."""
        try:
            await self._listen("--health-probe-bind-address", self._health_address, None, self._health_routes())
            await self._listen(
                "--metrics-bind-address",
                self._metrics_address,
                self._metrics_certificate,
                [web.get("/metrics", self._serve_metrics)],
            )
            if self._hooks:
                routes = [web.post(path, self._hook_handler(hook)) for path, hook in self._hooks.items()]
                await self._listen("--webhook-port", self._webhook_address, self._webhook_certificate, routes)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the listeners; requests under way get STOP_TIMEOUT seconds."""
        while self._runners:
            await self._runners.pop().cleanup()

    async def run(self) -> None:
        """Serve until cancelled. Raises: as `start`."""
        async with self:
            await asyncio.Event().wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _listen(
        self, flag: str, address: str, certificate: ReloadingCertificate | None, routes: list[web.RouteDef]
    ) -> None:
        where = parse_address(flag, address)
        if where is None:
            return
        app = web.Application(client_max_size=MAX_HOOK_BODY)
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_TIMEOUT)
        tls = certificate.context if certificate else None
        listening = _bind(flag, address, *where)
        self._runners.append(runner)
        try:
            await runner.setup()
            await web.SockSite(runner, listening, ssl_context=tls).start()
        except BaseException:
            listening.close()
            raise
        self.ports[flag] = listening.getsockname()[1]

    def _health_routes(self) -> list[web.RouteDef]:
        async def handle(request: web.Request) -> web.Response:
            _, endpoint, *name = request.path.split("/")
            exclude = frozenset(request.query.getall("exclude", []))
            status, text = self._health.answer(
                endpoint, "/".join(name).strip("/"), verbose="verbose" in request.query, exclude=exclude
            )
            return web.Response(status=status, text=text, headers={"X-Content-Type-Options": "nosniff"})

        return [
            web.get(path, handle) for endpoint in ("/healthz", "/readyz") for path in (endpoint, endpoint + "/{name}")
        ]

    async def _serve_metrics(self, request: web.Request) -> web.StreamResponse:
        if self._gate is not None:
            status = await self._gate.status(request.headers.get("Authorization", ""), request.path)
            if status != 200:
                challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else None
                return web.Response(status=status, headers=challenge)
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = web.StreamResponse(headers={"Content-Type": content_type})
        async with self._scrape:  # one at a time
            await response.prepare(request)
            # Read on the loop, to whose thread caches and queues belong, and made into text elsewhere; piece by piece:
            # ten thousand CRs have a hundred thousand series, which take seconds and, at once, 80 MiB.
            name, end = "", b""
            for metric in self._registry.collect():
                text = await asyncio.to_thread(encode, _Collected(metric))
                end = END_OF_OPENMETRICS if text.endswith(END_OF_OPENMETRICS) else b""
                text = text.removesuffix(END_OF_OPENMETRICS)
                await response.write(_without_head(text) if metric.name == name else text)
                name = metric.name
            await response.write_eof(end)
        return response

    def _hook_handler(self, hook: Hook) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            if request.content_type != "application/json":
                return web.Response(status=415, text="wants application/json\n")
            with self._webhook_metrics.serving(request.path) if self._webhook_metrics else nullcontext():
                return web.Response(body=await hook(await request.read()), content_type="application/json")

        return handle


class _Collected(CollectorRegistry):
    """A piece of what a scrape found, in the form that encoders take."""

    def __init__(self, found: Metric) -> None:
        super().__init__()
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return (self._found,)


def _without_head(text: bytes) -> bytes:
    """The samples of a family whose HELP and TYPE were sent with an earlier piece."""
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text


def _bind(flag: str, address: str, host: str, port: int) -> socket.socket:
    try:
        if not host:
            return _bind_everywhere(port)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigurationError(f"{flag}={address}: {error.strerror or error}; choose another address") from error


def _bind_everywhere(port: int) -> socket.socket:
    """One socket for IPv4 and IPv6, as Go's; IPv4 alone where the node has IPv6 switched off."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("", port))
