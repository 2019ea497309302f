"""`evaluate_executor`: what each evaluator says of a result, why one is not scored, and what is refused."""

import math
from typing import Any

import pytest

from aipartnerupflow.executors import ExecutorError
from tasks.executors.evaluate import KINDS, Evaluate, problems, score

Json = dict[str, Any]
CASE: Json = {"inputs": {"who": "Ada"}, "expected": "Hello Ada"}


@pytest.mark.parametrize(
    ("given", "case", "result", "value", "reason"),
    [
        ("exact", CASE, "Hello Ada", True, None),
        ("exact", CASE, "hello Ada", False, None),
        ("exact", {"expected": None}, None, True, None),
        ("exact", {"expected": 1}, True, False, None),
        ("exact", {"expected": 1}, 1.0, True, None),
        ("exact", {"inputs": {}}, "x", None, "The case has no expected value."),
        ({"exact": {"path": "/a~1b/0"}}, {"expected": 7}, {"a/b": [7]}, True, None),
        ({"exact": {"path": "/text"}}, CASE, {"words": []}, False, "The result has no value at /text."),
        ({"expression": "result == expected"}, CASE, "Hello Ada", True, None),
        ({"expression": "length(inputs.who)"}, CASE, None, 3, None),
        ({"expression": "result.label"}, CASE, {"label": "spam"}, "spam", None),
        ({"expression": "result.label"}, CASE, {}, None, "The expression has no value for this result."),
        ({"expression": "result"}, CASE, "It is good.", None, "The expression returned a text, which is no number"),
        ({"expression": "result"}, CASE, "x" * 51, None, "The expression returned a text, which is no number"),
        ({"expression": "result"}, CASE, [1], None, "The expression returned a list, which is no number"),
        ({"expression": "result"}, CASE, {"a": 1}, None, "The expression returned an object, which is no number"),
        ({"expression": "length(result)"}, CASE, 7, None, "The expression cannot be evaluated: "),
        ({"schema": {"type": "string"}}, CASE, "x", True, None),
        ({"schema": {"required": ["a"]}}, CASE, {}, False, ""),
    ],
)
def test_an_evaluator_scores_or_says_why_not(
    given: Any, case: Json, result: Any, value: Any, reason: str | None
) -> None:
    found = score(given, case, result)
    assert found["value"] == value and type(found["value"]) is type(value)
    if reason is None:
        assert found.keys() == {"value"}
    else:
        assert found["reason"].startswith(reason) and len(found["reason"]) <= 150


def test_a_number_that_json_does_not_have_is_no_score() -> None:
    assert score({"expression": "result"}, CASE, math.inf)["value"] is None


@pytest.mark.parametrize(
    ("evaluators", "place", "reason"),
    [
        ("exact", "e", "must be a list of at most 10"),
        ([{"name": "a", "with": "exact"}] * 11, "e", "must be a list of at most 10"),
        (["exact"], "e[0]", "must be an object"),
        ([{"with": "exact"}], "e[0].name", "must have 1 to 64"),
        ([{"name": "a b", "with": "exact"}], "e[0].name", "must have 1 to 64"),
        ([{"name": "a", "with": "exact"}, {"name": "a", "with": "exact"}], "e[1].name", "'a' is the name of another"),
        ([{"name": "a", "with": "exact", "by": 1}], "e[0].by", "is not known"),
        ([{"name": "a"}], "e[0].with", "must be 'exact', or an object"),
        ([{"name": "a", "with": {"exact": {}, "schema": {}}}], "e[0].with", "must be 'exact', or an object"),
        ([{"name": "a", "with": {"exact": {"path": "text"}}}], "e[0].with.exact", "must be an object with `path`"),
        ([{"name": "a", "with": {"exact": "/text"}}], "e[0].with.exact", "must be an object with `path`"),
        ([{"name": "a", "with": {"expression": 7}}], "e[0].with.expression", "must be an expression"),
        ([{"name": "a", "with": {"expression": "a["}}], "e[0].with.expression", "is not a JMESPath expression"),
        ([{"name": "a", "with": {"schema": True}}], "e[0].with.schema", "must be a JSON Schema"),
        ([{"name": "a", "with": {"schema": {"type": "txt"}}}], "e[0].with.schema", "is no JSON Schema"),
    ],
)
def test_evaluators_that_cannot_work_are_refused_by_their_place(evaluators: Any, place: str, reason: str) -> None:
    (found,) = problems(evaluators, "e", kinds=KINDS)
    assert found[0] == place and found[1].startswith(reason)
    with pytest.raises(ExecutorError, match=r"^inputs\.evaluators"):
        Evaluate().check_with_inputs({}, {"evaluators": evaluators})
