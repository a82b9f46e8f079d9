"""Status conditions, as `metav1.Condition` defines them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from memop.api.base import Model

# Both patterns are metav1.Condition's own.
TYPE_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"

MAX_MESSAGE = 32768  # characters; the API server refuses a status with a longer one

ConditionStatus = Literal["True", "False", "Unknown"]

Problem = tuple[str, str]
"""The reason and message of a condition."""


class Condition(Model):
    """A condition as it stands in an object's status."""

    type: str = Field(
        description="What the condition is about, in CamelCase. Required.", max_length=316, pattern=TYPE_PATTERN
    )
    status: ConditionStatus = Field(description="Whether the condition holds: True, False or Unknown. Required.")
    reason: str = Field(
        description="Why the condition last changed, in one CamelCase word for programs. Required.",
        min_length=1,
        max_length=1024,
        pattern=REASON_PATTERN,
    )
    message: str = Field(description="The same for people; may be empty. Required.", max_length=MAX_MESSAGE)
    observed_generation: int | None = Field(
        default=None,
        description="The metadata.generation the condition speaks of. Default: none.",
        ge=0,
        json_schema_extra={"format": "int64"},
    )
    last_transition_time: str = Field(
        description="When the status last changed, RFC 3339. Required.", json_schema_extra={"format": "date-time"}
    )


@dataclass(frozen=True, slots=True)
class DesiredCondition:
    """A condition as a reconciler states it: all but the time, which depends on what the live object says."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    observed_generation: int


class Told(Protocol):
    """What of a live condition decides the time of the next one; no time at all is ""."""

    @property
    def type(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def last_transition_time(self) -> str: ...


def merge_conditions(live: Iterable[Told], desired: Iterable[DesiredCondition], now: str) -> list[dict[str, Any]]:
    """The desired conditions in wire form and order, with their times: `now` (RFC 3339) where the status changed.

    Live conditions that are not desired are left out: under server-side apply a writer states its own and no others,
    and what it no longer states goes away.
    """
    before = {condition.type: condition for condition in live}
    merged = []
    for condition in desired:
        old = before.get(condition.type)
        time = old.last_transition_time if old is not None and old.status == condition.status else ""
        merged.append(
            {
                "type": condition.type,
                "status": condition.status,
                "reason": condition.reason,
                "message": _fitting(condition.message),
                "observedGeneration": condition.observed_generation,
                "lastTransitionTime": time or now,
            }
        )
    return merged


def _fitting(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"
