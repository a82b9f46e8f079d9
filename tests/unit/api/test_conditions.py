"""Conditions keep their time until their status changes."""

from dataclasses import dataclass

from memop.api.conditions import Condition, ConditionStatus, DesiredCondition, merge_conditions

EARLIER = "2026-01-01T00:00:00Z"
NOW = "2026-01-02T00:00:00Z"


@dataclass(frozen=True)
class Told:
    """A live condition of any make."""

    type: str = ""
    status: str = ""
    last_transition_time: str = ""


def live(type_: str, status: str = "True") -> Told:
    return Told(type_, status, EARLIER)


def desired(
    type_: str, status: ConditionStatus = "True", reason: str = "Reason", message: str = ""
) -> DesiredCondition:
    return DesiredCondition(type_, status, reason, message, 7)


def test_a_new_condition_gets_the_time_now() -> None:
    (merged,) = merge_conditions([], [desired("Ready")], NOW)
    assert merged["lastTransitionTime"] == NOW


def test_a_changed_status_moves_the_time() -> None:
    (merged,) = merge_conditions([live("Ready", "False")], [desired("Ready", "True")], NOW)
    assert (merged["status"], merged["lastTransitionTime"]) == ("True", NOW)


def test_other_changes_leave_the_time_alone() -> None:
    (merged,) = merge_conditions([live("Ready")], [desired("Ready", reason="Other", message="new words")], NOW)
    assert merged == {
        "type": "Ready",
        "status": "True",
        "reason": "Other",
        "message": "new words",
        "observedGeneration": 7,
        "lastTransitionTime": EARLIER,
    }


def test_what_is_merged_is_a_condition() -> None:
    (merged,) = merge_conditions([], [desired("Ready")], NOW)
    assert Condition.model_validate(merged).model_dump() == merged


def test_only_the_desired_conditions_are_returned_in_their_order() -> None:
    merged = merge_conditions([live("Foreign"), live("Ready")], [desired("Ready"), desired("Available")], NOW)
    assert [condition["type"] for condition in merged] == ["Ready", "Available"]


def test_merging_again_changes_nothing() -> None:
    wanted = [desired("Ready", "False"), desired("Degraded", "Unknown")]
    once = merge_conditions([], wanted, EARLIER)
    told = [Condition.model_validate(condition) for condition in once]
    assert merge_conditions(told, wanted, NOW) == once


def test_a_live_condition_without_a_time_or_any_other_field_gets_the_time_now() -> None:
    (merged,) = merge_conditions([Told("Ready", "True"), Told()], [desired("Ready")], NOW)
    assert merged["lastTransitionTime"] == NOW


def test_a_message_is_cut_to_what_the_api_takes() -> None:
    [told] = merge_conditions([], [DesiredCondition("Degraded", "True", "InvalidSpec", "é" * 40000, 1)], NOW)
    assert (len(told["message"]), told["message"][-2:]) == (32768, "é…")
    Condition.model_validate(told)
