"""`memop status`: what people and programs are shown, read from an API server as a user reads it."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, web
from rich.console import Console

from memop import cli
from memop.api.memcached_cluster import Proxy
from memop.client import Client
from memop.clock import Clock
from memop.errors import BadResponse, Forbidden, MemopError, Unreachable
from memop.reconcilers.cluster import builtin, mcrouter
from memop.reconcilers.cluster.topology import Topology
from memop.refs import Key
from memop.status import command, read
from memop.status.command import Options
from memop.status.overview import Overview
from memop.status.report import Cluster, Counted, Pool, Report, Server, Stats, parse, since, total
from memop.status.report import Proxy as ProxyPod
from tests.unit.apiserver import client, plain, serving

Json = dict[str, Any]
Forward = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOPOLOGY = Topology(copies=(("cache-r0-0.cache-r0.ns.svc.cluster.local",),), port=11211)
READY = {"conditions": [{"type": "Ready", "status": "True", "reason": "X"}]}
EXPORTER = {"name": "exporter", "ports": [{"name": "metrics", "containerPort": 9150}]}
PROXY = {"name": "proxy", "ports": [{"name": "proxy", "containerPort": 5000}]}
MEMCACHED = {"name": "memcached", "ports": [{"name": "memcached", "containerPort": 11211}], "args": ["-m", "64"]}
TLS = {**MEMCACHED, "ports": [*MEMCACHED["ports"], {"name": "memcached-tls", "containerPort": 11212}]}
SASL = {**MEMCACHED, "args": ["-m", "64", "-Y", "/etc/memcached/sasl/password-file"]}

COUNTS = {
    **dict.fromkeys(
        (f"{command}_{result}" for command in ("delete", "incr", "decr") for result in ("hits", "misses")), 1
    ),
    "uptime": 100,
    "cmd_get": 10,
    "cmd_set": 5,
    "cmd_touch": 1,
    "get_hits": 9,
    "get_misses": 1,
    "evictions": 2,
    "curr_connections": 3,
    "curr_items": 40,
    "bytes": 32 << 20,
    "limit_maxbytes": 64 << 20,
}
STATS = Stats(
    requests=22, hits=9, misses=1, evictions=2, items=40, used_bytes=32 << 20, limit_bytes=64 << 20, connections=3
)


def said(counts: Mapping[str, int]) -> bytes:
    """What memcached answers to `stats`, among it what is no number."""
    lines = ["STAT version 1.6.38", "STAT rusage_user 0.1", *(f"STAT {name} {value}" for name, value in counts.items())]
    return "".join(f"{line}\r\n" for line in [*lines, "END"]).encode()


def obj(name: str, status: Json | None = None, **more: Any) -> Json:
    metadata = {"namespace": "ns", "name": name, "uid": f"uid of {name}", "generation": 1, **more.pop("metadata", {})}
    return {"metadata": metadata, "status": {"observedGeneration": 1, **(status or {})}, "spec": {}, **more}


def conditions(**holding: tuple[str, str]) -> Json:
    return {
        "conditions": [
            {"type": type_, "status": "True", "reason": reason, "message": message}
            for type_, (reason, message) in holding.items()
        ]
    }


def pod(name: str, role: str, instance: str, container: Json, *, phase: str = "Running", **annotations: str) -> Json:
    labels = {"name": role, "instance": instance, "managed-by": "memcached-operator"}
    metadata = {
        "labels": {f"app.kubernetes.io/{label}": value for label, value in labels.items()},
        "annotations": {name.replace("_", "-"): value for name, value in annotations.items()},
    }
    return obj(name, {**READY, "phase": phase}, metadata=metadata, spec={"containers": [EXPORTER, container]})


def forwarding(answers: Mapping[tuple[str, int], bytes | None], *, error: bytes = b"") -> Forward:
    """A kubelet's side of `v4.channel.k8s.io`, by pod and port: the answer comes in two pieces; None: never."""

    async def forward(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        number = int(request.query["ports"])
        answer = answers[request.path.split("/")[-2], number]
        port = number.to_bytes(2, "little")
        await socket.send_bytes(b"\0" + port)
        await socket.send_bytes(b"\1" + port)
        async for message in socket:
            assert message.type is WSMsgType.BINARY
            assert message.data[:1] == b"\0"
            if error:
                await socket.send_bytes(b"\1" + error)
            elif answer is not None:
                await socket.send_bytes(b"\0" + answer[:5])
                await socket.send_bytes(b"\0" + answer[5:])
        return socket

    return forward


async def refusing(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"kind": "Status", "message": "no"}, status=403)


class World:
    """An API server with objects, by plural, and a kubelet; `refused` paths' ends are forbidden."""

    def __init__(self, forward: Forward | None = None, **lists: list[Json]) -> None:
        self.lists = {"memcacheds": [], "memcachedclusters": [], "pods": [], **lists}
        self.config: Json = obj("cache-proxy")
        self.forward = forward or forwarding({})
        self.refused: tuple[str, ...] = ()
        self.paths: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if request.path.endswith(self.refused):
            return await refusing(request)
        if request.path.endswith("/portforward"):
            return await self.forward(request)
        plural = request.path.rpartition("/")[2]
        if plural == "cache-proxy":
            return web.json_response(self.config)
        if plural not in self.lists:
            return web.json_response({"kind": "Status", "code": 404}, status=404)
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": self.lists[plural]})


POOLS = World(
    forwarding({("a-1", 11211): said(COUNTS), ("a-2", 11211): said(COUNTS), ("tls-1", 11213): said(COUNTS)}),
    memcacheds=[
        obj("tls", {**READY, "readyReplicas": 1, "replicas": 1, "serverList": ["tls.ns:11211"]}),
        obj("a", {**READY, "readyReplicas": 2}, spec={"replicas": 2}),
        obj("sasl", {**READY, "readyReplicas": 1, "replicas": 1}),
    ],
    pods=[
        pod("a-1", "memcached", "a", MEMCACHED),
        pod("a-2", "memcached", "a", MEMCACHED),
        pod("sasl-1", "memcached", "sasl", SASL),
        pod("tls-1", "memcached", "tls", TLS),
        pod("stray", "memcached", "deleted", MEMCACHED),
    ],
)


async def shown(
    world: World, monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None, **options: Any
) -> tuple[int, str]:
    out = io.StringIO()
    async with serving(world.answer) as server:

        async def connect(*_arguments: Any) -> Any:
            return plain(server.url)

        monkeypatch.setattr(command, "connect", connect)
        return await command.status(Options(**{"namespace": "ns", **options}), out, clock or Clock()), out.getvalue()


async def read_json(world: World, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    _, text = await shown(world, monkeypatch, as_json=True, **options)
    return msgspec.json.decode(text)


# --- what memcached says


def test_the_answer_to_stats_is_counted_over_all_commands() -> None:
    assert parse(said(COUNTS)) == (STATS, 100)


def test_an_answer_that_is_not_memcacheds_is_an_error() -> None:
    with pytest.raises(BadResponse, match="get_hits"):
        parse(b"STAT uptime 1\r\nEND\r\n")


def server(uptime: int = 100, uid: str = "1", **changes: int) -> Server:
    return Server(
        pod="a-1", uid=uid, ready=True, uptime_seconds=uptime, stats=msgspec.structs.replace(STATS, **changes)
    )


def test_between_two_looks_is_counted_what_one_run_of_a_server_did() -> None:
    now = server(uptime=102, requests=42, hits=14)
    assert since(server(), now) == Counted(requests=20, hits=5, misses=0, evictions=0)
    assert since(None, now) is None
    assert since(server(uid="2"), now) is None, "another pod of that name"
    assert since(server(uptime=103), now) is None, "restarted"
    assert since(server(misses=2), now) is None, "reset"
    assert since(msgspec.structs.replace(server(), stats=None), now) is None


def test_sums_are_over_those_that_answered() -> None:
    assert total(Stats, [None, STATS, STATS]) == Stats(
        **{name: 2 * getattr(STATS, name) for name in Stats.__struct_fields__}
    )
    assert total(Counted, [None]) is None


# --- what is read


async def test_every_pool_is_read_as_its_pods_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await read_json(POOLS, monkeypatch)
    assert report["problems"] == []
    a, sasl, tls = report["pools"]
    assert (a["name"], a["readyPods"], a["wantedPods"], a["state"]) == ("a", 2, 2, "Ready")
    assert a["stats"] == {
        "requests": 44,
        "hits": 18,
        "misses": 2,
        "evictions": 4,
        "items": 80,
        "usedBytes": 64 << 20,
        "limitBytes": 128 << 20,
        "connections": 6,
    }
    assert [(server["pod"], server["uptimeSeconds"], server["error"]) for server in a["pods"]] == [
        ("a-1", 100, ""),
        ("a-2", 100, ""),
    ]
    assert tls["stats"]["hits"] == 9
    assert tls["endpoint"] == "tls.ns:11211"
    assert sasl["stats"] is None
    assert sasl["pods"][0]["error"] == "demands a password (SASL), which memop does not read"


async def test_a_pod_that_does_not_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "POD_TIMEOUT", 0.2)
    world = World(
        forwarding({("a-1", 11211): None, ("a-2", 11211): said(COUNTS)}),
        memcacheds=[obj("a", READY)],
        pods=[
            pod("a-1", "memcached", "a", MEMCACHED),
            pod("a-2", "memcached", "a", MEMCACHED),
            pod("a-3", "memcached", "a", MEMCACHED, phase="Pending"),
        ],
    )
    [pool] = (await read_json(world, monkeypatch))["pools"]
    assert [server["error"] for server in pool["pods"]] == ["no answer within 0.2 s", "", "the pod is Pending"]
    assert pool["stats"]["items"] == 40
    assert not any("a-3" in path for path in world.paths)


async def test_few_pods_are_asked_at_once_and_all_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"a-{number}" for number in range(3 * read.ASKED_AT_ONCE)]
    answer = forwarding(dict.fromkeys(((name, 11211) for name in names), said(COUNTS)))
    at_once, most = 0, 0

    async def counting(request: web.Request) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        try:
            return await answer(request)
        finally:
            at_once -= 1

    world = World(
        counting, memcacheds=[obj("a", READY)], pods=[pod(name, "memcached", "a", MEMCACHED) for name in names]
    )
    [pool] = (await read_json(world, monkeypatch))["pools"]
    assert pool["stats"]["items"] == 40 * len(names)
    assert most == read.ASKED_AT_ONCE


async def test_who_may_not_ask_pods_sees_the_rest_and_which_right_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "ASKED_AT_ONCE", 1)
    world = World(refusing, memcacheds=POOLS.lists["memcacheds"], pods=POOLS.lists["pods"])
    code, text = await shown(world, monkeypatch, as_json=True)
    report = msgspec.json.decode(text)
    assert code == 0
    assert report["problems"] == [
        "you may not get and create pods/portforward in namespace ns; the ClusterRole memop-status grants it"
    ]
    assert [pool["stats"] for pool in report["pools"]] == [None, None, None]
    assert len([path for path in world.paths if path.endswith("/portforward")]) == 1, "refused once is enough"


async def test_without_stats_no_pod_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(refusing, memcacheds=POOLS.lists["memcacheds"], pods=POOLS.lists["pods"])
    report = await read_json(world, monkeypatch, stats=False)
    assert report["problems"] == []
    assert {server["error"] for pool in report["pools"] for server in pool["pods"]} == {""}


async def test_who_may_not_list_pods_sees_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(memcacheds=POOLS.lists["memcacheds"])
    world.refused = ("/pods",)
    report = await read_json(world, monkeypatch, namespace="")
    assert report["problems"] == [
        "you may not list pods in all namespaces (-n names one); the ClusterRole memop-status grants it"
    ]
    assert [pool["name"] for pool in report["pools"]] == ["a", "sasl", "tls"]


async def test_who_may_not_list_pools_is_told_what_grants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.refused = ("/memcacheds",)
    with pytest.raises(MemopError, match=r"list memcacheds\.memcached\.c5c3\.io in namespace ns.*memop-status"):
        await shown(world, monkeypatch)


async def test_an_api_server_without_the_definitions_is_an_error_that_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.lists.clear()
    with pytest.raises(MemopError, match="memop crds"):
        await shown(world, monkeypatch)


@pytest.mark.parametrize(
    ("status", "state", "ready"),
    [
        (READY, "Ready", True),
        ({}, "NotReady", False),
        ({**READY, "observedGeneration": 0}, "Pending", True),
        (conditions(Progressing=("Progressing", "1 of 2")), "Progressing", False),
        (conditions(Degraded=("SecretNotFound", "m"), Progressing=("Progressing", "n")), "SecretNotFound", False),
        (conditions(Ready=("X", ""), Paused=("Paused", "m"), Degraded=("Degraded", "n")), "Paused", True),
    ],
)
async def test_the_state_is_what_says_most(
    status: Json, state: str, ready: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = await shown(World(memcacheds=[obj("a", status)]), monkeypatch, as_json=True)
    [pool] = msgspec.json.decode(text)["pools"]
    assert (pool["state"], pool["ready"], code) == (state, ready, int(not ready))


async def test_a_pod_on_its_way_out_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = pod("a-1", "memcached", "a", SASL)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world = World(memcacheds=[obj("a", READY)], pods=[leaving, pod("a-2", "memcached", "a", SASL)])
    [pool] = (await read_json(world, monkeypatch))["pools"]
    assert [server["ready"] for server in pool["pods"]] == [False, True]


FILES = builtin.files(TOPOLOGY, Proxy())
ROUTES = mcrouter.files(TOPOLOGY, Proxy.model_validate({"mcrouter": {}}))
OWNER = {"apiVersion": "memcached.c5c3.io/v1alpha1", "kind": "MemcachedCluster", "name": "cache", "controller": True}
OWNED = {"ownerReferences": [OWNER]}
CONFIG_HASH = "memcached.c5c3.io/config-hash"


def cluster_world(files: dict[str, str], answer: bytes, started_with: str | None = None, error: bytes = b"") -> World:
    proxy = pod("cache-proxy-1", "memcached-proxy", "cache", PROXY)
    if started_with is not None:
        proxy["metadata"]["annotations"][CONFIG_HASH] = started_with
    told = {"shards": 1, "replicasPerShard": 2, "configHash": "abc", "endpoint": "cache.ns:11211"}
    world = World(
        forwarding({("cache-proxy-1", 5000): answer}, error=error),
        memcachedclusters=[obj("cache", {**READY, **told})],
        memcacheds=[
            obj(f"cache-r{copy}", {"readyReplicas": 1}, spec={"replicas": 1}, metadata=OWNED) for copy in range(2)
        ],
        pods=[proxy, pod("cache-r0-0", "memcached", "cache-r0", SASL)],
    )
    world.config = obj("cache-proxy", metadata={"annotations": {CONFIG_HASH: "abc"}}, data=files)
    return world


@pytest.mark.parametrize(
    ("world", "config", "error"),
    [
        (cluster_world(FILES, f"STAT user_config_{builtin.version(FILES)} 0\r\nEND\r\n".encode()), "current", ""),
        (cluster_world(FILES, b"STAT user_config_1 0\r\nEND\r\n"), "older", ""),
        (cluster_world(ROUTES, b"VALUE __mcrouter__.config_md5_digest 0 4\r\nabcd\r\nEND\r\n"), "older", ""),
        (cluster_world({}, b"", "abc"), "current", ""),
        (cluster_world({}, b"", "abd"), "older", ""),
        (cluster_world(FILES, b"", error=b"no such pod"), "unknown", "no such pod"),
        (
            cluster_world(FILES, b"", error=b"in netns /x: dial tcp4: connect: connection refused IPv6 dial: none"),
            "unknown",
            "nothing listens on port 5000",
        ),
    ],
)
async def test_each_proxy_says_by_itself_whether_it_has_the_configuration(
    world: World, config: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [cluster] = (await read_json(world, monkeypatch))["clusters"]
    assert cluster["proxies"] == [{"pod": "cache-proxy-1", "ready": True, "config": config, "error": error}]


async def test_a_cluster_is_the_sum_of_its_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    world = cluster_world({}, b"", "abc")
    world.forward = forwarding({("cache-r0-0", 11211): said(COUNTS), ("cache-r1-0", 11211): said(COUNTS)})
    world.lists["pods"] = [pod(f"cache-r{copy}-0", "memcached", f"cache-r{copy}", MEMCACHED) for copy in range(2)]
    report = await read_json(world, monkeypatch)
    [cluster] = report["clusters"]
    assert (cluster["readyPods"], cluster["wantedPods"], cluster["stats"]["hits"]) == (2, 2, 18)
    assert (cluster["shards"], cluster["replicasPerShard"], cluster["configHash"]) == (1, 2, "abc")
    assert [pool["cluster"] for pool in report["pools"]] == ["cache", "cache"]


async def test_what_others_control_is_no_copy_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner in ({**OWNER, "controller": False}, {**OWNER, "apiVersion": "ianlewis.org/v1alpha1"}):
        world = World(memcacheds=[obj("a", metadata={"ownerReferences": [owner]})])
        assert (await read_json(world, monkeypatch))["pools"][0]["cluster"] == ""


async def test_who_may_not_read_config_maps_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    world = cluster_world(FILES, b"")
    world.refused = ("/cache-proxy",)
    report = await read_json(world, monkeypatch)
    assert report["problems"] == ["you may not get configmaps in namespace ns; the ClusterRole memop-status grants it"]
    assert report["clusters"][0]["proxies"][0]["config"] == "unknown"


# --- what people see


def table(report: Report, width: int = 200, namespace: str = "ns", **options: Any) -> list[list[str]]:
    """The lines' words."""
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(Overview(report, namespace, **options))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return [line.split() for line in lines]


async def test_the_table_has_a_line_for_each_pool_and_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = await shown(POOLS, monkeypatch)
    assert code == 0
    *lines, note = text.splitlines()
    assert note == "ns/sasl: 1 of 1 pods not read: demands a password (SASL), which memop does not read"
    assert [line.split() for line in lines] == [
        ["NAME", "KIND", "STATE", "PODS", "MEMORY", "USED", "HITS", "ITEMS", "EVICTED", "CONNECTIONS"],
        ["a", "pool", "Ready", "2/2", "█████░░░░░", "64/128", "MiB", "90.0%", "80", "4", "6"],
        ["sasl", "pool", "Ready", "1/1", "-", "-", "-", "-", "-"],
        ["tls", "pool", "Ready", "1/1", "█████░░░░░", "32/64", "MiB", "90.0%", "40", "2", "3"],
        [],
    ]


async def test_an_empty_namespace_is_said_to_be_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await shown(World(), monkeypatch) == (0, "no Memcached and no MemcachedCluster in ns\n")


def state(name: str, *, pods: int = 1, message: str = "", state: str = "Ready") -> Json:
    ready = {"ready": state == "Ready", "ready_pods": pods, "wanted_pods": 1, "endpoint": ""}
    return {"namespace": "ns", "name": name, "state": state, "message": message, **ready}


def report(seconds: float | None = None, since_last: Counted | None = None) -> Report:
    seat = msgspec.structs.replace(server(), since_last=since_last)
    figures: Json = {"stats": STATS, "since_last": since_last}
    proxy = msgspec.convert({"pod": "cache-proxy-1", "ready": False, "config": "older"}, ProxyPod)
    return Report(
        time="2026-01-01T00:00:00Z",
        seconds=seconds,
        pools=[
            Pool(**state("b", pods=0, state="ObjectConflict", message="whose?"), **figures, cluster="", pods=[seat]),
            Pool(**state("cache-r0", message="too"), **figures, cluster="cache", pods=[seat]),
        ],
        clusters=[
            Cluster(**state("cache"), **figures, shards=1, replicas_per_shard=1, config_hash="", proxies=[proxy])
        ],
        problems=[],
    )


def test_copies_are_part_of_their_cluster_and_troubles_stand_below() -> None:
    lines = table(report(), namespace="")
    assert [line[:4] for line in lines[1:3]] == [
        ["ns/b", "pool", "ObjectConflict", "0/1"],
        ["ns/cache", "cluster", "1x1", "Ready"],
    ]
    assert lines[2][4:6] == ["1/1", "0/1"]
    assert [" ".join(line) for line in lines[3:]] == [
        "",
        "ns/b: whose?",
        "ns/cache: 1 of 1 proxies have an older configuration",
    ]


def test_a_copy_whose_cluster_is_not_there_stands_for_itself() -> None:
    lines = table(msgspec.structs.replace(report(), clusters=[]))
    assert [line[:2] for line in lines[1:3]] == [["b", "pool"], ["cache-r0", "pool"]]


def test_with_pods_each_server_and_proxy_has_a_line() -> None:
    lines = table(report(), pods=True)
    assert [line[:2] for line in lines[1:6]] == [
        ["b", "pool"],
        ["a-1", "server"],
        ["cache", "cluster"],
        ["a-1", "server"],
        ["cache-proxy-1", "proxy"],
    ]
    assert lines[5][2:4] == ["NotReady", "older"]


def test_watching_shows_what_came_since_the_last_look() -> None:
    lines = table(report(2.0, Counted(requests=3000, hits=1, misses=3, evictions=5)), watched=True)
    assert lines[0][-6:] == ["USED", "HITS", "REQ/S", "ITEMS", "EVICTED/S", "CONNECTIONS"]
    assert lines[1][-5:] == ["25.0%", "1.5k", "40", "2.5", "3"]
    assert table(report(), watched=True)[0][-3:] == ["USED", "ITEMS", "CONNECTIONS"], "the first look has no rates"


def test_what_is_not_known_of_one_is_a_dash_and_what_is_known_of_none_no_column() -> None:
    known, unknown = report().pools[0], report().pools[1]
    unknown = msgspec.structs.replace(unknown, cluster="", stats=None)
    lines = table(msgspec.structs.replace(report(), pools=[known, unknown], clusters=[]))
    assert lines[2] == ["cache-r0", "pool", "Ready", "1/1", "-", "-", "-", "-", "-"]
    lines = table(msgspec.structs.replace(report(), pools=[unknown], clusters=[]))
    assert lines[0] == ["NAME", "KIND", "STATE", "PODS"]


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (
            120,
            ["NAME", "KIND", "STATE", "PODS", "PROXIES", "MEMORY", "USED", "HITS", "ITEMS", "EVICTED", "CONNECTIONS"],
        ),
        (80, ["NAME", "STATE", "PODS", "PROXIES", "USED", "HITS", "ITEMS", "EVICTED"]),
        (40, ["NAME", "STATE", "PODS", "HITS"]),
    ],
)
def test_a_narrow_terminal_goes_without_the_less_important(width: int, columns: list[str]) -> None:
    assert table(msgspec.structs.replace(report(), problems=[]), width)[0] == columns


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed() -> str:
        console = Console(file=io.StringIO(), width=200, force_terminal=True, legacy_windows=False)
        console.print(Overview(report(), "ns"))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mObjectConflict" in printed()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed()


# --- looking again and again


class Looks(Clock):
    """Lets `count` sleeps pass at once, with what `between` does; then comes Ctrl-C."""

    def __init__(self, count: int, between: Callable[[], None]) -> None:
        self._left = count
        self._between = between
        self.ahead = 0.0

    def monotonic(self) -> float:
        return self.ahead

    async def sleep(self, seconds: float) -> None:
        if not self._left:
            raise asyncio.CancelledError
        self._left -= 1
        self.ahead += seconds
        self._between()


async def test_watching_ends_by_ctrl_c_with_the_code_of_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(
        forwarding({("a-1", 11211): said(COUNTS)}),
        memcacheds=[obj("a", READY)],
        pods=[pod("a-1", "memcached", "a", MEMCACHED)],
    )

    def change() -> None:
        world.lists["memcacheds"] = [obj("a")]
        world.forward = forwarding({("a-1", 11211): said({**COUNTS, "cmd_set": 9})})

    code, text = await shown(world, monkeypatch, Looks(1, change), as_json=True, watch=4.0)
    first, second = map(msgspec.json.decode, text.splitlines())
    assert (first["seconds"], first["pools"][0]["sinceLast"]) == (None, None)
    assert second["seconds"] == 4.0
    assert second["pools"][0]["sinceLast"] == {"requests": 4, "hits": 0, "misses": 0, "evictions": 0}
    assert code == 1


async def test_watching_outlives_an_api_server_that_is_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(memcacheds=[obj("a", READY)])
    lists = dict(world.lists)
    answer = world.answer

    async def failing(request: web.Request) -> web.StreamResponse:
        return await answer(request) if world.lists else web.json_response({"message": "away"}, status=500)

    world.answer = failing  # type: ignore[method-assign]

    def change() -> None:
        world.lists = {} if world.lists else lists

    code, text = await shown(world, monkeypatch, Looks(2, change), as_json=True, watch=4.0)
    _, away, back = map(msgspec.json.decode, text.splitlines())
    assert "away" in away["error"]
    assert back["pools"][0]["name"] == "a"
    assert code == 0
    world.lists = lists
    _, text = await shown(world, monkeypatch, Looks(1, change), watch=4.0)
    assert text.count("NAME") == 2, "the last table stays"
    assert text.rstrip().endswith("away")


async def test_progress_is_shown_on_a_terminal_once_it_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PATIENCE", 0.05)
    reader = read.Reader(client("http://127.0.0.1:1"), Clock(), "ns")
    reader.pods, reader.begun = 60, 12
    for terminal, expected in ((True, "asking pod 12 of 60"), (False, "")):
        console = Console(file=io.StringIO(), width=80, force_terminal=terminal, legacy_windows=False)
        async with command._progress(reader, console):
            await asyncio.sleep(0.3)
        assert isinstance(console.file, io.StringIO)
        assert expected in console.file.getvalue()
        assert bool(console.file.getvalue()) is terminal


# --- the command line


def test_the_plugin_calls_itself_as_kubectl_users_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-memop", "status", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.kubectl_plugin()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: kubectl memop status [-h]")


@pytest.mark.parametrize("flags", [["-n", "x", "-A"], ["--watch", "0"], ["--watch", "nan"], ["--watch", "soon"]])
def test_flags_that_make_no_sense_are_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["status", *flags])
    assert ended.value.code == 2


def test_without_a_kubeconfig_the_error_says_what_to_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert cli.main(["status", "--kubeconfig", "/nowhere/config"]) == 2
    assert "--kubeconfig FILE" in capsys.readouterr().err


def test_the_operator_does_without_what_the_table_needs() -> None:
    code = (
        "import sys; sys.modules['rich'] = None; import memop.cli, memop.app; sys.exit('memop.status' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    piped = f"{sys.executable} -m memop.cli crds | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("1\n", "")


# --- the client's part


async def test_a_forward_that_is_refused_or_cut_is_an_error_of_ours() -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        await socket.close()
        return socket

    async def ask(api: Client) -> bytes:
        async with api.port_forward(Key("ns", "cache-proxy-1"), 11211) as forwarded:
            return await forwarded.ask(b"version\r\n", b"\r\n")

    for answer, error in ((refusing, Forbidden), (hang_up, Unreachable)):
        async with serving(answer) as server, client(server.url) as api:
            with pytest.raises(error):
                await ask(api)
    assert server.seen[0].path == "/api/v1/namespaces/ns/pods/cache-proxy-1/portforward"
    assert server.seen[0].query == {"ports": "11211"}
