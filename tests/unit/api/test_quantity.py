"""What is a quantity, and what could keep memop busy for minutes."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memop.api.quantity import MIB, quantity


@pytest.mark.parametrize(
    ("given", "exact"),
    [
        ("64Mi", 64 * MIB),
        (64, 64),
        ("1.5", Decimal("1.5")),
        (".5", Decimal("0.5")),
        ("5.", 5),
        ("500m", Decimal("0.5")),
        ("100u", Decimal("0.0001")),
        ("1e9", 10**9),
        ("1E9", 10**9),
        ("1E", 10**18),
        ("-1k", -1000),
        ("1Ei", 1024**6),
        ("1e5k", None),
        ("1ki", None),
        ("1K", None),
        ("", None),
        ("Mi", None),
        ("NaN", None),
        ("Infinity", None),
        ("1_000", None),
        (" 1", None),
        (True, None),
        (None, None),
        ({}, None),
        ("1e999999999", None),
        ("9" * 100, None),
    ],
)
def test_a_quantity_is_exact_or_none(given: object, exact: Decimal | int | None) -> None:
    assert quantity(given) == exact


@given(
    st.one_of(st.text(), st.from_regex(r"[-+]?[0-9.]{0,120}([eE][-+]?[0-9]{0,12})?[numkMGTPEi]{0,3}", fullmatch=True))
)
def test_no_text_is_too_odd_and_every_number_can_be_reckoned_with(text: str) -> None:
    exact = quantity(text)
    assert exact is None or (exact * 2 - exact == exact and exact.is_finite())
