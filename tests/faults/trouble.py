"""What can go wrong between memop and the API server: faults of single requests, and of watches under way.

An `Arm` makes the rules of one run. A fault of a watch strikes in its midst, at the first event of a given step, which
it keeps to itself.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.harness import Stage
from tests.support.kubectl import Json
from tests.support.proxy import Exchange, Fault, Match, Reply, Request, Rule, refusal

Arm = Callable[[Stage], list[Rule]]
ALWAYS = 1 << 30  # times
JSON = {"Content-Type": "application/json"}
PAGE = Reply(200, b"<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"})
# Of some resources memop has several caches: a part of the label selector that tells them apart, "" for none at all.
CACHES = {
    "memcacheds": ("memcacheds", ""),
    "pools": ("memcacheds", "memcached-cluster"),
    "deployments": ("deployments", "app.kubernetes.io/managed-by"),
    "memcachedclusters": ("memcachedclusters", ""),
    "compat-clusters": ("memcachedclusters", "app.kubernetes.io/component"),
}


@dataclass(frozen=True, slots=True)
class Reads:
    """The lists or watches of one of memop's caches: a name in `CACHES`, or the resource where it has just one."""

    verb: str
    cache: str

    def __call__(self, request: Request) -> bool:
        resource, part = CACHES.get(self.cache, (self.cache, None))
        if (request.verb, request.resource) != (self.verb, resource):
            return False
        selector = request.query.get("labelSelector", "")
        return part is None or (part in selector if part else not selector)


def on(match: Callable[[Request], bool], fault: Fault, *steps: str, nth: int = 1, times: int = 1) -> Arm:
    """One rule; with `steps` for requests in these alone."""
    return lambda stage: [Rule(stage.during(*steps, match=match) if steps else match, fault, nth, times)]


def both(*arms: Arm) -> Arm:
    return lambda stage: [rule for arm in arms for rule in arm(stage)]


# --- Single requests --------------------------------------------------------------------------------------------


def says(code: int, reason: str, *, retry_after: int | None = None) -> Fault:
    """A refusal; the API server does not hear of the request."""
    return replies(refusal(code, reason, retry_after=retry_after))


def replies(reply: Reply) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await exchange.answer(reply)

    return fault


async def unsent(exchange: Exchange) -> None:
    """The connection breaks, and the API server has not heard of the request."""
    exchange.reset()


async def unheard(exchange: Exchange) -> None:
    """The API server acts, and the connection breaks before its answer."""
    await exchange.forward()
    exchange.reset()


async def unanswered(exchange: Exchange) -> None:
    """The API server acts; the connection stays, and nothing ever comes of it."""
    await exchange.forward()
    await asyncio.Event().wait()


async def ignored(exchange: Exchange) -> None:
    """The API server does not hear of the request, and nothing ever comes of it."""
    await asyncio.Event().wait()


def late(seconds: float) -> Fault:
    """The request takes long to arrive."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await exchange.relay()

    return fault


def answered_late(seconds: float) -> Fault:
    """The API server acts, watches tell of it, and then comes the answer."""

    async def fault(exchange: Exchange) -> None:
        reply = await exchange.forward()
        await asyncio.sleep(seconds)
        await exchange.answer(reply)

    return fault


async def cut_short(exchange: Exchange) -> None:
    """Half an answer that says it is one: the connection breaks."""
    reply = await exchange.forward()
    await exchange.answer_partly(reply, len(reply.body) // 2)


async def half(exchange: Exchange) -> None:
    """Half an answer that says it is whole."""
    reply = await exchange.forward()
    await exchange.answer(Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers))


async def first_half_of_a_list(exchange: Exchange) -> None:
    """A page without any object, and a token for more."""
    page = json.loads((await exchange.forward()).body)
    page["items"], page["metadata"]["continue"] = [], "more"
    await exchange.answer(Reply(200, json.dumps(page).encode(), JSON))


async def second_half_of_a_list(exchange: Exchange) -> None:
    """What follows on `first_half_of_a_list`: the API server, which gave no such token, is asked for everything."""
    await exchange.answer(Reply(200, await exchange.newest(), JSON))


def continued(request: Request) -> bool:
    return "continue" in request.query


def probes(request: Request) -> bool:
    """What is the newest version? Asked before a watch goes on."""
    return request.verb == "list" and request.query.get("limit") == "1"


def first_page(match: Callable[[Request], bool]) -> Callable[[Request], bool]:
    return lambda request: match(request) and not continued(request)


class OldLists:
    """Answers `times` lists of a cache as the `nth` was answered, from the one after it on."""

    def __init__(self, cache: str, *, nth: int = 1, times: int = 2) -> None:
        self._match = Reads("list", cache)
        self._nth = nth
        self._times = times
        self._old: Reply | None = None

    def arm(self, _: Stage) -> list[Rule]:
        # The second rule sees all but the one that the first took.
        return [
            Rule(self._match, self._remember, nth=self._nth),
            Rule(self._match, self._repeat, nth=self._nth, times=self._times),
        ]

    async def _remember(self, exchange: Exchange) -> None:
        self._old = await exchange.forward()
        await exchange.answer(self._old)

    async def _repeat(self, exchange: Exchange) -> None:
        assert self._old is not None
        await exchange.answer(self._old)


class TokenChange:
    """At a write of the step the API server takes a new token only; memop's file has it `seconds` later."""

    def __init__(self, step: str, seconds: float) -> None:
        self._step = step
        self._seconds = seconds

    def arm(self, stage: Stage) -> list[Rule]:
        return [Rule(stage.during(self._step, match=Match("apply", "deployments")), self._change)]

    async def _change(self, exchange: Exchange) -> None:
        exchange.proxy.token = "second"  # noqa: S105 - nobody's
        if not self._seconds:
            exchange.proxy.token_file.write_text("second\n")
        await exchange.answer(refusal(401, "Unauthorized"))
        if self._seconds:
            await asyncio.sleep(self._seconds)
            exchange.proxy.token_file.write_text("second\n")


# --- memop itself -----------------------------------------------------------------------------------------------

Moment = Literal["before its answer", "after its answer"]
MOMENTS: tuple[Moment, ...] = ("before its answer", "after its answer")
REACTION = 0.05  # seconds in which memop makes of an answer what it will, before it is killed


def crash(stage: Stage, moment: Moment) -> Fault:
    """Let the write happen, and kill; whatever else this process has sent or will send comes to nothing."""

    async def fault(exchange: Exchange) -> None:
        reply = await exchange.forward()
        nothing = Rule(Match(), unsent, times=ALWAYS)
        stage.proxy.rules.insert(0, nothing)
        if moment == "after its answer":
            await exchange.answer(reply)
            await asyncio.sleep(REACTION)
        await asyncio.to_thread(stage.operator.kill)
        stage.proxy.rules.remove(nothing)
        await asyncio.to_thread(stage.operator.start, ready=False)

    return fault


# --- Watches ----------------------------------------------------------------------------------------------------

Strike = Callable[[Exchange, bytes, AsyncIterator[bytes]], Awaitable[None]]
"""Takes over a watch under way: at an event that memop has not got, with those to come."""


@dataclass(slots=True)
class Struck:
    """Relays the watches of a cache until the first event of each step ("" is any), where `strike` takes over."""

    stage: Stage
    strike: Strike
    steps: tuple[str, ...]
    times: dict[str, float] = field(default_factory=dict)  # step -> time.monotonic() of the strike

    async def __call__(self, exchange: Exchange) -> None:
        async with exchange.events() as events:
            await exchange.send(b"")
            async for line in events:
                step = self.stage.step if "" not in self.steps else ""
                if step in self.steps and step not in self.times and not _bookmark(line):
                    self.times[step] = time.monotonic()
                    await self.strike(exchange, line, events)
                    break
                await exchange.send(line)
            await exchange.finish()


def struck(cache: str, strike: Strike, *steps: str) -> Arm:
    """`strike` in the watch of `cache` that runs when the step comes; in each of several."""
    return lambda stage: [Rule(Reads("watch", cache), Struck(stage, strike, steps or ("",)), times=ALWAYS)]


def tells(event: Json) -> Strike:
    """An event instead of the API server's, and the end."""

    async def strike(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
        await exchange.send(_line(event))

    return strike


def error(code: int, reason: str) -> Json:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "says the fault proxy"}
    return {"type": "ERROR", "object": {**status, "reason": reason, "code": code}}


GONE = tells(error(410, "Expired"))


async def ends(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """Properly, but for the event that is not told."""


async def breaks(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """Before an event."""
    exchange.reset()


async def breaks_within(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """Half an event, and the connection breaks."""
    await exchange.send(line[: len(line) // 2])
    exchange.reset()


async def ends_within(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """Half an event, and the proper end."""
    await exchange.send(line[: len(line) // 2])


async def falls_silent(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """The connection stays, and nothing more comes by it."""
    await asyncio.Event().wait()


async def falls_behind(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """Loses what happens in 2 s, and ends as the API server ends the watch of who reads too slowly."""
    try:
        async with asyncio.timeout(2):
            async for _ in events:
                continue
    except TimeoutError:
        await exchange.send(_line(error(410, "Expired")))


def padded(size: int) -> Strike:
    """The event, with an annotation of `size` bytes."""

    async def strike(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
        event = json.loads(line)
        event["object"]["metadata"].setdefault("annotations", {})["padding"] = "x" * size
        await exchange.send(_line(event))
        await exchange.stream(events)

    return strike


async def unknown_first(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """An event of a type that nobody knows, and then everything as ever."""
    await exchange.send(_line({"type": "SURPRISE", "object": json.loads(line)["object"]}))
    await exchange.send(line)
    await exchange.stream(events)


def each(change: Callable[[Exchange, bytes, dict[str, bytes]], Awaitable[None]]) -> Strike:
    """`change` sends something for each event; it is given the events before, by the object's name."""

    async def strike(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
        before: dict[str, bytes] = {}
        await change(exchange, line, before)
        before[_name(line)] = line
        async for later in events:
            await change(exchange, later, before)
            before[_name(later)] = later

    return strike


async def _twice(exchange: Exchange, line: bytes, before: dict[str, bytes]) -> None:
    await exchange.send(line)
    await exchange.send(line)


async def _then_the_one_before(exchange: Exchange, line: bytes, before: dict[str, bytes]) -> None:
    await exchange.send(line)
    await exchange.send(before.get(_name(line), b""))


async def _late(exchange: Exchange, line: bytes, before: dict[str, bytes]) -> None:
    await asyncio.sleep(1)
    await exchange.send(line)


TWICE, THEN_THE_ONE_BEFORE, LATE = each(_twice), each(_then_the_one_before), each(_late)


async def coalesced(exchange: Exchange, line: bytes, events: AsyncIterator[bytes]) -> None:
    """Of what happens to an object within 3 s only the outcome, as MODIFIED where it was there before."""
    first = {_name(line): json.loads(line)["type"]}
    last = {_name(line): line}
    try:
        async with asyncio.timeout(3):
            async for later in events:
                first.setdefault(_name(later), json.loads(later)["type"])
                last[_name(later)] = later
    except TimeoutError:
        pass
    for name, told in last.items():
        event = json.loads(told)
        if event["type"] == "ADDED" and first[name] != "ADDED":
            event["type"] = "MODIFIED"
        await exchange.send(_line(event))


async def only_a_bookmark(exchange: Exchange) -> None:
    """A watch that tells of no object: up to here there was none, and ends a while later."""
    newest = json.loads(await exchange.newest())["metadata"]["resourceVersion"]
    bookmark = {"type": "BOOKMARK", "object": {"kind": "", "metadata": {"resourceVersion": newest}}}
    await exchange.send(_line(bookmark))
    await asyncio.sleep(1.5)
    await exchange.finish()


async def empty(exchange: Exchange) -> None:
    """A watch that ends at once, politely."""
    await exchange.send(b"")
    await exchange.finish()


def _line(event: Json) -> bytes:
    return json.dumps(event).encode() + b"\n"


def _bookmark(line: bytes) -> bool:
    return b'"BOOKMARK"' in line[:40]


def _name(line: bytes) -> str:
    return str(json.loads(line)["object"]["metadata"].get("name", ""))
