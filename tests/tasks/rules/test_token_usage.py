"""What executors report about calls of models, and how it is stored."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.token_usage import MOST, NANOS, Spending, dollars, spending_of

ANYTHING = (
    st.none() | st.booleans() | st.text(max_size=3) | st.integers() | st.floats() | st.lists(st.integers(), max_size=2)
)


@pytest.mark.parametrize(
    ("usage", "spending"),
    [
        ({}, Spending("", 0, 0, 0, 0, 1)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, Spending("", 3, 4, 7, 0, 1)),
        ({"total_tokens": 9, "cost_usd": 0, "model": "demo/x"}, Spending("demo/x", 0, 0, 9, 0, 0)),
        ({"prompt_tokens": 1, "total_tokens": 1, "cost_usd": 0.000_000_15}, Spending("", 1, 0, 1, 150, 0)),
        ({"prompt_tokens": "many", "cost_usd": "much", "model": 3}, Spending("", 0, 0, 0, 0, 1)),
        ({"prompt_tokens": -5, "cost_usd": -1.0}, Spending("", 0, 0, 0, 0, 1)),
        ({"prompt_tokens": True, "cost_usd": True}, Spending("", 0, 0, 0, 0, 1)),
        ({"prompt_tokens": 1e300, "cost_usd": 1e300}, Spending("", MOST, 0, MOST, MOST, 0)),
        ({"completion_tokens": math.nan, "cost_usd": math.inf}, Spending("", 0, 0, 0, 0, 1)),
    ],
)
def test_a_report_becomes_numbers(usage: dict[str, Any], spending: Spending) -> None:
    assert spending_of(usage) == spending


@given(
    st.dictionaries(
        st.sampled_from(["model", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd"]), ANYTHING
    )
)
def test_every_report_can_be_stored(usage: dict[str, Any]) -> None:
    model, *numbers = spending_of(usage)
    assert isinstance(model, str)
    assert all(type(number) in (int, bool) and 0 <= number <= 2 * MOST < 2**63 for number in numbers)


@given(st.integers(0, 10**6))
def test_a_cost_survives_storage(micros: int) -> None:
    cost = micros / 1_000_000
    assert dollars(spending_of({"cost_usd": cost}).cost_nanos) == pytest.approx(cost, abs=1 / NANOS)
