"""What all reconcilers share about objects: the compact form that caches keep, whose an object is, and its labels."""

from collections.abc import Callable
from enum import Enum
from sys import intern
from typing import Any, NamedTuple

import msgspec

from memop.refs import Key, Resource

NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
VERSION_LABEL = "app.kubernetes.io/version"
MANAGED_BY = "memcached-operator"

# Annotations that users set on a CR.
PAUSED = "memcached.c5c3.io/paused"
RESTART_TRIGGER = "memcached.c5c3.io/restart-trigger"

Json = dict[str, Any]

# Stands for the uid of an object's controller in what is compared: see `Live.owned`.
CONTROLLER = "controller"
MAX_SHARED = 256

NOTHING = b"{}"
_EMPTY = msgspec.Raw(NOTHING)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class OwnerReference(msgspec.Struct, frozen=True, rename="camel", gc=False):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]


class _ManagedFields(msgspec.Struct, frozen=True, rename="camel", gc=False):
    manager: str = ""
    operation: str = ""
    subresource: str = ""
    fields_v1: msgspec.Raw = msgspec.field(name="fieldsV1", default=_EMPTY)


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str
    resource_version: str
    namespace: str = ""
    generation: int = 0
    labels: msgspec.Raw = _EMPTY
    annotations: msgspec.Raw = _EMPTY
    owner_references: list[OwnerReference] = []
    deletion_timestamp: str | None = None
    managed_fields: list[_ManagedFields] = []


class _Wire(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: msgspec.Raw = _EMPTY
    data: msgspec.Raw = _EMPTY
    status: msgspec.Raw = _EMPTY


class Live(msgspec.Struct, frozen=True, gc=False):
    """An object as the API server last showed it.

    `labels`, `annotations`, `spec`, `data` (a ConfigMap's), `status` and `owned` (fieldsV1 of what the cache's field
    manager applied) stay JSON until somebody reads them: a decoded Deployment is ten times as large. In `owned`
    CONTROLLER is the controller's uid, so that the children of one shape, whosever they are, share one `owned`, and it
    is parsed once.
    """

    key: Key
    uid: str
    resource_version: int
    generation: int
    deleting: bool
    owners: tuple[OwnerReference, ...]
    labels: bytes
    annotations: bytes
    spec: bytes
    status: bytes
    owned: bytes
    data: bytes = NOTHING

    @property
    def claimed(self) -> bool:
        """Whether the cache's field manager is on record to have applied anything."""
        return self.owned != NOTHING

    @property
    def owner(self) -> OwnerReference | None:
        """The controller, which memop calls the owner."""
        return next((owner for owner in self.owners if owner.controller), None)

    def fields(self) -> Json:
        """What memop may have applied: the parts of metadata that it writes, spec and data."""
        owners = msgspec.to_builtins(self.owners)
        for owner in owners:
            if owner["controller"]:
                owner["uid"] = CONTROLLER
        metadata = {
            "labels": msgspec.json.decode(self.labels),
            "annotations": msgspec.json.decode(self.annotations),
            "ownerReferences": owners,
        }
        content = {"spec": self.spec} if self.data == NOTHING else {"data": self.data}
        return {"metadata": metadata, **{name: msgspec.json.decode(json) for name, json in content.items()}}


_decode_wire = msgspec.json.Decoder(_Wire).decode


def decoder(*managers: str, subresource: str = "") -> Callable[[bytes | msgspec.Raw], Live]:
    """Raw JSON → `Live`, for a cache of objects that one of `managers` each applies (their `subresource`, if given)."""
    wanted = {(manager, "Apply", subresource) for manager in managers}
    pool: dict[bytes, bytes] = {}

    def shared(value: bytes) -> bytes:
        """One object for all equal values: most caches hold few different ones."""
        if len(pool) > MAX_SHARED:
            pool.clear()
        return pool.setdefault(value, value)

    def decode(raw: bytes | msgspec.Raw) -> Live:
        wire = _decode_wire(raw)
        meta = wire.metadata
        owners = tuple([_compact(owner, meta.name) for owner in meta.owner_references])
        owned = NOTHING
        for entry in meta.managed_fields:
            if (entry.manager, entry.operation, entry.subresource) in wanted:
                owned = bytes(entry.fields_v1)
        for owner in owners:
            if owner.controller:
                owned = owned.replace(owner.uid.encode(), CONTROLLER.encode())
        return Live(
            key=Key(intern(meta.namespace), meta.name),
            uid=meta.uid,
            resource_version=int(meta.resource_version),
            generation=meta.generation,
            deleting=meta.deletion_timestamp is not None,
            owners=owners,
            labels=_bytes(meta.labels),
            annotations=_without_last_applied(_bytes(meta.annotations)),
            spec=_bytes(wire.spec),
            status=_bytes(wire.status),
            owned=shared(owned),
            data=_bytes(wire.data),
        )

    return decode


def _bytes(raw: msgspec.Raw) -> bytes:
    return NOTHING if raw == _EMPTY else bytes(raw)


def _compact(owner: OwnerReference, name: str) -> OwnerReference:
    """The same, with its strings shared: an owner's kind with all, its name, mostly, with the object itself."""
    return OwnerReference(
        api_version=intern(owner.api_version),
        kind=intern(owner.kind),
        name=name if owner.name == name else owner.name,
        uid=owner.uid,
        controller=owner.controller,
        block_owner_deletion=owner.block_owner_deletion,
    )


def _without_last_applied(annotations: bytes) -> bytes:
    """kubectl's copy of the whole manifest is nobody's to read here, and larger than the rest."""
    if _LAST_APPLIED.encode() not in annotations:
        return annotations
    decoded = msgspec.json.decode(annotations)
    decoded.pop(_LAST_APPLIED, None)
    return msgspec.json.encode(decoded)


class Event(NamedTuple):
    """What people are told of an object; `type` is Normal or Warning."""

    type: str
    reason: str
    message: str


class Claim(Enum):
    """Whose object it is, seen from a CR that wants one of that name."""

    OURS = "controlled by this CR"
    ADOPTABLE = "carries our labels for this name and has no living controller"
    STRANGER = "somebody else's: never changed, never deleted"


def claim(live: Live, desired: Json, *, owner: Live, resource: Resource) -> Claim:
    """Judge `live` for the CR `owner` of kind `resource`, which wants an object `desired` of that name."""
    controller = live.owner
    if controller is not None and controller.uid == owner.uid:
        return Claim.OURS
    labels = msgspec.json.decode(live.labels)
    wanted = desired["metadata"]["labels"]
    if any(labels.get(name) != wanted[name] for name in (NAME_LABEL, INSTANCE_LABEL, MANAGED_BY_LABEL)):
        return Claim.STRANGER
    if controller is None:
        return Claim.ADOPTABLE
    # Names are unique, so a reference to this kind and name under another uid points at a CR that is gone (a restore).
    gone = (controller.group, controller.kind, controller.name) == (resource.group, resource.kind, owner.key.name)
    return Claim.ADOPTABLE if gone else Claim.STRANGER


def controlled(body: Json, owner: Key, uid: str, resource: Resource) -> Json:
    """An apply body with a reference to its controller, the CR `owner` of kind `resource`."""
    reference = {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": owner.name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {**body, "metadata": {**body["metadata"], "ownerReferences": [reference]}}


def selector_labels(name: str, instance: str) -> dict[str, str]:
    """The three labels that every object of a CR carries and selects by."""
    return {NAME_LABEL: name, INSTANCE_LABEL: instance, MANAGED_BY_LABEL: MANAGED_BY}
