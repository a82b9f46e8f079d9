"""What a reconcile of one foreign CR goes by: what it translates to, and the child that serves it."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from memop.informers.store import StoreReader
from memop.reconcilers.compat.kinds import ForeignKind
from memop.reconcilers.live import LiveCondition, read_status
from memop.reconcilers.objects import PAUSED, Json, Live
from memop.refs import Key
from memop.translate import Untranslatable


class ChildCondition(msgspec.Struct, frozen=True, gc=False):
    """What is mirrored of a condition of the child."""

    type: str
    status: str
    reason: str
    message: str = ""


class ChildStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of the child's status."""

    observed_generation: int = 0
    conditions: list[ChildCondition] = []
    endpoint: str = ""
    shards: int = 0

    def condition(self, type_: str) -> ChildCondition | None:
        return next((condition for condition in self.conditions if condition.type == type_), None)


@dataclass(frozen=True, slots=True)
class Observed:
    """One foreign CR and what the caches know of it.

    `spec` is the child's, None where `invalid` says why there is none; `notes` say what has no equivalent in it.
    `child` is ours. `conditions` and `told_generation` are what the CR's status says now.
    """

    cr: Live
    conditions: list[LiveCondition]
    told_generation: int
    spec: Json | None
    invalid: str
    notes: list[str]
    paused: bool
    child: Live | None
    served: ChildStatus


def observe(
    key: Key,
    kind: ForeignKind,
    *,
    foreign: StoreReader[Live],
    clusters: StoreReader[Live],
    found: Live | None = None,
) -> Observed | None:
    """None where there is no such CR, or it is being deleted: garbage collection does the rest.

    `found` is a child that was looked up because the cache, which knows only our labels, has none.
    """
    cr = foreign.get(key)
    if cr is None or cr.deleting:
        return None
    # The CR's own labels and annotations are not the child's: other tools go by them.
    metadata = {"name": key.name, "namespace": key.namespace}
    obj = {"kind": kind.resource.kind, "metadata": metadata, "spec": msgspec.json.decode(cr.spec)}
    spec, invalid, notes = None, "", []
    try:
        translation = kind.translate(obj)
        spec, notes = translation.native["spec"], [str(note) for note in translation.notes]
    except Untranslatable as error:
        invalid = str(error)
    annotations: Mapping[str, str] = msgspec.json.decode(cr.annotations)
    child = clusters.get(Key(key.namespace, kind.child(key.name))) or found
    if child is not None and (child.owner is None or child.owner.uid != cr.uid):
        child = None
    told = read_status(cr.status)
    return Observed(
        cr=cr,
        conditions=told.conditions,
        told_generation=told.observed_generation,
        spec=spec,
        invalid=invalid,
        notes=notes,
        paused=annotations.get(PAUSED) == "true",
        child=child,
        served=ChildStatus() if child is None else _served(child.status),
    )


def _served(status: bytes) -> ChildStatus:
    """What the child's own reconciler tells; what another wrote there, it will write anew."""
    try:
        return msgspec.json.decode(status, type=ChildStatus)
    except msgspec.ValidationError:
        return ChildStatus()
