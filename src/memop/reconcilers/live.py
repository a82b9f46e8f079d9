"""What reconcilers read of a live object: how far its pods are, and what its status says."""

from typing import TypeVar

import msgspec

T = TypeVar("T")
D = TypeVar("D")


class WorkloadCondition(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What is read of a condition of a workload."""

    type: str = ""
    status: str = ""
    message: str = ""
    last_update_time: str = ""


class Rollout(msgspec.Struct, frozen=True, rename="camel"):
    """The part of a workload's status that says how far it is; counts of pods."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    conditions: list[WorkloadCondition] = []

    @property
    def progressed(self) -> str:
        """When a Deployment last came further: once it is rolled out, when that was. "" where it does not say."""
        return next((c.last_update_time for c in self.conditions if c.type == "Progressing"), "")

    @property
    def refusal(self) -> str:
        """Why the API server refuses pods (quota, Pod Security …), in its words; a StatefulSet does not tell."""
        failures = (c.message for c in self.conditions if (c.type, c.status) == ("ReplicaFailure", "True"))
        return next(failures, "")


class LiveCondition(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What is read of a condition in a CR's status; whoever wrote it, nothing is asked of its words."""

    type: str = ""
    status: str = ""
    reason: str = ""
    last_transition_time: str = ""


class LiveStatus(msgspec.Struct, frozen=True, rename="camel"):
    """What the status of a CR says: conditions, and the generation it speaks of."""

    observed_generation: int = 0
    conditions: list[LiveCondition] = []


class _OddStatus(msgspec.Struct, frozen=True, rename="camel"):
    observed_generation: msgspec.Raw = msgspec.Raw(b"0")
    conditions: msgspec.Raw = msgspec.Raw(b"[]")


def read_status(status: bytes) -> LiveStatus:
    """What the status says, without what cannot be read of it: memop writes it anew, and must get as far as that."""
    try:
        return msgspec.json.decode(status, type=LiveStatus)
    except msgspec.ValidationError:
        odd = _read(status, _OddStatus, _OddStatus())
    conditions = (_read(raw, LiveCondition, None) for raw in _read(odd.conditions, list[msgspec.Raw], []))
    return LiveStatus(
        observed_generation=_read(odd.observed_generation, int, 0),
        conditions=[condition for condition in conditions if condition is not None],
    )


def _read(raw: bytes | msgspec.Raw, type_: type[T], otherwise: D) -> T | D:
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError:
        return otherwise
