"""Budgets: what is a valid one, when it is used up, and what is said then."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.budgets import MEASURES, Spent, budget_of, described, problems, refusal, used_up
from tasks.rules.exceptions import InvalidParams
from tasks.rules.specs import parse_tree
from tasks.rules.token_usage import NANOS, Spending

AMOUNTS = st.integers(0, 10**6)
SPENT = st.builds(Spent, tokens=AMOUNTS, cost_nanos=AMOUNTS, seconds=AMOUNTS.map(float), tasks=AMOUNTS)
LIMITS = st.dictionaries(st.sampled_from(MEASURES), st.integers(1, 10**6), min_size=1)


@pytest.mark.parametrize(
    "budget",
    [{"tokens": 1}, {"tokens": 5.0}, {"cost_usd": 0.001}, {"seconds": 0.5, "tasks": 3, "on_exceeded": "fail"}],
)
def test_valid_budgets(budget: dict[str, Any]) -> None:
    assert list(problems(budget, "budget")) == []


@pytest.mark.parametrize(
    ("budget", "path", "reason"),
    [
        (5, "budget", "must be an object with tokens, cost_usd, seconds, tasks, on_exceeded"),
        ({}, "budget", "must have at least one limit"),
        ({"on_exceeded": "fail"}, "budget", "must have at least one limit"),
        ({"token": 5}, "budget.token", "is not known; a budget has tokens, cost_usd"),
        ({"tokens": 0}, "budget.tokens", "must be a whole number above 0"),
        ({"tokens": 1.5}, "budget.tokens", "must be a whole number"),
        ({"tasks": True}, "budget.tasks", "must be a whole number"),
        ({"cost_usd": -1}, "budget.cost_usd", "must be a number above 0"),
        ({"seconds": "10"}, "budget.seconds", "must be a number above 0"),
        ({"seconds": float("nan")}, "budget.seconds", "must be a number above 0"),
        ({"cost_usd": 1e300}, "budget.cost_usd", "up to 1,000,000,000,000"),
        ({"tokens": None}, "budget.tokens", "must be a whole number"),
        ({"tokens": 1, "on_exceeded": "stop"}, "budget.on_exceeded", "must be 'fail' or 'ask'"),
    ],
)
def test_what_is_no_budget_is_refused_by_name(budget: Any, path: str, reason: str) -> None:
    assert any((field, reason in why) == (path, True) for field, why in problems(budget, "budget"))


def test_only_the_root_has_one() -> None:
    limited = {"budget": {"tokens": 5}}
    tree = [{"id": "a", "name": "a", "params": limited}, {"name": "b", "parent_id": "a", "params": limited}]
    with pytest.raises(InvalidParams, match="only for the root"):
        parse_tree(tree, executors=())
    assert parse_tree(tree[:1], executors=()).tasks[0].params == limited


@given(limits=LIMITS, spent=SPENT)
def test_a_budget_is_used_up_when_nothing_is_left_of_a_measure(limits: dict[str, float], spent: Spent) -> None:
    measure = used_up(limits, spent)
    assert (measure is None) == all(spent.of(each) < limit for each, limit in limits.items())
    if measure is not None:
        assert f"params.budget.{measure}" in refusal(measure, limits, spent)


@given(spent=SPENT, calls=st.lists(st.builds(Spending, st.just(""), AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.just(0))))
def test_every_call_counts_and_survives_storage(spent: Spent, calls: list[Spending]) -> None:
    after = spent
    for call in calls:
        after = Spent.read(after.with_call(call).stored())
    assert after.tokens == spent.tokens + sum(call.total_tokens for call in calls)
    assert after.cost_nanos == spent.cost_nanos + sum(call.cost_nanos for call in calls)
    assert (after.seconds, after.tasks) == (spent.seconds, spent.tasks)


@pytest.mark.parametrize(
    ("measure", "spent", "allowed", "text"),
    [
        ("cost_usd", 5.02, 5, "5.02 of 5.00 USD"),
        ("cost_usd", 0.00015, 0.0001, "0.000150 of 0.000100 USD"),
        ("cost_usd", 0, 1234.5, "0.00 of 1,234.50 USD"),
        ("tokens", 51200, 50000, "51,200 of 50,000 tokens"),
        ("seconds", 61.26, 60, "61.3 of 60.0 seconds"),
        ("tasks", 3, 3, "3 of 3 tasks"),
    ],
)
def test_amounts_in_words(measure: str, spent: float, allowed: float, text: str) -> None:
    assert described(measure, spent, allowed) == text


def test_without_params_there_is_no_budget() -> None:
    assert budget_of(None) == budget_of({}) == budget_of({"budget": None}) == {}
    assert budget_of({"budget": {"tokens": 5, "on_exceeded": "fail"}}) == {"tokens": 5}
    assert Spent(cost_nanos=2 * NANOS).of("cost_usd") == 2.0
