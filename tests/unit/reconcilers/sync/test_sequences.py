"""Whatever happens, in whatever order: in the end the size is the one source's, and nothing more is written."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.reconcilers.sync.world import Json, Memop, Server
from tests.unit.virtual_time import VirtualClock, VirtualTimeLoop

POOLS = ("cache", "other")
PAUSED = {"memcached.c5c3.io/paused": "true"}
Step = tuple[Any, ...]

names = st.sampled_from(("web", "api", *POOLS))
pools = st.sampled_from(POOLS)
kinds = st.sampled_from(("Deployment", "StatefulSet"))
sizes = st.sampled_from((0, 1, 2, 5, 64, 65, 100))
bounds = st.sampled_from(({}, {"min": 2}, {"max": 4}, {"min": 1, "max": 3}))
steps = st.one_of(
    st.tuples(st.just("workload"), kinds, names, sizes, st.sampled_from(("", *POOLS))),
    st.tuples(st.just("label"), names, st.sampled_from(("", *POOLS))),
    st.tuples(st.just("gone"), kinds, names),
    st.tuples(st.just("going"), kinds, names),
    st.tuples(st.just("size"), pools, sizes.filter(lambda size: size <= 64)),
    st.tuples(st.just("follow"), pools, kinds, names, bounds),
    st.tuples(st.just("follow nothing"), pools),
    st.tuples(st.just("autoscale"), pools),
    st.tuples(st.just("pause"), pools, st.booleans()),
    st.tuples(st.just("image"), pools, st.sampled_from(("a", "b"))),
    st.tuples(st.just("pool again"), pools),
    st.tuples(st.just("watches break")),
    st.tuples(st.just("a moment"), st.sampled_from((0.0, 0.001, 0.1, 1.0))),
    st.tuples(st.just("look")),
    st.tuples(st.just("look")),
)


def owner(kind: str, name: str) -> Json:
    """The workload of a pool, of the kind that it has, is its own."""
    if (kind, name) not in {("Deployment", pool) for pool in POOLS}:
        return {}
    reference = {"apiVersion": "memcached.c5c3.io/v1beta1", "kind": "Memcached", "name": name, "uid": name}
    return {"ownerReferences": [{**reference, "controller": True}]}


def happen(server: Server, step: Step) -> None:
    match step:
        case ("watches break",):
            for kind in ("Memcached", "Deployment", "StatefulSet"):
                server.hang_up(kind)
        case "workload" | "label" | "gone" | "going", *_:
            happen_to_workload(server, step)
        case _:
            happen_to_pool(server, step)


def happen_to_workload(server: Server, step: Step) -> None:
    match step:
        case "workload", kind, name, size, feeds:
            server.workload(name, size, feeds, kind, **owner(kind, name))
        case "label", name, feeds if ("Deployment", name) in server.objects:
            size = server.objects["Deployment", name]["spec"]["replicas"]
            server.workload(name, size, feeds, **owner("Deployment", name))
        case "gone", kind, name:
            server.drop(kind, name)
        case "going", kind, name if (kind, name) in server.objects:
            body = server.objects[kind, name]
            server.put(kind, name, body["spec"], deletionTimestamp="2026-01-01T00:00:00Z")


def happen_to_pool(server: Server, step: Step) -> None:
    match step:
        case "size", pool, size if not autoscaled(server, pool):
            server.change("Memcached", pool, replicas=size)
        case "follow", pool, kind, name, bounds:
            server.change("Memcached", pool, replicasFrom={"kind": kind, "name": name, **bounds}, autoscaling=None)
        case "follow nothing", pool:
            server.change("Memcached", pool, replicasFrom=None, autoscaling=None)
        case "autoscale", pool:
            on = {"enabled": True, "maxReplicas": 3}
            server.change("Memcached", pool, replicas=None, replicasFrom=None, autoscaling=on)
        case "pause", pool, paused:
            server.put("Memcached", pool, server.get(pool)["spec"], annotations=PAUSED if paused else {})
        case "image", pool, image:
            server.change("Memcached", pool, image=image)
        case "pool again", pool:
            server.put("Memcached", pool, {"replicas": 1}, anew=True, annotations={})


def autoscaled(server: Server, pool: str) -> bool:
    return "autoscaling" in server.get(pool)["spec"]


def sources(server: Server, pool: str) -> list[Json]:
    """What is to give the pool its size, as its documentation says."""
    follow = server.get(pool)["spec"].get("replicasFrom")
    if follow:
        found = [server.objects.get((follow["kind"], follow["name"]))]
    else:
        deployments = [body for (kind, _), body in server.objects.items() if kind == "Deployment"]
        found = [body for body in deployments if pool in body["metadata"]["labels"].values()]
    return [body for body in found if body and "deletionTimestamp" not in body["metadata"]]


def in_a_circle(server: Server, pool: str) -> bool:
    at, passed = pool, set()
    while at not in passed:
        passed.add(at)
        found = [] if autoscaled(server, at) else sources(server, at)
        if len(found) != 1 or "ownerReferences" not in found[0]["metadata"]:
            return False
        at = found[0]["metadata"]["name"]
        if at == pool:
            return True
    return False


def expected(server: Server, pool: str) -> tuple[int | None, set[str | None]]:
    """The size, None where it stays; and the reasons that the status may give."""
    cr, found = server.get(pool), sources(server, pool)
    follow = cr["spec"].get("replicasFrom")
    if autoscaled(server, pool):
        return None, {"Autoscaled"} if found else {None}
    if len(found) > 1:
        return None, {"ConflictingSources"}
    if not found:
        return None, {"SourceNotFound"} if follow else {"SourceNotFound", None}
    if in_a_circle(server, pool):
        return None, {"FollowsItself"}
    least, most = (follow or {}).get("min", 0), (follow or {}).get("max", 64)
    asked = found[0]["spec"]["replicas"]
    size = max(least, min(asked, most))
    if cr["metadata"]["annotations"] and cr["spec"].get("replicas") != size:
        return None, {"Paused"}
    return size, {"Synced" if size == asked else "Clamped"}


def check(server: Server, before: dict[str, int | None]) -> None:
    """`before`: the sizes when the last thing had happened; empty where memop has had a moment to act since."""
    for pool in POOLS:
        size, reasons = expected(server, pool)
        condition = server.condition(pool)
        assert (None if condition is None else condition[1]) in reasons, (pool, server.get(pool))
        assert condition is None or (condition[0] == "True") is (condition[1] in ("Synced", "Clamped"))
        if size is not None:
            assert server.size(pool) == size
        elif before:
            assert server.size(pool) == before[pool]


async def play(script: list[Step], clock: VirtualClock) -> None:
    server = Server()
    for pool in POOLS:
        server.pool(pool, replicas=2)
        server.workload(pool, 2, **owner("Deployment", pool))
    async with Memop(server, clock).running() as memop:
        still = True  # memop has had no time since it was settled
        for step in script:
            before = {pool: server.size(pool) for pool in POOLS} if still else {}
            match step:
                case ("look",):
                    await long(memop)
                    check(server, before)
                    still = True
                case "a moment", seconds:
                    await asyncio.sleep(seconds)
                    still = False
                case _:
                    happen(server, step)
        await long(memop)
        check(server, {})
        server.writes.clear()
        for kind in ("Memcached", "Deployment", "StatefulSet"):
            server.hang_up(kind)
        await long(memop)
        assert server.writes == []
    async with Memop(server, clock).running() as restarted:
        await long(restarted)
        assert (server.writes, restarted.events) == ([], [])
        check(server, {})


async def long(memop: Memop) -> None:
    """Long enough for watches to come back."""
    for _ in range(20):
        await memop.settled()


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_happens_the_size_is_the_one_sources_and_then_all_is_quiet(script: list[Step]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play(script, VirtualClock()))
