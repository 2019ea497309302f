"""Scores a result: by comparison with what was expected, by expressions in JMESPath, by JSON Schemas, and by models, flows and functions."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Spawn
from tasks.executors import judging
from tasks.executors.transform import CannotEvaluate, Work
from tasks.rules.conditions import ABSENT, is_equal, value_at
from tasks.rules.schema import TooCostly, check_cost, fault, is_light, mismatch

ID: Final = "evaluate_executor"
MOST: Final = 10
"""The number of evaluators."""
NAME: Final = re.compile("[A-Za-z0-9_.-]{1,64}")
CATEGORY: Final = re.compile(judging.CATEGORY)
LONGEST_REASON: Final = 150
LONGEST_EXPRESSION: Final = 10_000
ASKING: Final = ("judge", "flow", "workflow", "function")
"""The evaluators that tasks carry out."""
KINDS: Final = ("exact", "expression", "schema", *ASKING)
"""The evaluators that look at one result."""
COMPARING: Final = ("pair_judge", "person")
"""The evaluators that look at the results of all versions."""
FIELDS: Final = ("name", "with", "better")
HIGHER: Final = "higher"
LOWER: Final = "lower"
RULE: Final = "must be 'exact', or an object with one of {kinds}"
NO_EXPECTED: Final = "The case has no expected value."
NO_VALUE: Final = "{source} has no value for this result."
PROSE: Final = (
    "{source} returned {what}, which is no number, no boolean and no category: a word of at most 50 characters."
)
TOO_LONG: Final = "The result is too long for the schema."
Problem = tuple[str, str]


class NotScored(Exception):
    """An evaluator has no score for a result. The message says why."""


class Evaluate(Executor):
    """Returns the score of each evaluator, and a reason where there is none: it does not fail because of one of them.

    Models, flows and functions that score are tasks below it.
    """

    id = ID
    name = "Evaluate"
    description = (
        "Scores a result: whether it equals what is expected, whether it fits a JSON Schema, what an expression in JMESPath "
        "says of it, or how a model, a flow or a function judges it. Experiments consist of it (`evals.run`)."
    )
    tags = ("core", "data")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "evaluators": {
                "type": "array",
                "items": {"type": "object"},
                "maxItems": MOST,
                "description": "Each has a `name`, and `with`: `exact`, or an object with one of `exact`, `expression`, `schema`, `judge`, `flow`, `workflow` and `function`; and `better`: `higher` or `lower`",
            },
            "result": {"description": "The value that is scored"},
            "case": {"type": "object", "description": "The `inputs` that led to the result, and what is `expected`"},
        },
        "required": ["evaluators", "result"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {
                "value": {"description": "A number, a boolean or a category; null if it was not scored"},
                "reason": {"type": "string", "description": "Why the value is false or null, or why the judge gave it"},
            },
            "required": ["value"],
        },
    }
    verbatim = frozenset({"evaluators"})
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {
        "evaluators": [
            {"name": "accuracy", "with": {"exact": {"path": "/text"}}},
            {"name": "length", "with": {"expression": "length(result.text)"}},
        ],
        "case": {"inputs": {"who": "Ada"}, "expected": "Hello Ada"},
        "result": {"text": "Hello Ada"},
    }
    example_result: ClassVar[Json] = {"accuracy": {"value": True}, "length": {"value": 9}}
    pool = "process"

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse evaluators that cannot work."""
        for place, reason in problems(inputs.get("evaluators"), "inputs.evaluators", kinds=KINDS):
            raise ExecutorError(f"{place} {reason}.")

    async def execute(self, inputs: Json, context: Context) -> Json | Spawn:
        case, result = inputs.get("case") or {}, inputs["result"]
        asked = {each["name"]: kind_of(each["with"]) for each in inputs["evaluators"] if is_of(each, *ASKING)}
        if context.reply is not None:
            scores: Json = context.reply.memo
            ends = context.reply.answer
            return scores | {name: _answered(kind, ends.get(name)) for name, (kind, _) in asked.items()}
        scores = {
            each["name"]: score(each["with"], case, result)
            for each in inputs["evaluators"]
            if each["name"] not in asked
        }
        if not asked:
            return scores
        tasks = [judging.asking_task(name, kind, given, case, result) for name, (kind, given) in asked.items()]
        return Spawn(tasks=tasks, again=True, memo=scores, executors=judging.EXECUTORS)


def is_of(evaluator: Json, *kinds: str) -> bool:
    """Return whether the evaluator, which has been checked, is of one of these kinds."""
    return kind_of(evaluator["with"])[0] in kinds


def score(given: Any, case: Json, result: Any) -> Json:
    """Return `{value}`, with a `reason` where one is known, of the `with` of an evaluator."""
    kind, what = kind_of(given)
    try:
        return SCORES[kind](what, case, result)
    except NotScored as error:
        return {"value": None, "reason": str(error)[:LONGEST_REASON]}


def problems(evaluators: object, place: str, *, kinds: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with a list of evaluators of these kinds."""
    if not isinstance(evaluators, list) or len(evaluators) > MOST:
        yield place, f"must be a list of at most {MOST} evaluators"
        return
    names = set[str]()
    for number, each in enumerate(evaluators):
        at = f"{place}[{number}]"
        if not isinstance(each, dict):
            yield at, "must be an object with `name` and `with`"
            continue
        for field in sorted(each.keys() - set(FIELDS)):
            yield f"{at}.{field[:100]}", f"is not known; an evaluator has {', '.join(FIELDS)}"
        name = each.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"{at}.name", "must have 1 to 64 letters, digits, '_', '-' and '.'"
        elif name in names:
            yield f"{at}.name", f"'{name}' is the name of another evaluator"
        else:
            names.add(name)
        if each.get("better", HIGHER) not in (HIGHER, LOWER):
            yield f"{at}.better", f"must be {HIGHER} or {LOWER}"
        yield from _problems_of_kind(each.get("with"), f"{at}.with", kinds)


def _problems_of_kind(given: object, place: str, kinds: Sequence[str]) -> Iterator[Problem]:
    if given == "exact" and "exact" in kinds:
        return
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in kinds:
        yield place, RULE.format(kinds=", ".join(kinds))
        return
    kind, what = kind_of(given)
    at = f"{place}.{kind}"
    if kind == "exact":
        path = what.get("path") if isinstance(what, dict) and len(what) == 1 else None
        if not isinstance(path, str) or (path and not path.startswith("/")):
            yield at, "must be an object with `path`, a JSON Pointer into the result such as /text"
    elif kind == "expression":
        if not isinstance(what, str) or not 1 <= len(what) <= LONGEST_EXPRESSION:
            yield at, f"must be an expression in JMESPath, a text of 1 to {LONGEST_EXPRESSION:,} characters"
        else:
            yield from _problems_of_expression(what, at)
    elif kind in judging.FIELDS:
        if problem := judging.fault(kind, what):
            yield at, problem
        elif kind == "person" and "only_if" in what:
            yield from _problems_of_expression(what["only_if"], f"{at}.only_if")
    elif not isinstance(what, dict):
        yield at, "must be a JSON Schema: an object"
    elif problem := fault(what):
        yield at, f"is no JSON Schema: {problem}"
    else:
        try:
            check_cost(what)
        except TooCostly as error:
            yield at, str(error)


def _problems_of_expression(expression: str, place: str) -> Iterator[Problem]:
    try:
        Work().parsed(expression, "")
    except CannotEvaluate as error:
        yield place, error.why


def kind_of(given: Any) -> tuple[str, Any]:
    """Return the kind of an evaluator, which has been checked, and what it is made with."""
    if given == "exact":
        return "exact", {"path": ""}
    ((kind, what),) = given.items()
    return kind, what


def _exact(given: Json, case: Json, result: Any) -> Json:
    if "expected" not in case:
        raise NotScored(NO_EXPECTED)
    found = value_at(given["path"], result)
    if found is ABSENT:
        return {"value": False, "reason": f"The result has no value at {given['path']}."[:LONGEST_REASON]}
    return {"value": is_equal(found, case["expected"])}


def _expression(given: str, case: Json, result: Any) -> Json:
    values = {"inputs": case.get("inputs"), "expected": case.get("expected"), "result": result}
    try:
        value = Work().value_of(given, values, "")
    except CannotEvaluate as error:
        raise NotScored(f"The expression {error.why}.") from None
    return _valued(value, source="The expression")


def _answered(kind: str, end: Json | None) -> Json:
    """Return the score in what a task returned: the value, or an object with `value` and perhaps `reason`. `end` says how the task ended."""
    if kind == "judge":
        return judging.judged(end)
    if end is None or end["status"] != "completed":
        return {"value": None, "reason": ((end or {}).get("error") or judging.NO_ANSWER)[: judging.LONGEST_REASON]}
    found = end["result"]
    has_reason = isinstance(found, dict) and "value" in found and found.keys() <= {"value", "reason"}
    value, reason = (found["value"], found.get("reason")) if has_reason else (found, None)
    try:
        score = _valued(value, source=f"The {kind}")
    except NotScored as error:
        return {"value": None, "reason": str(error)[:LONGEST_REASON]}
    return score | ({"reason": reason[: judging.LONGEST_REASON]} if isinstance(reason, str) else {})


def _valued(value: Any, *, source: str) -> Json:
    """Return the score that a value is. Raises NotScored."""
    if value is None:
        raise NotScored(NO_VALUE.format(source=source))
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if is_number or (isinstance(value, str) and CATEGORY.fullmatch(value)):
        return {"value": value}
    what = "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"
    raise NotScored(PROSE.format(source=source, what=what))


def _schema(given: Json, case: Json, result: Any) -> Json:
    if not is_light(given, result):
        raise NotScored(TOO_LONG)
    problem = mismatch(given, result)
    return {"value": True} if problem is None else {"value": False, "reason": problem[:LONGEST_REASON]}


SCORES: Final[Mapping[str, Callable[[Any, Json, Any], Json]]] = {
    "exact": _exact,
    "expression": _expression,
    "schema": _schema,
}
