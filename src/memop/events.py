"""Kubernetes Events (events.k8s.io/v1) about the objects that memop runs.

`record` only writes down; `run` sends. The same thing told again within `SERIES_WINDOW` becomes a series: one Event
whose count and last time are patched, at most once per `SERIES_PERIOD`. Every write takes a token of its object's
bucket (25, then one in five minutes: client-go's spam filter); without one a new event is dropped and a series waits.
"""

import asyncio
import itertools
import random
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from memop.clock import Clock, rfc3339_micro
from memop.errors import ApiError, Conflict, Forbidden, NotFound, RetryableError
from memop.refs import EVENTS, Key, ObjectReference, Resource

SERIES_WINDOW = 360.0  # seconds after which the same thing is news again; client-go's finishTime
SERIES_PERIOD = 30.0  # seconds between two writes of one series
MAX_SERIES = 4096  # remembered at once; also the queue's bound
BURST, REFILL = 25, 1 / 300  # tokens an object has, and gets a second
RETRY_PAUSE, MAX_TRIES = 10.0, 12  # client-go's, for a server that does not answer
MAX_NOTE = 1024  # bytes, by the API


class Recorder(Protocol):
    """Where reconcilers tell of events."""

    def record(self, regarding: "ObjectReference", type: str, reason: str, note: str) -> None: ...  # noqa: A002


class EventSink(Protocol):
    """What of the client is used."""

    async def create(self, resource: Resource, namespace: str, body: Any) -> bytes: ...
    async def patch(self, resource: Resource, key: Key, body: Any) -> bytes: ...


_SeriesKey = tuple[str, str, str, str, str]


@dataclass(slots=True)
class _Series:
    key: _SeriesKey
    regarding: ObjectReference
    event: dict[str, Any]
    seen_at: float  # monotonic, like the two below
    due_at: float
    last_observed: str
    count: int = 1
    written: int = 0  # the count that the API server knows
    tries: int = 0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class EventRecorder:
    """Records from anywhere in the loop; `run` belongs to one task. `dropped` counts what will never be seen."""

    def __init__(
        self,
        client: EventSink,
        *,
        controller: str = "memcached-operator",
        instance: str,
        clock: Clock,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._client = client
        self._controller = controller
        self._instance = instance[:128]
        self._clock = clock
        self._log = log
        self._series: OrderedDict[_SeriesKey, _Series] = OrderedDict()  # least recently seen first
        self._pending: dict[_SeriesKey, _Series] = {}  # those the API server has yet to hear of
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._serial = itertools.count()
        self._wake = asyncio.Event()
        self.dropped = 0

    def record(
        self,
        regarding: ObjectReference,
        type: str,  # noqa: A002 - the field's name
        reason: str,
        note: str,
        *,
        action: str = "Reconcile",
        related: ObjectReference | None = None,
    ) -> None:
        """Tell of something: `type` Normal or Warning, `reason` in CamelCase. Never blocks, never raises."""
        now, moment = self._clock.monotonic(), rfc3339_micro(self._clock.now())
        self._expire(now)
        key = (regarding.uid or f"{regarding.namespace}/{regarding.name}", regarding.kind, type, reason, note)
        series = self._series.get(key)
        if series is not None and now - series.seen_at < SERIES_WINDOW:
            series.count += 1
            series.last_observed = moment
            series.seen_at = now
            self._series.move_to_end(key)
        else:
            if not self._take_token(key[0], now):
                self.dropped += 1
                return
            if series is not None:
                self._forget(series)
            event = self._event(regarding, moment, type=type, reason=reason, note=note, action=action, related=related)
            series = self._series[key] = _Series(key, regarding, event, now, now, moment)
            while len(self._series) > MAX_SERIES:
                self._forget(next(iter(self._series.values())))
        self._pending[key] = series
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        told = 0
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            series = next((pending for pending in self._pending.values() if pending.due_at <= now), None)
            if series is None:
                due = min((pending.due_at for pending in self._pending.values()), default=None)
                await self._sleep(None if due is None else due - now)
            elif series.written and not self._take_token(series.key[0], now):
                series.due_at = now + SERIES_PERIOD
            else:
                await self._send(series)
            if self.dropped > told:
                self._log.warning("events were dropped", count=self.dropped - told)
                told = self.dropped

    async def _sleep(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _send(self, series: _Series) -> None:
        count = series.count
        try:
            await self._write(series)
        except RetryableError as error:
            # Hold everything: the next event would fare no better.
            series.tries += 1
            if series.tries >= MAX_TRIES:
                self._drop(series, error)
            await self._clock.sleep(RETRY_PAUSE * random.uniform(0.75, 1.25))  # noqa: S311 - spread only
        except (NotFound, Forbidden) as error:
            # Mostly a namespace that is going or gone; if memop may not write events at all, the log tells them.
            self._drop(series, error)
        except ApiError as error:
            self._drop(series, error)
        else:
            series.written, series.tries = count, 0
            series.due_at = self._clock.monotonic() + SERIES_PERIOD
            if series.count == count:
                self._pending.pop(series.key, None)

    async def _write(self, series: _Series) -> None:
        metadata = series.event["metadata"]
        latest = {"series": {"count": series.count, "lastObservedTime": series.last_observed}}
        if series.written:
            try:
                await self._client.patch(EVENTS, Key(metadata["namespace"], metadata["name"]), latest)
            except NotFound:  # events live for an hour
                series.event["metadata"] = metadata | {"name": self._name(series.regarding)}
            else:
                return
        try:
            await self._client.create(
                EVENTS, metadata["namespace"], series.event | (latest if series.count > 1 else {})
            )
        except Conflict:  # an answer got lost: the name is ours alone
            return

    def _drop(self, series: _Series, error: ApiError) -> None:
        expected = isinstance(error, NotFound) or "being terminated" in error.message
        if not expected:
            self._log.warning("an event was not accepted", reason=series.event["reason"], error=str(error))
        self._forget(series)

    def _forget(self, series: _Series) -> None:
        self._series.pop(series.key, None)
        if self._pending.pop(series.key, None) is not None and not series.written:
            self.dropped += 1

    def _expire(self, now: float) -> None:
        while self._series:
            oldest = next(iter(self._series.values()))
            if now - oldest.seen_at < SERIES_WINDOW or oldest.key in self._pending:
                return
            del self._series[oldest.key]

    def _take_token(self, uid: str, now: float) -> bool:
        bucket = self._buckets.setdefault(uid, _Bucket(BURST, now))
        self._buckets.move_to_end(uid)
        if len(self._buckets) > MAX_SERIES:
            self._buckets.popitem(last=False)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.at) * REFILL)
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _name(self, regarding: ObjectReference) -> str:
        nanoseconds = int(self._clock.now().timestamp() * 1e6) * 1000 + next(self._serial) % 1000
        return f"{regarding.name[:230]}.{nanoseconds:x}"

    def _event(
        self,
        regarding: ObjectReference,
        moment: str,
        *,
        type: str,  # noqa: A002 - as above
        reason: str,
        note: str,
        action: str,
        related: ObjectReference | None,
    ) -> dict[str, Any]:
        event = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            # The API wants a cluster-scoped object's events in `default`.
            "metadata": {"namespace": regarding.namespace or "default", "name": self._name(regarding)},
            "eventTime": moment,
            "type": type,
            "reason": reason[:128],
            "note": _fitting(note),
            "action": action[:128],
            "regarding": regarding.encode(),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
        }
        return event | ({"related": related.encode()} if related else {})


def _fitting(note: str) -> str:
    encoded = note.encode(errors="replace")
    if len(encoded) <= MAX_NOTE:
        return encoded.decode()
    return encoded[: MAX_NOTE - 3].decode(errors="ignore") + "…"
