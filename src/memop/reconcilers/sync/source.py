"""What a pool's size may be taken from: a Deployment or StatefulSet, in the compact form that caches keep."""

from collections.abc import Iterable
from sys import intern

import msgspec

from memop.refs import MEMCACHEDS, Key

# On a Deployment: the name of the `Memcached`, in the same namespace, that is to be of its size.
LABEL = "memcached-operator/associated-memcached-deployment-name"


class _Owner(msgspec.Struct, frozen=True, rename="camel", gc=False):
    api_version: str
    kind: str
    name: str
    controller: bool = False


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str
    resource_version: str
    namespace: str
    labels: dict[str, str] = {}
    owner_references: list[_Owner] = []
    deletion_timestamp: str | None = None


class _Spec(msgspec.Struct, frozen=True):
    replicas: int = 1  # Kubernetes' own default


class _Wire(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()


class Source(msgspec.Struct, frozen=True, gc=False):
    """A workload, as far as its size is concerned: `replicas` pods are wanted of it.

    `feeds` is the `Memcached` that its label names, `made_for` the one that controls it; "" where there is none.
    """

    key: Key
    uid: str
    resource_version: int
    replicas: int
    deleting: bool
    feeds: str
    made_for: str


_decode_wire = msgspec.json.Decoder(_Wire).decode


def decode(raw: bytes | msgspec.Raw) -> Source:
    """Raw JSON → `Source`. Raises: msgspec.MsgspecError, ValueError."""
    wire = _decode_wire(raw)
    meta = wire.metadata
    return Source(
        key=Key(intern(meta.namespace), meta.name),
        uid=meta.uid,
        resource_version=int(meta.resource_version),
        replicas=wire.spec.replicas,
        deleting=meta.deletion_timestamp is not None,
        feeds=meta.labels.get(LABEL, ""),
        made_for=next((owner.name for owner in meta.owner_references if _is_pool(owner)), ""),
    )


def _is_pool(owner: _Owner) -> bool:
    group = owner.api_version.rpartition("/")[0]
    return owner.controller and (group, owner.kind) == (MEMCACHEDS.group, MEMCACHEDS.kind)


def fed(source: Source) -> Iterable[str]:
    """For an index: the `Memcached` that the label names, as `namespace/name`."""
    if source.feeds:
        yield str(Key(source.key.namespace, source.feeds))


def matters(old: Source, new: Source) -> bool:
    """Whether an update is worth a look: of a workload's status nothing is read."""
    return (old.replicas, old.deleting, old.feeds, old.made_for) != (
        new.replicas,
        new.deleting,
        new.feeds,
        new.made_for,
    )
