"""Leader election on a Lease, compatible with client-go's (same fields, same 15/10/2 s).

Promises:
* Of the holders' clocks only their rates matter: a record is judged by when this process saw it change, in its own
  monotonic time. A Lease is taken when it has not changed for as long as its record says, or when it was released.
* No two leaders: from `renew_seconds` after the last successful renewal was *sent*, `hold` no longer returns to
  waiting but raises, whatever hangs; others wait `lease_seconds`, which is longer, from when they saw it.
* Every write carries the resourceVersion it is based on, so that a late one cannot undo another holder's.
Model: client-go tools/leaderelection. Beyond it: a hung renewal leaves time for another on a new connection, and
the sight of another holder ends the term at once.
"""

import asyncio
import math
import random
from typing import Any, Protocol

import msgspec
import structlog
from prometheus_client import Gauge

from memop.clock import Clock, rfc3339_micro
from memop.errors import ApiError, BadResponse, LeadershipLost, NotFound
from memop.refs import LEASES, Key, Resource

# A candidate's pause is retry_seconds times 1 to 1.2, so that what a leader released is taken within 2.4 s. Those of
# client-go, up to 2.2 times as long, spare the API server many candidates; here there are one or two.
JITTER = 0.2


class Leases(Protocol):
    """What of the client is used."""

    async def get(self, resource: Resource, key: Key) -> bytes: ...
    async def create(self, resource: Resource, namespace: str, body: Any) -> bytes: ...
    async def replace(self, resource: Resource, key: Key, body: Any) -> bytes: ...


class LeaderElector:
    """One candidate; `identity` must be unique to the process. Durations are seconds: lease > renew > retry.

    `acquire`, then `hold` for as long as the term lasts, then `release` once nothing acts any more.
    """

    def __init__(
        self,
        client: Leases,
        *,
        name: str = "d4f3c8a2.c5c3.io",
        namespace: str,
        identity: str,
        lease_seconds: float = 15,
        renew_seconds: float = 10,
        retry_seconds: float = 2,
        clock: Clock,
        gauge: Gauge,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._client = client
        self._key = Key(namespace, name)
        self._identity = identity
        self._lease_seconds = math.ceil(lease_seconds)  # the API knows whole seconds
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self._clock = clock
        self._log = log
        self._gauge = gauge
        self._lease: dict[str, Any] = {}  # as last seen or written
        self._changed_at = -math.inf  # when its spec was first seen, monotonic
        self._renewed_at = -math.inf  # when our last successful write was sent, monotonic
        self._leading = False

    @property
    def leading(self) -> bool:
        """Whether this process may act."""
        return self._leading and self._clock.monotonic() < self._renewed_at + self._renew_seconds

    async def acquire(self) -> None:
        """Return when the Lease is ours; failures are logged and tried again for as long as it takes."""
        self._gauge.labels(self._key.name).set(0)
        self._log.info("waiting for the lease", lease=str(self._key), identity=self._identity)
        seen = ""
        while not await self._try(self._renew_seconds):
            if (holder := self._holder()) and holder != seen:
                seen = holder
                self._log.info("the lease is held", lease=str(self._key), holder=holder)
            await self._clock.sleep(self._retry_seconds * (1 + JITTER * random.random()))  # noqa: S311 - spread only
        self._leading = True
        self._gauge.labels(self._key.name).set(1)
        self._log.info("leading", lease=str(self._key), identity=self._identity)

    async def hold(self) -> None:
        """Renew until that fails for too long. Raises: LeadershipLost, and returns in no other way."""
        while True:
            await self._clock.sleep(min(self._retry_seconds, max(self._remaining(), 0)))
            if (remaining := self._remaining()) <= 0:
                raise self._lost(f"not renewed within {self._renew_seconds:g} s")
            # Half of what a term has: a request that hangs leaves time for one on another connection.
            renewed = await self._try(min(remaining, self._renew_seconds / 2))
            if not renewed and (holder := self._holder()) != self._identity:
                raise self._lost(f"held by {holder or 'nobody'}")

    async def release(self) -> None:
        """Let the next candidate in at once, if the Lease is ours; failures are logged.

        It may be ours without our knowing, when `acquire` was cancelled while its write was on the way.
        """
        self._leading = False
        self._gauge.labels(self._key.name).set(0)
        try:
            async with asyncio.timeout(self._renew_seconds / 2):
                await self._look()
                if self._holder() != self._identity:
                    return
                now = rfc3339_micro(self._clock.now())
                # client-go's way: nobody holds it, and a holder too old to know that waits a second only.
                await self._write(holderIdentity="", leaseDurationSeconds=1, acquireTime=now, renewTime=now)
        except NotFound:
            return
        except (ApiError, TimeoutError) as error:
            self._log.warning("the lease was not released", lease=str(self._key), error=str(error) or "no answer")
        else:
            self._log.info("the lease was released", lease=str(self._key))

    def _lost(self, why: str) -> LeadershipLost:
        self._leading = False
        self._gauge.labels(self._key.name).set(0)
        return LeadershipLost(f"lease {self._key}: {why}")

    def _remaining(self) -> float:
        return self._renewed_at + self._renew_seconds - self._clock.monotonic()

    def _holder(self) -> str:
        return str(self._lease.get("spec", {}).get("holderIdentity") or "")

    async def _try(self, seconds: float) -> bool:
        """Take or renew the Lease within `seconds`; whether it is ours now."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(seconds):
                ours = await self._renew() or await self._take()
        except (ApiError, TimeoutError) as error:
            reason = str(error) or f"no answer within {seconds:g} s"
            self._log.warning("the lease could not be written", lease=str(self._key), error=reason)
            return False
        if ours:
            self._renewed_at = started
        return ours

    async def _renew(self) -> bool:
        """The short way: write upon what we wrote last; whether that succeeded."""
        if not self._leading or self._holder() != self._identity:
            return False
        try:
            await self._write(renewTime=rfc3339_micro(self._clock.now()))
        except ApiError as error:
            self._log.info("the lease must be read again", lease=str(self._key), error=str(error))
            return False
        return True

    async def _take(self) -> bool:
        """The long way: look, and write if it is free, run out or ours."""
        now = rfc3339_micro(self._clock.now())
        ours = {"holderIdentity": self._identity, "leaseDurationSeconds": self._lease_seconds, "renewTime": now}
        try:
            await self._look()
        except NotFound:
            if self._another_may_lead():  # who deleted the Lease did not end its holder, who makes it again
                return False
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"namespace": self._key.namespace, "name": self._key.name},
                "spec": {**ours, "acquireTime": now, "leaseTransitions": 0},
            }
            self._see(await self._client.create(LEASES, self._key.namespace, body))
            return True
        spec = self._lease.get("spec", {})
        if self._holder() == self._identity:
            await self._write(**ours)
            return True
        # A leader never takes back what it lost: its term has to end, with all that acts in it.
        if self._leading or self._another_may_lead():
            return False
        await self._write(**ours, acquireTime=now, leaseTransitions=int(spec.get("leaseTransitions") or 0) + 1)
        return True

    def _another_may_lead(self) -> bool:
        """Whether the Lease as last seen is another's and has not run out."""
        runs_out = self._changed_at + float(self._lease.get("spec", {}).get("leaseDurationSeconds") or 0)
        return self._holder() not in ("", self._identity) and self._clock.monotonic() < runs_out

    async def _look(self) -> None:
        self._see(await self._client.get(LEASES, self._key))

    async def _write(self, **changes: Any) -> None:
        body = self._lease | {"spec": self._lease.get("spec", {}) | changes}
        self._see(await self._client.replace(LEASES, self._key, body))

    def _see(self, body: bytes) -> None:
        try:
            lease = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise BadResponse(f"not a Lease: {error}", request=f"get {LEASES} {self._key}") from error
        if lease.get("spec") != self._lease.get("spec") or not self._lease:
            self._changed_at = self._clock.monotonic()
        self._lease = lease
