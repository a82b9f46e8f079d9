"""The one way in which children and status are written: look, judge whose it is, compare, and only then apply."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from memop.errors import ApiError, NotFound, Rejected
from memop.informers.informer import Informer
from memop.metrics import OperatorMetrics
from memop.reconcilers.compare import difference
from memop.reconcilers.objects import Claim, Json, Live, claim, decoder, owner_reference
from memop.refs import Key, Resource

log = structlog.get_logger(__name__)


class Writer(Protocol):
    """The calls of `client.Client` that writing needs; each answers with the object's JSON."""

    async def get(self, resource: Resource, key: Key, *, metadata_only: bool = False) -> bytes: ...

    async def apply(
        self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str, force: bool = True
    ) -> bytes: ...

    async def apply_status(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes: ...

    async def patch(self, resource: Resource, key: Key, body: Mapping[str, Any], *, manager: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Child:
    """What became of one wanted child.

    `changed` names the field that made a write necessary; `problem` says why the child is not as wanted: a condition's
    reason and message. `error` is set where the API server refused, so that the caller backs off.
    """

    kind: str
    name: str
    result: str  # created | updated | unchanged | conflict | rejected
    changed: str = ""
    problem: tuple[str, str] | None = None
    error: ApiError | None = None


class Applier:
    """Writes the children and the status of the CRs of one kind, under one field manager."""

    def __init__(
        self,
        client: Writer,
        *,
        resource: Resource,
        manager: str,
        owners: Informer[Live],
        children: Mapping[Resource, Informer[Live]],
        metrics: OperatorMetrics,
    ) -> None:
        self._client = client
        self._resource = resource
        self._manager = manager
        self._decode = decoder(manager)
        self._owners = owners
        self._children = {child.kind: (child, informer) for child, informer in children.items()}
        self._metrics = metrics

    async def child(self, owner: Live, desired: Json, selector: Mapping[str, str]) -> Child:
        """Bring one child to `desired` (an apply body without owner reference), if it is ours and differs.

        The cache holds only what carries our labels, so a name it does not know is looked up before it is written, and
        the uid that was seen travels in the apply: a forced apply must never take over a stranger's object. Where none
        was seen the first apply is not forced, so that an object made in between wins the conflict.

        Raises: ApiError that is no verdict on this object (unreachable, throttled, conflict): try again later.
        """
        kind, name = desired["kind"], desired["metadata"]["name"]
        child = await self._child(owner, desired, selector)
        self._metrics.resources.labels(kind, child.result).inc()
        if child.result != "unchanged":
            log.info("child", kind=kind, child=name, result=child.result, field=child.changed or None)
        return child

    async def _child(self, owner: Live, desired: Json, selector: Mapping[str, str]) -> Child:
        kind, key = desired["kind"], Key(owner.key.namespace, desired["metadata"]["name"])
        resource, informer = self._children[kind]
        live = informer.reader.get(key) or await self._look(resource, key)
        metadata = {
            **desired["metadata"],
            "ownerReferences": [owner_reference(owner.key, owner.uid, self._resource)],
        }
        field = f"{kind} is missing"
        if live is not None:
            verdict = claim(live, owner=owner, resource=self._resource, selector=selector)
            if verdict is Claim.STRANGER:
                return Child(kind, key.name, "conflict", problem=("ObjectConflict", _conflict(kind, live)))
            if verdict is Claim.ADOPTABLE and live.owner is not None:
                live = await self._release(resource, live)
            body = {**desired, "metadata": metadata}
            found = difference(body, live.fields(), msgspec.json.decode(live.owned))
            if found is None or live.deleting:  # one that is going away is made again once it is gone
                return Child(kind, key.name, "unchanged")
            field = found
            metadata["uid"] = live.uid
        body = {**desired, "metadata": metadata}
        try:
            raw = await self._client.apply(resource, key, body, manager=self._manager, force=live is not None)
        except Rejected as error:
            message = f"{kind} {key}: {error.message}"
            return Child(kind, key.name, "rejected", field, problem=("Rejected", message), error=error)
        informer.wrote(raw)
        return Child(kind, key.name, "updated" if live is not None else "created", field)

    async def _look(self, resource: Resource, key: Key) -> Live | None:
        try:
            return self._decode(await self._client.get(resource, key))
        except NotFound:
            return None

    async def _release(self, resource: Resource, live: Live) -> Live:
        """Drop the controller that is gone: an object has room for one, and an apply cannot remove another's entry."""
        kept = [owner for owner in live.owners if not owner.controller]
        seen = {"uid": live.uid, "resourceVersion": str(live.resource_version)}
        body = {"metadata": {**seen, "ownerReferences": kept}}
        return self._decode(await self._client.patch(resource, live.key, body, manager=self._manager))

    async def status(self, owner: Live, status: Json) -> bool:
        """Apply the status where it differs from the live one; True when a write was made.

        A CR that is gone is none of this writer's business any more.
        """
        live = {"status": msgspec.json.decode(owner.status)}
        field = difference({"status": status}, live, msgspec.json.decode(owner.owned))
        if field is None:
            return False
        body = {
            "apiVersion": self._resource.api_version,
            "kind": self._resource.kind,
            "metadata": {"name": owner.key.name, "namespace": owner.key.namespace, "uid": owner.uid},
            "status": status,
        }
        try:
            raw = await self._client.apply_status(self._resource, owner.key, body, manager=self._manager)
        except NotFound:
            return False
        log.debug("status", field=field)
        self._owners.wrote(raw)
        return True


def _conflict(kind: str, live: Live) -> str:
    controller = live.owner
    whose = f"controlled by {controller.kind} {controller.name}" if controller else "not made by this operator"
    return (
        f"{kind} {live.key} exists and is {whose}; it is left alone. "
        f"Delete or rename it, or rename this CR, and the {kind} will be made."
    )
