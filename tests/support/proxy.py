"""A proxy between memop and the API server that writes down every request and makes trouble by rule.

It speaks plain HTTP to memop, on loopback, and TLS with the cluster administrator's certificate to the API server.
It runs in a thread of its own, so that tests stay ordinary code. A fault is a function of one `Exchange`:

    async def lost_answer(exchange):            # the API server acts, and memop does not hear of it
        await exchange.forward()
        exchange.reset()

    proxy.rules.append(Rule(Match(verb="apply", resource="deployments"), lost_answer, nth=2))
"""

import asyncio
import base64
import os
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
import yaml
from aiohttp import web

T = TypeVar("T")

WRITES = frozenset({"create", "update", "apply", "patch", "delete"})
# Neither is about an object of a user.
_BACKGROUND = frozenset({"leases", "tokenreviews", "subjectaccessreviews"})
_FORWARDED = ("Accept", "Content-Type", "User-Agent")


@dataclass(slots=True)
class Request:
    """One request of memop's; `status` is what the API server answered, heard by memop or not: 0 for nothing."""

    at: float  # time.monotonic()
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    query: dict[str, str]
    token: str
    status: int = 0

    @property
    def writes(self) -> bool:
        return self.verb in WRITES and self.resource not in _BACKGROUND

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.namespace, self.name, self.subresource) if part)
        return f"{self.verb} {what} → {self.status or 'no answer'}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; of its headers, those that matter."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a rule is about; None is any. `writes` means writes of users' objects: not Leases."""

    verb: str | None = None
    resource: str | None = None
    subresource: str | None = None
    name: str | None = None
    writes: bool = False

    def __call__(self, request: Request) -> bool:
        return (
            (self.verb is None or request.verb == self.verb)
            and (self.resource is None or request.resource == self.resource)
            and (self.subresource is None or request.subresource == self.subresource)
            and (self.name is None or request.name == self.name)
            and (request.writes or not self.writes)
        )


@dataclass(slots=True)
class Rule:
    """`fault` instead of the `nth` match and the `times - 1` after it; `fired` counts, `taken` are the requests."""

    match: Callable[[Request], bool]
    fault: "Fault"
    nth: int = 1
    times: int = 1
    seen: int = 0
    fired: int = 0
    taken: list[Request] = field(default_factory=list)

    def takes(self, request: Request) -> bool:
        if not self.match(request):
            return False
        self.seen += 1
        if not self.nth <= self.seen < self.nth + self.times:
            return False
        self.fired += 1
        self.taken.append(request)
        return True


class Exchange:
    """One request under way, as a fault handles it: `relay` is what happens without a fault."""

    def __init__(self, proxy: "FaultProxy", incoming: web.Request, request: Request, body: bytes) -> None:
        self.proxy = proxy
        self.request = request
        self.response: web.StreamResponse | None = None
        self._incoming = incoming
        self._body = body

    async def relay(self) -> None:
        if self.request.verb == "watch":
            async with self.events() as events:
                await self.stream(events)
        else:
            await self.answer(await self.forward())

    async def newest(self) -> bytes:
        """A list of all that the request's path names, as of now, whatever its query."""
        return await self.proxy.fetch(self._incoming.path)

    async def forward(self) -> Reply:
        """Let the API server act; memop hears nothing yet."""
        async with self._upstream() as response:
            return Reply(response.status, await response.read(), _headers(response))

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of a watch as the API server sends them, each with its newline; a refusal is passed on."""
        async with self._upstream() as response:
            if response.status == 200:
                yield _lines(response)
            else:
                await self.answer(Reply(response.status, await response.read(), _headers(response)))
                yield _nothing()

    async def answer(self, reply: Reply) -> None:
        """What memop hears; `reply` may be anybody's invention."""
        await self.proxy.thawed()
        self.response = web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        await self.response.prepare(self._incoming)
        await self.response.write_eof()

    async def answer_partly(self, reply: Reply, size: int) -> None:
        """Promise all of `reply`, and break the connection after `size` bytes of its body."""
        headers = {**reply.headers, "Content-Length": str(len(reply.body))}
        self.response = web.StreamResponse(status=reply.status, headers=headers)
        await self.response.prepare(self._incoming)
        await self.response.write(reply.body[:size])
        self.reset()

    async def stream(self, lines: AsyncIterator[bytes], *, finish: bool = True) -> None:
        """Answer a watch with `lines`; with `finish` the stream ends properly after them."""
        await self.send(b"")
        async for line in lines:
            await self.send(line)
        if finish:
            await self.finish()

    async def send(self, data: bytes) -> None:
        """Some of a watch's answer, which begins with the first call, be it empty."""
        if self.response is None:
            self.response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await self.response.prepare(self._incoming)
        await self.proxy.thawed()
        if data:
            await self.response.write(data)

    async def finish(self) -> None:
        """End a watch properly."""
        if self.response is not None:
            await self.response.write_eof()

    def reset(self) -> None:
        """Break the connection; what was not sent yet is never sent."""
        if self._incoming.transport is not None:
            self._incoming.transport.abort()

    @asynccontextmanager
    async def _upstream(self) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {name: self._incoming.headers[name] for name in _FORWARDED if name in self._incoming.headers}
        url = self.proxy.upstream + self._incoming.raw_path
        async with self.proxy.session.request(
            self._incoming.method, url, data=self._body or None, headers=headers
        ) as response:
            self.request.status = response.status
            yield response


Fault = Callable[[Exchange], Awaitable[None]]


class FaultProxy:
    """One proxy, for one memop; a context manager. `kubeconfig` names it, `requests` is all that memop asked."""

    def __init__(self, directory: Path, *, kubeconfig: str | None = None) -> None:
        self.requests: list[Request] = []
        self.rules: list[Rule] = []
        self.token: str | None = None  # when set, whoever shows another one gets 401
        self.upstream, self._tls = _cluster(kubeconfig or os.environ["KUBECONFIG"])
        self.kubeconfig = directory / "kubeconfig"
        self.token_file = directory / "token"
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        url = self._call(self._open())
        self.token_file.write_text("first")
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": url}}],
            "users": [{"name": "memop", "user": {"tokenFile": str(self.token_file)}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "memop"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(configuration))
        return self

    def __exit__(self, *exc: object) -> None:
        self.thaw()
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def get(self, path: str) -> bytes:
        """For the test's own eyes, straight from the API server."""
        return self._call(self.fetch(path))

    def freeze(self) -> None:
        """Hold everything from now on, in both directions: connections stay open and nothing passes."""
        self._loop.call_soon_threadsafe(self._thawed.clear)

    def thaw(self) -> None:
        """Let everything that was held go on."""
        self._loop.call_soon_threadsafe(self._thawed.set)

    async def thawed(self) -> None:
        await self._thawed.wait()

    def writes(self) -> Counter[str]:
        """Writes of users' objects that the API server carried out, as `verb resource/subresource name`."""
        counts: Counter[str] = Counter()
        for request in list(self.requests):
            if request.writes and 200 <= request.status < 300:
                subresource = f"/{request.subresource}" if request.subresource else ""
                counts[f"{request.verb} {request.resource}{subresource} {request.name}".rstrip()] += 1
        return counts

    def created(self) -> Counter[str]:
        """How often each object was made, as `resource/name`."""
        return self._count(lambda request: request.writes and request.status == 201 and not request.subresource)

    def deleted(self) -> Counter[str]:
        """How often each object was deleted."""
        return self._count(lambda request: request.verb == "delete" and 200 <= request.status < 300)

    def quiet_for(self) -> float:
        """Seconds since the last write of a user's object, tried or done."""
        return time.monotonic() - max((request.at for request in list(self.requests) if request.writes), default=0.0)

    def _count(self, which: Callable[[Request], bool]) -> Counter[str]:
        return Counter(f"{request.resource}/{request.name}" for request in list(self.requests) if which(request))

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _open(self) -> str:
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._connector = aiohttp.TCPConnector(limit=0, ssl=self._tls)
        self.session = aiohttp.ClientSession(
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def fetch(self, path: str) -> bytes:
        async with self.session.get(self.upstream + path) as response:
            response.raise_for_status()
            return await response.read()

    async def _close(self) -> None:
        await self._runner.cleanup()
        # A handler outlives its connection, so that a write which memop did not wait for is written down all the same.
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await self._connector.close(abort_ssl=True)
        await self.session.close()
        # Whatever is closing still, by TLS's leave, would outlast the loop and be complained of in some other test.
        for transport in list(vars(self._loop)["_transports"].values()):
            transport.abort()
        await asyncio.sleep(0.01)

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        request = _request(incoming)
        self.requests.append(request)
        await self.thawed()
        exchange = Exchange(self, incoming, request, body)
        if self.token is not None and request.token != self.token:
            await exchange.answer(refusal(401, "Unauthorized"))
        else:
            rule = next((rule for rule in self.rules if rule.takes(request)), None)
            try:
                await (rule.fault(exchange) if rule else exchange.relay())
            except (ConnectionError, aiohttp.ClientError):  # either side is gone: the other notices, as without a proxy
                exchange.reset()
        if exchange.response is None:
            exchange.reset()
            return web.Response()
        return exchange.response


def refusal(code: int, reason: str, message: str = "the fault proxy says so", retry_after: int | None = None) -> Reply:
    """A `metav1.Status` with `code`."""
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    body = msgspec.json.encode(status | {"message": message, "reason": reason, "code": code})
    headers = {"Content-Type": "application/json"}
    return Reply(code, body, headers | ({"Retry-After": str(retry_after)} if retry_after is not None else {}))


def _request(incoming: web.Request) -> Request:
    parts = [part for part in incoming.path.split("/") if part]
    parts = parts[3:] if parts[:1] == ["apis"] else parts[2:]  # after group and version
    namespace = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    resource, name, subresource = (*parts, "", "", "")[:3]
    applies = incoming.headers.get("Content-Type", "").startswith("application/apply-patch")
    verb = {
        "GET": "watch" if "watch" in incoming.query else "get" if name else "list",
        "POST": "create",
        "PUT": "update",
        "PATCH": "apply" if applies else "patch",
        "DELETE": "delete",
    }[incoming.method]
    token = incoming.headers.get("Authorization", "").removeprefix("Bearer ")
    return Request(time.monotonic(), verb, resource, subresource, namespace, name, dict(incoming.query), token)


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: response.headers[name] for name in ("Content-Type", "Retry-After") if name in response.headers}


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for data in response.content.iter_any():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _cluster(kubeconfig: str) -> tuple[str, ssl.SSLContext]:
    """The API server's URL and a TLS context with the administrator's certificate, inline in `kubeconfig`."""
    content = yaml.safe_load(Path(kubeconfig).read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return cluster["server"], context
