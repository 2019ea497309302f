"""Conditions: what holds of which results, what is refused, and how they are described."""

from typing import Any

import pytest

from tasks.rules.conditions import (
    ABSENT,
    ALWAYS,
    DEEPEST,
    MOST_COMPARED,
    NEVER,
    TooMuchToCompare,
    decided,
    described,
    holds,
    problems,
    renamed,
    tasks_in,
    value_at,
)
from tasks.rules.references import renamed_params

Json = dict[str, Any]
RESULTS: Json = {
    "review": {"score": 0.7, "tags": ["a", {"b": 1}], "text": "good work", "none": None, "list": [], "yes": True, "a/b": 1},
    "plain": "yes",
}  # fmt: skip


def about(path: str, op: str, *value: Any, task: str = "review") -> Json:
    return {"task": task, "path": path, "op": op} | ({"value": value[0]} if value else {})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (about("/score", "eq", 0.7), True),
        (about("/score", "ne", 0.7), False),
        (about("/score", "lt", 1), True),
        (about("/score", "le", 0.7), True),
        (about("/score", "gt", 0.7), False),
        (about("/score", "ge", "0.1"), False),  # a number is not compared with a text
        (about("/text", "gt", "a"), True),
        (about("/yes", "eq", 1), False),
        (about("/yes", "eq", True), True),
        (about("/yes", "ge", 0), False),
        (about("/score", "in", [1, 0.7]), True),
        (about("/score", "in", []), False),
        (about("/tags", "contains", "a"), True),
        (about("/tags", "contains", {"b": 1}), True),
        (about("/text", "contains", "work"), True),
        (about("/text", "contains", 1), False),
        (about("", "contains", "score"), True),
        (about("/tags/1/b", "eq", 1), True),
        (about("/a~1b", "eq", 1), True),
        (about("/none", "exists"), True),
        (about("/missing", "exists"), False),
        (about("/tags/2", "exists"), False),
        (about("/text/x", "exists"), False),
        (about("/none", "empty"), True),
        (about("/list", "empty"), True),
        (about("/missing", "empty"), True),
        (about("/missing", "ne", 1), False),
        (about("/yes", "empty"), False),
        (about("", "eq", "yes", task="plain"), True),
        ({"task": "plain", "op": "exists"}, True),
        (about("", "exists", task="failed"), False),
        ({"all": [about("/score", "gt", 0), about("/yes", "eq", True)]}, True),
        ({"all": [about("/score", "gt", 0), about("/yes", "eq", False)]}, False),
        ({"any": [about("/score", "gt", 1), about("/yes", "eq", True)]}, True),
        ({"not": about("/yes", "eq", True)}, False),
        ({"all": []}, True),
        ({"any": []}, False),
    ],
)
def test_a_condition_holds(condition: Json, expected: bool) -> None:
    assert list(problems(condition, "when")) == []
    assert holds(condition, RESULTS) is expected


@pytest.mark.parametrize(
    ("condition", "place"),
    [
        ("yes", "when"),
        ({}, "when"),
        ({"task": "a", "op": "eq", "value": 1, "not": {}}, "when"),
        ({"task": 1, "op": "exists"}, "when.task"),
        ({"task": "a", "op": "like", "value": 1}, "when.op"),
        ({"task": "a", "op": "eq"}, "when.value"),
        ({"task": "a", "op": "exists", "value": 1}, "when.value"),
        ({"task": "a", "op": "in", "value": "abc"}, "when.value"),
        ({"task": "a", "op": "eq", "value": 1, "path": "score"}, "when.path"),
        ({"task": "a", "op": "eq", "value": 1, "paht": "/score"}, "when.paht"),
        ({"any": {"task": "a"}}, "when.any"),
        ({"all": [{"task": "a", "op": "no"}]}, "when.all[0].op"),
        ({"not": {"any": [3]}}, "when.not.any[0]"),
        ({"not": {"task": "a", "op": "exists"}, "x": 1}, "when.x"),
    ],
)
def test_a_fault_is_named_with_its_place(condition: object, place: str) -> None:
    assert [where for where, _ in problems(condition, "when")] == [place]


def test_conditions_are_limited() -> None:
    deep: Json = {"task": "a", "op": "exists"}
    for _ in range(DEEPEST):
        deep = {"not": deep}
    assert "inside each other" in dict(problems(deep, "when"))["when"]
    wide = {"any": [{"task": "a", "op": "exists"}] * 100}
    assert "100" in dict(problems(wide, "when"))["when"]


def test_what_a_task_looks_through_is_limited() -> None:
    asked = {"task": "many", "op": "contains", "value": -1}
    results = {"many": list(range(MOST_COMPARED // 2))}
    assert holds({"any": [asked, asked]}, results) is False
    with pytest.raises(TooMuchToCompare, match="transform_executor"):
        holds({"any": [asked, asked, asked]}, results)


def test_what_is_inside_of_values_counts() -> None:
    rows, text = [[0] * 1_000] * 10, "x" * MOST_COMPARED * 100
    results = {"rows": rows, "text": text}
    for operator, value in (("contains", [1] * 1_000), ("in", rows), ("eq", rows), ("contains", "y")):
        asked = {"task": "text" if value == "y" else "rows", "op": operator, "value": value}
        holds({"any": [asked] * 5}, results)
        with pytest.raises(TooMuchToCompare):
            holds({"all": [{"not": asked} if not holds(asked, results) else asked] * 20}, results)


def test_a_number_of_thousands_of_digits_is_no_index() -> None:
    assert value_at(f"/{'9' * 5_000}", [1]) is ABSENT


def test_tasks_are_found_and_renamed() -> None:
    condition = {"all": [{"task": "a", "op": "exists"}, {"not": {"any": [{"task": "b", "op": "empty"}]}}]}
    assert sorted(tasks_in(condition)) == ["a", "b"]
    assert sorted(tasks_in(renamed(condition, {"a": "c"}))) == ["b", "c"]
    assert renamed_params({"when": condition, "x": "{{a.y}}"}, {"a": "c"})["x"] == "{{c.y}}"  # type: ignore[index]


def test_what_asks_about_tasks_that_are_gone_is_decided() -> None:
    condition = {"all": [about("/score", "gt", 0), {"not": about("", "exists", task="plain")}]}
    assert decided(condition, RESULTS, gone={"plain"}) == {"all": [about("/score", "gt", 0), {"not": ALWAYS}]}
    assert decided(about("", "exists", task="lost"), RESULTS, gone={"lost"}) == NEVER


def test_a_description_has_no_values() -> None:
    condition = {"any": [about("/score", "ge", "secret"), {"not": about("", "exists", task="plain")}]}
    assert described(condition) == "(/score of 'review' is at least the value) or (not ('plain' exists))"
