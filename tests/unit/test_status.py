"""`memop status`: what people and programs are shown, read from an API server as a user reads it."""

import io
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web

from memop import status as command
from memop.api.memcached_cluster import Proxy
from memop.client import Client
from memop.errors import Forbidden, Unreachable
from memop.reconcilers.cluster import builtin, mcrouter
from memop.reconcilers.cluster.topology import Topology
from memop.refs import Key
from tests.unit.apiserver import client, plain, serving

POD = Key("ns", "cache-proxy-1")
TOPOLOGY = Topology(copies=(("cache-r0-0.cache-r0.ns.svc.cluster.local",),), port=11211)
EXPORTER = {"name": "exporter", "ports": [{"name": "metrics", "containerPort": 9150}]}
PROXY = {"name": "proxy", "ports": [{"name": "proxy", "containerPort": 5000}]}
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "X"}]}
TROUBLED = {"conditions": [{"type": "Degraded", "status": "True", "reason": "ObjectConflict"}]}


def obj(name: str, status: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name, **more.pop("metadata", {})}, "status": status or {}, **more}


def proxy_answering(answer: bytes, *, error: bytes = b"") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A kubelet's side of `v4.channel.k8s.io`: the answer comes in two pieces."""

    async def forward(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        assert request.query["ports"] == "5000"
        port = (5000).to_bytes(2, "little")
        await socket.send_bytes(b"\0" + port)
        await socket.send_bytes(b"\1" + port)
        async for message in socket:
            assert message.type is WSMsgType.BINARY
            assert message.data[:1] == b"\0"
            if error:
                await socket.send_bytes(b"\1" + error)
            else:
                await socket.send_bytes(b"\0" + answer[:5])
                await socket.send_bytes(b"\0" + answer[5:])
        return socket

    return forward


class World:
    """An API server with one cluster, its ConfigMap and its proxies."""

    def __init__(self, config: dict[str, str], forward: Any = None, annotation: str | None = None) -> None:
        cluster = obj(
            "cache", {**READY, "shards": 3, "replicasPerShard": 2, "configHash": "abc", "endpoint": "cache.ns:11211"}
        )
        annotations = {} if annotation is None else {"memcached.c5c3.io/config-hash": annotation}
        self.lists = {
            "memcacheds": [obj("b", {**TROUBLED, "readyReplicas": 1, "replicas": 2}), obj("a", READY)],
            "memcachedclusters": [cluster],
            "pods": [
                obj(POD.name, READY, metadata={"annotations": annotations}, spec={"containers": [EXPORTER, PROXY]})
            ],
        }
        self.config = obj(
            "cache-proxy", metadata={"annotations": {"memcached.c5c3.io/config-hash": "abc"}}, data=config
        )
        self.forward = forward

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/portforward"):
            answered: web.StreamResponse = await self.forward(request)
            return answered
        plural = request.path.rpartition("/")[2]
        body: Any = self.config
        if plural in self.lists:
            body = {"metadata": {"resourceVersion": "1"}, "items": self.lists[plural]}
        return web.json_response(body)


async def shown(world: World, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[int, str]:
    out = io.StringIO()
    async with serving(world.answer) as server:

        async def connect() -> Any:
            return plain(server.url)

        monkeypatch.setattr(command, "connect", connect)
        options = {"everywhere": True, "proxies": False, "as_json": False, **options}
        return await command.status(None, out=out, **options), out.getvalue()


async def test_the_table_tells_of_pools_and_clusters_and_fails_while_one_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, text = await shown(World({}), monkeypatch)
    assert code == 1
    assert [line.split() for line in text.splitlines()] == [
        ["KIND", "NAME", "READY", "SIZE", "CONFIG", "ENDPOINT", "TROUBLE"],
        ["Memcached", "ns/a", "yes", "0/0", "pods"],
        ["Memcached", "ns/b", "no", "1/2", "pods", "ObjectConflict"],
        ["MemcachedCluster", "ns/cache", "yes", "3x2", "abc", "cache.ns:11211"],
    ]


async def test_programs_get_json_and_code_0_when_all_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World({})
    world.lists["memcacheds"] = []
    code, text = await shown(world, monkeypatch, as_json=True)
    assert code == 0
    assert [row["name"] for row in msgspec.json.decode(text)] == ["ns/cache"]


FILES = builtin.files(TOPOLOGY, Proxy())
OTHER = builtin.files(TOPOLOGY, Proxy.model_validate({"readPolicy": "latest"}))
ROUTES = mcrouter.files(TOPOLOGY, Proxy.model_validate({"mcrouter": {}}))


@pytest.mark.parametrize(
    ("files", "forward", "annotation", "told"),
    [
        (FILES, proxy_answering(f"STAT user_config_{builtin.version(FILES)} 0\r\nEND\r\n".encode()), None, "current"),
        (FILES, proxy_answering(b"STAT user_config_1 0\r\nEND\r\n"), None, "older"),
        (ROUTES, proxy_answering(b"VALUE __mcrouter__.config_md5_digest 0 4\r\nabcd\r\nEND\r\n"), None, "older"),
        ({}, None, "abc", "current"),
        ({}, None, "abd", "older"),
        (
            FILES,
            proxy_answering(b"", error=b"no such port"),
            None,
            f"not known: port-forward to pods {POD}: no such port",
        ),
    ],
)
async def test_each_proxy_says_by_itself_whether_it_has_the_configuration(
    files: dict[str, str], forward: Any, annotation: str | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = await shown(World(files, forward, annotation), monkeypatch, proxies=True, as_json=True)
    rows = {row["name"]: row for row in msgspec.json.decode(text)}
    assert rows[str(POD)]["config"] == told
    assert rows[str(POD)]["ready"] == "yes"


async def test_a_forward_that_is_refused_or_cut_is_an_error_of_ours() -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"kind": "Status", "message": "no"}, status=403)

    async def hang_up(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        await socket.close()
        return socket

    async def ask(api: Client) -> bytes:
        async with api.port_forward(POD, 11211) as forwarded:
            return await forwarded.ask(b"version\r\n", b"\r\n")

    for answer, error in ((refuse, Forbidden), (hang_up, Unreachable)):
        async with serving(answer) as server, client(server.url) as api:
            with pytest.raises(error):
                await ask(api)
    assert server.seen[0].path == "/api/v1/namespaces/ns/pods/cache-proxy-1/portforward"
    assert server.seen[0].query == {"ports": "11211"}
