"""Conditions keep their time until their status changes."""

from dataclasses import dataclass

from memop.api.conditions import Condition, DesiredCondition, merge_conditions

EARLIER = "2026-01-01T00:00:00Z"
NOW = "2026-01-02T00:00:00Z"


@dataclass(frozen=True)
class Told:
    """A live condition of any make."""

    type: str = ""
    status: str = ""
    last_transition_time: str = ""


def live(type_: str, status: str = "True", reason: str = "Reason") -> Condition:
    return Condition.model_validate(
        {"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": EARLIER}
    )


def desired(type_: str, status: str = "True", **fields: object) -> DesiredCondition:
    return DesiredCondition.model_validate(
        {"type": type_, "status": status, "reason": "Reason", "message": "", **fields}
    )


def test_a_new_condition_gets_the_time_now() -> None:
    (merged,) = merge_conditions([], [desired("Ready")], NOW)
    assert merged.last_transition_time == NOW


def test_a_changed_status_moves_the_time() -> None:
    (merged,) = merge_conditions([live("Ready", "False")], [desired("Ready", "True")], NOW)
    assert (merged.status, merged.last_transition_time) == ("True", NOW)


def test_other_changes_leave_the_time_alone() -> None:
    changed = desired("Ready", reason="Other", message="new words", observedGeneration=7)
    (merged,) = merge_conditions([live("Ready")], [changed], NOW)
    assert merged.model_dump() == {
        "type": "Ready",
        "status": "True",
        "reason": "Other",
        "message": "new words",
        "observedGeneration": 7,
        "lastTransitionTime": EARLIER,
    }


def test_only_the_desired_conditions_are_returned_in_their_order() -> None:
    merged = merge_conditions([live("Foreign"), live("Ready")], [desired("Ready"), desired("Available")], NOW)
    assert [condition.type for condition in merged] == ["Ready", "Available"]


def test_merging_again_changes_nothing() -> None:
    wanted = [desired("Ready", "False"), desired("Degraded", "Unknown")]
    once = merge_conditions([], wanted, EARLIER)
    assert merge_conditions(once, wanted, NOW) == once


def test_whatever_tells_type_status_and_time_is_merged() -> None:
    (merged,) = merge_conditions([Told("Ready", "True", EARLIER), Told()], [desired("Ready")], NOW)
    assert merged.last_transition_time == EARLIER


def test_a_live_condition_without_a_time_gets_the_time_now() -> None:
    (merged,) = merge_conditions([Told("Ready", "True")], [desired("Ready")], NOW)
    assert merged.last_transition_time == NOW
