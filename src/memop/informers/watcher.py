"""List, then watch, for as long as it takes: an explicit state machine after kube-rs' `watcher.rs`.

    Empty ──→ Listing ──last page──→ Watching ──end of a watch, however──→ Resuming
      ↑          │ ↺ next page        ↑   │                                │  │
      │          │                    └───┼────────────────────────────────┘  │
      └──────────┴── 410, anything not understood, an older state than before ┘
                     a connection's trouble: the same state again, later

Resuming asks for the server's version: one that was restored from a backup takes a watch from a version that it has not
reached yet, and tells nothing until it has. When it insists on the older state, `HistoryLost` ends the process: what is
cached, of this kind and of others, is of a history that never was, and only new caches are safe to act on.

One function per state, and one (`_failed`) for what an error leads to. Every failure waits, with jitter and longer
each time, until a watch has held for a while; the normal end of a watch costs nothing.
"""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, Protocol

import msgspec
import structlog

from memop.clock import Clock, rfc3339
from memop.errors import (
    ApiError,
    BadResponse,
    Forbidden,
    Gone,
    HistoryLost,
    NotFound,
    RequestTimeout,
    RetryableError,
    Unreachable,
    status_error,
)
from memop.informers import wire
from memop.metrics import InformerMetrics
from memop.refs import Resource

log = structlog.stdlib.get_logger(__name__)

PAGE_SIZE = 500
# client-go's and kube-rs' figures, so that many watches do not end together.
WATCH_TIMEOUT = (300.0, 600.0)
# A watch that ends sooner is a failure, however politely it ends: something in between cuts it, and would again.
SHORTEST_WATCH = 1.0
HEALTHY_AFTER = 60.0
BASE_BACKOFF, MAX_BACKOFF = 0.8, 30.0
# So many answers in a row that are older than what was told before are no accident: the server's history was set back.
STALE_ANSWERS = 3
# Seconds after which a refusal (unknown kind, forbidden) of what was told before is believed. An API server that has
# just started refuses for a moment what it serves, and may have been set back to an older state meanwhile.
BELIEVED_AFTER = 60.0
# A 504; servers before 1.19 tell it by the message alone (client-go's isTooLargeResourceVersionError).
TOO_LARGE = "Too large resource version"


class Page(Protocol):
    """A page of a list."""

    @property
    def items(self) -> Sequence[msgspec.Raw]: ...
    @property
    def resource_version(self) -> str: ...
    @property
    def continue_token(self) -> str: ...


class Client(Protocol):
    """What informers need of the Kubernetes client; errors are those of `memop.errors`."""

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        limit: int = PAGE_SIZE,
        continue_token: str = "",
        resource_version: str = "",
    ) -> Page: ...

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        resource_version: str,
        timeout: float,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


class Sink(Protocol):
    """Whom a watcher tells: `begin`, `page` …, `complete` or `refused`; then events; and again from `begin`."""

    def begin(self) -> None:
        """A list starts; what an unfinished one told is void."""

    def page(self, items: Sequence[msgspec.Raw]) -> None:
        """Some objects of the list."""

    def complete(self, resource_version: int) -> None:
        """That was the list, as of this version."""

    def refused(self, why: str) -> None:
        """No list for now: the server does not know the kind, or forbids to list it."""

    def event(self, kind: str, raw: msgspec.Raw) -> int:
        """ADDED, MODIFIED, DELETED or BOOKMARK; returns the object's version."""

    def horizon(self) -> int:
        """The highest version up to which everything was told."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing is known that a watch could continue from."""


@dataclass(frozen=True, slots=True)
class Listing:
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class Watching:
    resource_version: int


@dataclass(frozen=True, slots=True)
class Resuming:
    """A watch that can go on from this version, if the server still knows it."""

    resource_version: int


State = Empty | Listing | Watching | Resuming


@dataclass(slots=True)
class Problem:
    since: datetime
    error: Exception

    def __str__(self) -> str:
        return f"since {rfc3339(self.since)}: {type(self.error).__name__}: {self.error}"


class Watcher:
    """Keeps one `Sink` told of one kind in one namespace ("" is all)."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str,
        sink: Sink,
        *,
        name: str,
        label_selector: str,
        clock: Clock,
        metrics: InformerMetrics,
        rng: random.Random,
        optional: bool = False,
    ) -> None:
        """`optional`: that the server does not know the kind is nothing to warn of."""
        self.namespace = namespace
        self.problem: Problem | None = None
        # Whether the sink was told what the server has, as far as can be known, or the server refuses to tell.
        self.current = False
        self._refused_at: float | None = None  # since when it only refuses
        self._client = client
        self._resource = resource
        self._sink = sink
        self._label_selector = label_selector
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._stale_answers = 0
        self._name = name
        self._optional = optional
        self._metrics = metrics
        self._log = log.bind(resource=str(resource), namespace=namespace)

    async def run(self) -> NoReturn:
        """List and watch until cancelled. Raises: HistoryLost."""
        state: State = Empty()
        while True:
            match state:
                case Empty():
                    state = self._empty()
                case Listing():
                    state = await self._list(state)
                case Watching():
                    self.current = True
                    state = await self._watch(state)
                case Resuming():
                    state = await self._resume(state)

    def _empty(self) -> State:
        self._sink.begin()
        return Listing()

    async def _list(self, state: Listing) -> State:
        try:
            page = await self._ask(PAGE_SIZE, state.continue_token)
            version = _version(page)
            if not state.continue_token:
                self._check_stale(version)
            self._sink.page(page.items)
        except HistoryLost:
            raise
        except Exception as error:  # noqa: BLE001 - a watcher outlives whatever it is sent
            if isinstance(error, NotFound | Forbidden):
                self._sink.refused(str(error))
            return await self._failed(error, resume=state)
        if page.continue_token:
            return Listing(page.continue_token)
        self._sink.complete(version)
        self._metrics.lists.labels(self._name, self.namespace).inc()
        return Watching(version)

    async def _ask(self, limit: int, continue_token: str = "") -> Page:
        # No resourceVersion: the most recent state, not whatever the answering server happens to have cached.
        return await self._client.list(
            self._resource,
            self.namespace,
            label_selector=self._label_selector,
            limit=limit,
            continue_token=continue_token,
        )

    async def _resume(self, state: Resuming) -> State:
        self.current = False
        try:
            self._check_stale(_version(await self._ask(limit=1)))
        except HistoryLost:
            raise
        except Exception as error:  # noqa: BLE001 - a watcher outlives whatever it is sent
            return await self._failed(error, resume=state)
        return Watching(state.resource_version)

    async def _watch(self, state: Watching) -> State:
        started = self._clock.monotonic()
        version = state.resource_version
        failure: Exception | None = None
        lost = False
        try:
            async with self._client.watch(
                self._resource,
                self.namespace,
                label_selector=self._label_selector,
                resource_version=str(version),
                timeout=self._rng.uniform(*WATCH_TIMEOUT),
            ) as lines:
                self._recovered()
                async for line in lines:
                    event = wire.decode_event(line)
                    if event.type == "ERROR":
                        # Whatever it says, this watch cannot go on from here: list again.
                        failure, lost = status_error(event.object), True
                        break
                    version = max(version, self._sink.event(event.type, event.object))
        except Exception as error:  # noqa: BLE001 - a watcher outlives whatever it is sent
            failure = error
        held = self._clock.monotonic() - started
        if held >= HEALTHY_AFTER:
            self._failures = 0
            if isinstance(failure, RequestTimeout):
                # Half-open, or a quiet kind whose server sends no bookmarks: a new watch tells them apart.
                failure = None
        if failure is None and held < SHORTEST_WATCH:
            failure = Unreachable(f"the watch ended after {held:.3f} s")
        if failure is not None:
            return await self._failed(failure, resume=Empty() if lost else Resuming(version))
        return Resuming(version)

    def _check_stale(self, version: int) -> None:
        horizon = self._sink.horizon()
        if version >= horizon:
            self._stale_answers = 0
            return
        self._stale_answers += 1
        self._failures = 0  # this is no outage: ask again soon
        told = f"a list as of {version}, although {horizon} was told before"
        if self._stale_answers < STALE_ANSWERS:
            raise BadResponse(told)
        raise HistoryLost(
            f"list {self._resource}: {self._stale_answers} times {told}: the API server was set back to an older "
            "state (restored from a backup?). Start memop again, as Kubernetes does: it goes by the state as it is now."
        )

    async def _failed(self, error: Exception, *, resume: State) -> State:
        """Report, wait, and go on: where we were after a connection's trouble, else from the start."""
        self.current = self._refused(error)
        self._report(error)
        delay = min(BASE_BACKOFF * 2 ** min(self._failures, 16), MAX_BACKOFF) * self._rng.uniform(0.5, 1.0)
        self._failures += 1
        if isinstance(error, ApiError) and error.retry_after is not None:
            delay = max(delay, error.retry_after)
        await self._clock.sleep(delay)
        match error:
            case BadResponse():
                return Empty()
            case RetryableError() if TOO_LARGE not in error.message:
                return resume
            case _:
                return Empty()

    def _refused(self, error: Exception) -> bool:
        """Whether the server refuses to tell, as it did from the start or has done for long."""
        now = self._clock.monotonic()
        if not isinstance(error, NotFound | Forbidden):
            self._refused_at = None
        elif self._refused_at is None:
            self._refused_at = now
        never = self._sink.horizon() == 0
        return self._refused_at is not None and (never or now - self._refused_at >= BELIEVED_AFTER)

    def _report(self, error: Exception) -> None:
        self._metrics.failures.labels(self._name, self.namespace, type(error).__name__).inc()
        news = self.problem is None or type(self.problem.error) is not type(error)
        since = self.problem.since if self.problem is not None else self._clock.now()
        self.problem = Problem(since, error)
        match error:
            case ApiError() if not news:
                self._log.debug("informer still failing", error=str(error))
            case Gone():
                self._log.info("informer lists again", error=str(error))
            case NotFound() if self._optional:
                self._log.info("the cluster does not serve this kind; it will be asked again")
            case ApiError():
                self._log.warning("informer failing", error=f"{type(error).__name__}: {error}")
            case _:
                self._log.error("informer failing unexpectedly", exc_info=error)

    def _recovered(self) -> None:
        self._refused_at = None
        if self.problem is not None:
            self._log.info("informer recovered", failing_since=rfc3339(self.problem.since))
            self.problem = None


def _version(page: Page) -> int:
    try:
        return int(page.resource_version)
    except ValueError as error:
        raise BadResponse(f"a list with resourceVersion {page.resource_version!r}") from error
