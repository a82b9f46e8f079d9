"""mcrouter itself is not to be had for these tests: the shapes are checked against what is known of it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from memop.reconcilers.cluster import mcrouter
from tests.unit.reconcilers.cluster.proxies import POLICIES, SHAPES, golden, pool, proxy

READS = {"get", "gets", "gat", "gats", "lease-get", "metaget"}
READ_ROUTES = {"failover": "MissFailoverRoute", "random": "RandomRoute", "latest": "LatestRoute"}
WRITE_ROUTES = {"fastest": "AllFastestRoute", "all": "AllSyncRoute"}
CASES = [
    (shape, read, write)
    for shape, (_, copies) in SHAPES.items()
    for read, write in (POLICIES if copies > 1 else POLICIES[:1])
]


def config(shape: str, **spec: Any) -> Any:
    return json.loads(mcrouter.files(pool(*SHAPES[shape]), proxy(mcrouter={}, **spec))["config.json"])


def check(built: Any) -> None:
    """Everything that mcrouter would find: no field, route, or pool that it does not know."""
    assert built.keys() == {"pools", "route"}
    for declared in built["pools"].values():
        assert declared.keys() == {"servers"}
        assert all(server.rpartition(":")[2].isdecimal() for server in declared["servers"])
    check_route(built["route"], built["pools"])


def check_route(route: Any, pools: Any) -> None:
    if isinstance(route, str):
        kind, _, argument = route.partition("|")
        assert kind in {"PoolRoute", "ErrorRoute"}
        assert kind != "PoolRoute" or argument in pools
        assert argument
        return
    if route["type"] == "OperationSelectorRoute":
        assert route.keys() == {"type", "default_policy", "operation_policies"}, "without a default: empty replies"
        assert route["operation_policies"].keys() == READS | {"cas"}
        check_route(route["default_policy"], pools)
        for policy in route["operation_policies"].values():
            check_route(policy, pools)
        return
    assert route.keys() == {"type", "children"}
    assert route["type"] in {*READ_ROUTES.values(), *WRITE_ROUTES.values()}
    assert route["children"] == [f"PoolRoute|{name}" for name in pools], "every copy, in order"
    for child in route["children"]:
        check_route(child, pools)


@pytest.mark.parametrize(("shape", "read", "write"), CASES)
def test_the_configuration_is_the_golden_one_and_of_known_shapes(shape: str, read: str, write: str) -> None:
    suffix = f"-{read}-{write}" if SHAPES[shape][1] > 1 else ""
    spec = {"readPolicy": read, "writePolicy": write}
    check(config(shape, **spec))
    golden(
        f"mcrouter/{shape}{suffix}.json",
        mcrouter.files(pool(*SHAPES[shape]), proxy(mcrouter={}, **spec))["config.json"],
    )


@pytest.mark.parametrize(("read", "write"), POLICIES)
def test_every_read_goes_by_the_read_policy_and_all_else_by_the_write_policy(read: str, write: str) -> None:
    route = config("2x2", readPolicy=read, writePolicy=write)["route"]
    assert {route["operation_policies"][operation]["type"] for operation in READS} == {READ_ROUTES[read]}
    assert route["default_policy"]["type"] == WRITE_ROUTES[write]


def test_cas_is_an_error_where_its_ids_differ_between_copies() -> None:
    assert config("2x2")["route"]["operation_policies"]["cas"].startswith("ErrorRoute|")
    assert config("5x1")["route"] == "PoolRoute|r0"


def test_places_follow_the_topology() -> None:
    built = json.loads(mcrouter.files(pool(12, 2), proxy(mcrouter={}))["config.json"])
    assert built["pools"] == {
        f"r{copy}": {"servers": [f"cache-r{copy}-{shard}.shop.svc.cluster.local:11211" for shard in range(12)]}
        for copy in range(2)
    }


def test_with_tls_every_server_is_asked_over_it() -> None:
    built = json.loads(mcrouter.files(replace(pool(2, 1), tls=True), proxy(mcrouter={}))["config.json"])
    servers = [f"cache-r0-{shard}.shop.svc.cluster.local:11211:ascii:ssl" for shard in range(2)]
    assert built["pools"] == {"r0": {"servers": servers}}


def test_a_fifo_root_gets_a_volume_of_its_own() -> None:
    given = proxy(mcrouter={"debugFifoRoot": "/tmp/fifos"})  # noqa: S108 - a path in the container
    built = mcrouter.container(given, "image")
    assert "--debug-fifo-root=/tmp/fifos" in built["command"]
    assert {"name": "debug-fifos", "mountPath": "/tmp/fifos"} in built["volumeMounts"]  # noqa: S108
    assert {"name": "debug-fifos", "emptyDir": {}} in mcrouter.volumes(given)
    assert not any("fifo" in str(part) for part in mcrouter.container(proxy(mcrouter={}), "image")["command"])


def test_mcrouter_writes_nowhere_but_to_scratch() -> None:
    mounts = {mount["mountPath"] for mount in mcrouter.container(proxy(mcrouter={}), "image")["volumeMounts"]}
    assert mounts == {"/etc/proxy", "/var/mcrouter/stats", "/var/spool/mcrouter"}
    command = mcrouter.container(proxy(mcrouter={}), "image")["command"]
    assert {"--config=file:/etc/proxy/config.json", "--config-dump-root=", "--asynclog-disable"} <= set(command)
