"""A scripted API server on loopback, for the parts that do real I/O."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from memop.client import Client, Connection, Credentials
from memop.clock import Clock
from memop.metrics import ClientMetrics

Answer = web.StreamResponse | Callable[[web.Request], Awaitable[web.StreamResponse]]
Bytes = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ImpatientClock(Clock):
    """The loop's time; sleeping returns at once and is written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.ahead += seconds
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class ApiServer:
    """Answers from `answers` in order, the last one again and again."""

    answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(
            Seen(
                request.method,
                request.path,
                dict(request.query),
                dict(request.headers),
                msgspec.json.decode(body) if body else None,
            )
        )
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request) if callable(answer) else answer


def json(body: Any, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(
            body=msgspec.json.encode(body), status=status, content_type="application/json", headers=names
        )

    return answer


def failure(code: int, reason: str = "", message: str = "because", retry: int | None = None, **headers: str) -> Answer:
    details = {"retryAfterSeconds": retry} if retry is not None else None
    status = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}
    return json(status | ({"details": details} if details else {}), code, **headers)


@asynccontextmanager
async def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[ApiServer]:
    server = ApiServer(list(answers))
    app = web.Application(client_max_size=1 << 24)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(talk: Bytes) -> AsyncIterator[str]:
    """A server that says what `talk` writes, be it HTTP or not."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def plain(url: str, token: str = "", tls: ssl.SSLContext | None = None) -> Connection:
    async def read() -> Credentials:
        return Credentials(f"Bearer {token}" if token else "", tls)

    return Connection(url, read)


def client(connection: Connection | str, clock: Clock | None = None, **kwargs: Any) -> Client:
    connection = plain(connection) if isinstance(connection, str) else connection
    kwargs.setdefault("metrics", ClientMetrics(CollectorRegistry()))
    return Client(connection, clock=clock or ImpatientClock(), user_agent="memop/test", **kwargs)
