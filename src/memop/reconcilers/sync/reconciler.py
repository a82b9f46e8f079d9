"""Replica sync: observe, decide, write the size, tell in the status."""

from collections.abc import Mapping
from typing import Any, Protocol

import structlog

from memop.clock import Clock, rfc3339
from memop.controller import Done
from memop.errors import BadResponse, NotFound, Rejected
from memop.events import Recorder
from memop.informers.informer import Informer
from memop.reconcilers.objects import Json, Live
from memop.reconcilers.sync.observe import NotYet, Observed, Workloads, observe, read_spec
from memop.reconcilers.sync.status import CONTESTED, Verdict, about, condition, contested, decide, events, rejected
from memop.refs import MEMCACHEDS, Key, Resource

FIELD_MANAGER = "memop-sync"
NOT_YET_SECONDS = 1.0  # until a cache that cannot be acted on is looked at again
CONTESTED_SECONDS = 60.0  # between two tries to apply what admission changes

log = structlog.stdlib.get_logger(__name__)


class Writer(Protocol):
    """The calls of `client.Client` that are needed; each answers with the object's JSON."""

    async def apply(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes: ...

    async def apply_status(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes: ...


class ReplicaSync:
    """Writes `spec.replicas` and the condition `ReplicasSynced` of each `Memcached` that follows another workload.

    The size is never given up again: when nothing is followed any more, it stays.
    """

    def __init__(
        self, client: Writer, *, memcacheds: Informer[Live], workloads: Workloads, events: Recorder, clock: Clock
    ) -> None:
        self._client = client
        self._memcacheds = memcacheds
        self._workloads = workloads
        self._events = events
        self._clock = clock

    async def reconcile(self, key: Key) -> Done:
        """One pass over one CR. Raises: Rejected, once the status tells of it; ApiError of any other kind."""
        try:
            observed = observe(key, memcacheds=self._memcacheds.reader, workloads=self._workloads)
        except NotYet:
            return Done(after=NOT_YET_SECONDS)
        if observed is None:
            return Done()
        cr, verdict, refusal = await self._resize(observed, decide(observed))
        await self._tell(observed, cr, verdict)
        if refusal is not None:
            raise refusal
        return Done(after=CONTESTED_SECONDS if verdict.reason == CONTESTED else None)

    async def _resize(self, observed: Observed, verdict: Verdict) -> tuple[Live, Verdict, Rejected | None]:
        """The CR with the size that it is to have, and the verdict as it stands when the API server had its say."""
        if verdict.size is None or verdict.size == observed.replicas:
            return observed.cr, verdict, None
        try:
            cr = await self._write(observed, verdict)
        except Rejected as error:
            return observed.cr, rejected(verdict, error.message), error
        spec = read_spec(cr)
        taken = spec is not None and spec.replicas == verdict.size
        return cr, verdict if taken else contested(verdict), None

    async def _write(self, observed: Observed, verdict: Verdict) -> Live:
        """Change the CR exactly as it was seen, or what a user has just decided would be lost."""
        cr = observed.cr
        seen = {"uid": cr.uid, "resourceVersion": str(cr.resource_version)}
        body = _body(cr.key, seen, {"spec": {"replicas": verdict.size}})
        live = self._seen(await self._client.apply(MEMCACHEDS, cr.key, body, manager=FIELD_MANAGER))
        if live.resource_version != cr.resource_version:
            log.info("resized", replicas=verdict.size, before=observed.replicas, why=verdict.message)
            before = "unset" if observed.replicas is None else observed.replicas
            note = f"spec.replicas: {verdict.size}, was {before}; {verdict.message}"
            self._events.record(about(cr), "Normal", "Resized", note)
        return live

    async def _tell(self, observed: Observed, cr: Live, verdict: Verdict) -> None:
        """Apply the condition where it differs from the live one, or withdraw it."""
        if not cr.claimed:  # the pool's own controller begins its status anew, and that brings us here again
            return
        desired = condition(verdict, cr, rfc3339(self._clock.now())) if verdict.reason else None
        if desired is None and (verdict.reason or observed.told is None):
            return
        body = _body(cr.key, {"uid": cr.uid}, {"status": {"conditions": [desired]} if desired else {}})
        try:
            raw = await self._client.apply_status(MEMCACHEDS, cr.key, body, manager=FIELD_MANAGER)
        except NotFound:  # as the watch will tell
            return
        self._seen(raw)
        for event in events(observed, verdict):
            self._events.record(event.about, event.type, event.reason, event.message)

    def _seen(self, answer: bytes) -> Live:
        """The CR that the API server answers with, which the cache now knows too."""
        live = self._memcacheds.wrote(answer)
        if live is None:
            raise BadResponse(f"not a Memcached: {answer[:100]!r}")
        return live


def _body(key: Key, seen: Mapping[str, str], more: Json) -> Json:
    """An apply body that changes the very object that was seen, and makes none: with a uid the server does not."""
    return {
        "apiVersion": MEMCACHEDS.api_version,
        "kind": MEMCACHEDS.kind,
        "metadata": {"name": key.name, "namespace": key.namespace, **seen},
        **more,
    }
