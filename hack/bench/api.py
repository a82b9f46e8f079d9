"""The bench's own requests: JSON over aiohttp, and the CRs that it makes."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from hack.bench.errors import BenchError
from hack.bench.features import PLAIN, Features
from hack.cluster.pki import KeyPair

T = TypeVar("T")
MANAGER = "memop-bench"
AT_ONCE = 32  # writes of the bench under way at once
CRS = "/apis/memcached.c5c3.io/v1beta1"
_TOUCH = "bench.memop.dev/touched"
_WATCH = 36_000  # seconds


def namespace(number: int) -> str:
    return f"bench-ns-{number}"


@dataclass(frozen=True, slots=True)
class Pool:
    """One CR. They differ in name and replicas alone, so that the bodies of one tell those of all."""

    number: int
    namespaces: int
    features: Features = PLAIN

    @property
    def namespace(self) -> str:
        return namespace(self.number % self.namespaces)

    @property
    def name(self) -> str:
        return f"bench-{self.number:06d}"

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def replicas(self) -> int:
        return self.number % 5

    def manifest(self) -> dict[str, Any]:
        return {
            "apiVersion": "memcached.c5c3.io/v1beta1",
            "kind": "Memcached",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": {**self.features.spec, "replicas": self.replicas},
        }


class _Meta(msgspec.Struct):
    uid: str


class _Created(msgspec.Struct):
    metadata: _Meta


_decode_created = msgspec.json.Decoder(_Created).decode


class Api:
    """The API server, as its administrator."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> bytes:
        """The answer's bytes. Raises: BenchError unless it is a 2xx."""
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data else None
        try:
            async with self._session.request(method, path, data=data, headers=headers) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise BenchError(f"{method} {path}: {error or type(error).__name__}") from error
        if not response.ok:
            raise BenchError(f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}")
        return answer

    async def get(self, path: str) -> Any:
        return msgspec.json.decode(await self.request("GET", path))

    async def create(self, pool: Pool) -> str:
        """Create the CR; its uid."""
        path = f"{CRS}/namespaces/{pool.namespace}/memcacheds?fieldManager={MANAGER}"
        return _decode_created(await self.request("POST", path, pool.manifest())).metadata.uid

    async def touch(self, pool: Pool) -> None:
        """Change an annotation that means nothing to anybody."""
        await self._patch(pool, {"metadata": {"annotations": {_TOUCH: "yes"}}})

    async def scale(self, pool: Pool, replicas: int) -> None:
        await self._patch(pool, {"spec": {"replicas": replicas}})

    async def _patch(self, pool: Pool, body: Any) -> None:
        path = f"{CRS}/namespaces/{pool.namespace}/memcacheds/{pool.name}?fieldManager={MANAGER}"
        await self.request("PATCH", path, body, "application/merge-patch+json")

    async def watch(self, path: str, version: str) -> AsyncIterator[bytes]:
        """The events of a collection after a version, one JSON line each; after none: what exists, as events, first.

        Raises: BenchError.
        """
        query = f"watch=true&allowWatchBookmarks=true&timeoutSeconds={_WATCH}&resourceVersion={version}"
        timeout = aiohttp.ClientTimeout(total=None)
        try:
            async with self._session.get(f"{path}?{query}", timeout=timeout) as response:
                if response.status != 200:
                    raise BenchError(f"watch of {path}: {response.status} {(await response.text())[:500]}")
                rest = b""
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        yield line
        except (aiohttp.ClientError, OSError) as error:
            raise BenchError(f"watch of {path}: {error or type(error).__name__}") from error


@asynccontextmanager
async def connected(server: str, authority: Path, client: KeyPair) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with a client certificate and no limit of connections."""
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(client.certificate, client.key)
    connector = aiohttp.TCPConnector(limit=0, ssl=context)
    async with aiohttp.ClientSession(server, connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def at_once(items: Iterable[T], do: Callable[[T], Awaitable[None]], width: int = AT_ONCE) -> None:
    """`do` every item, in order, at most `width` at a time; the first failure ends all."""
    todo = iter(items)

    async def work() -> None:
        for item in todo:
            await do(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(work())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def write(pools: Iterable[Pool], do: Callable[[Pool], Awaitable[None]]) -> dict[str, float]:
    """`do` every pool, `AT_ONCE` at a time; by the pool's key, the monotonic time at which the write was sent."""
    sent: dict[str, float] = {}

    async def one(pool: Pool) -> None:
        sent[pool.key] = time.monotonic()
        await do(pool)

    await at_once(pools, one)
    return sent
