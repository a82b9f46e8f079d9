"""Secrets, known by their metadata alone: whether they are there, and whether they changed.

memop may `get` Secrets and neither list nor watch them, so they are asked for again: when the CR that names them
changed, once for all CRs that changed before the request, and after `interval`. The API server is asked for a
PartialObjectMetadata; contents never come here.
"""

import asyncio
import hashlib
import math
import random
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from memop.clock import Clock
from memop.errors import NotFound, Rejected
from memop.informers import wire
from memop.refs import SECRETS, Key, Resource


class Reader(Protocol):
    """What of the client is used."""

    async def get(self, resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes: ...


# One that is missing is looked for this many times as often: pods wait for it.
EAGERNESS = 6
MAX_PER_SECOND = 50.0  # reads on schedule, of all CRs together; a change of a CR is not made to wait


class Secret(NamedTuple):
    """What is known of a Secret: `version` (uid and resourceVersion), else why not: `refusal`, or it is not there."""

    version: str | None = None
    refusal: str = ""


class _Known:
    """One Secret, as it was last asked for, at `asked`; until `until` that is news (monotonic)."""

    __slots__ = ("asked", "crs", "lock", "secret", "until")

    def __init__(self) -> None:
        self.secret = Secret()
        self.asked = self.until = -math.inf
        self.lock = asyncio.Lock()
        self.crs: set[Key] = set()  # that name it


class SecretReader:
    """The Secrets that CRs name, each read once per `interval` seconds (jittered by a tenth), however many name it.

    Where so many are named that it would take more than MAX_PER_SECOND, `interval` stretches.
    """

    def __init__(self, client: Reader, *, interval: float, clock: Clock, rng: random.Random) -> None:
        self._client = client
        self._interval = interval
        self._clock = clock
        self._rng = rng
        self._known: dict[Key, _Known] = {}
        self._named: dict[Key, tuple[Key, ...]] = {}  # CR -> Secrets
        self._changed: dict[Key, float] = {}  # CR -> when its change was learnt of, until its Secrets were read
        self._last = 0.0  # monotonic: of the reads that are scheduled, the last

    def changed(self, cr: Key) -> None:
        """The CR's spec is another: what was asked before now does not count when it is read for."""
        self._changed[cr] = self._clock.monotonic()

    async def read(self, cr: Key, names: Iterable[str]) -> Mapping[str, Secret]:
        """Each Secret in the CR's namespace: from memory, unless it is due or was last asked for before the CR changed.

        Raises: ApiError that is no verdict on the Secret (unreachable …).
        """
        since = self._changed.get(cr, -math.inf)
        wanted = tuple(Key(cr.namespace, name) for name in dict.fromkeys(names))
        if wanted != self._named.get(cr, ()):
            self._drop(cr)
            if wanted:
                self._named[cr] = wanted
            for key in wanted:
                self._known.setdefault(key, _Known()).crs.add(cr)
        secrets = {key.name: await self._read(key, since) for key in wanted}
        if self._changed.get(cr) == since:
            del self._changed[cr]
        return secrets

    async def _read(self, key: Key, since: float) -> Secret:
        known = self._known[key]
        wanted_at = self._clock.monotonic()
        async with known.lock:
            # Of those who wait for the lock, the first who gets it asks for all of them.
            if known.asked < since or known.asked < wanted_at >= known.until:
                asked = self._clock.monotonic()
                known.secret = await self._get(key)
                known.asked, known.until = asked, self._next_read(known.secret)
        return known.secret

    def _next_read(self, secret: Secret) -> float:
        interval = self._interval if secret.version is not None else self._interval / EAGERNESS
        until = self._clock.monotonic() + interval * self._rng.uniform(0.9, 1.1)
        if secret.version is not None:
            self._last = until = max(until, self._last + 1 / MAX_PER_SECOND)
        return until

    def due(self, cr: Key) -> float | None:
        """In how many seconds a Secret of this CR is to be read again; None when it names none."""
        times = [self._known[key].until for key in self._named.get(cr, ())]
        return max(min(times) - self._clock.monotonic(), 0.0) if times else None

    def forget(self, cr: Key) -> None:
        """A CR is gone."""
        self._changed.pop(cr, None)
        self._drop(cr)

    def _drop(self, cr: Key) -> None:
        for key in self._named.pop(cr, ()):
            known = self._known[key]
            known.crs.discard(cr)
            if not known.crs:
                del self._known[key]

    async def _get(self, key: Key) -> Secret:
        try:
            metadata = wire.decode_partial(await self._client.get(SECRETS, key, metadata_only=True)).metadata
        except NotFound:
            return Secret()
        except Rejected as error:
            return Secret(refusal=error.message)
        return Secret(f"{metadata.uid} {metadata.resource_version}")


def secret_hash(secrets: Mapping[str, Secret]) -> str | None:
    """One value for the state of all Secrets; None where there are none. All must have been read."""
    if not secrets:
        return None
    versions = sorted((name, secret.version) for name, secret in secrets.items())
    return hashlib.sha256(msgspec.json.encode(versions)).hexdigest()[:16]
