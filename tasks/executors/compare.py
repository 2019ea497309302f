"""Scores the results of several versions beside each other: by a model that says which of two is better, and by a person."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Spawn
from tasks.executors import judging
from tasks.executors.evaluate import COMPARING, MOST, is_of, problems
from tasks.executors.transform import CannotEvaluate, Work

ID: Final = "compare_executor"
MOST_RESULTS: Final = 2
NEEDS_TWO: Final = "needs two results, and there is one"
NOT_ASKED: Final = "No person was asked: only_if is not true."
WAITS: Final = "A person has not answered yet."


class Compare(Executor):
    """Returns, for each result, the score of each evaluator. Models that judge are tasks below it, and so are questions to people.

    It does not wait for people, so that a map, whose item it is, continues: their scores are in the results of their tasks.
    """

    id = ID
    name = "Compare"
    description = (
        "Scores results beside each other: a model says which of two is better, in both orders, and a person answers a question "
        "about them. Experiments consist of it (`evals.run`)."
    )
    tags = ("core", "data")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "evaluators": {
                "type": "array",
                "items": {"type": "object"},
                "minItems": 1,
                "maxItems": MOST,
                "description": "Each has a `name`, and `with`: an object with `pair_judge` or `person`",
            },
            "results": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_RESULTS,
                "description": "The results, in their order",
            },
            "scores": {
                "type": "array",
                "items": {"type": "object"},
                "description": "The result of `evaluate_executor` for each result, for `only_if`",
            },
            "case": {"type": "object", "description": "The `inputs` that led to the results, and what is `expected`"},
        },
        "required": ["evaluators", "results"],
    }
    result_schema: ClassVar[Json] = {
        "type": "array",
        "items": {"type": "object"},
        "description": "For each result the scores by name, as `evaluate_executor` has them; `order` is that in which a person sees the results",
    }
    verbatim = frozenset({"evaluators"})
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {
        "evaluators": [{"name": "kinder", "with": {"pair_judge": {"rubric": "Which greeting is kinder?"}}}],
        "case": {"inputs": {"who": "Ada"}},
        "results": ["Hello Ada", "Ada!"],
    }
    example_result: ClassVar[Any] = [
        {"kinder": {"value": 1.0, "reason": "It greets."}},
        {"kinder": {"value": 0.0, "reason": "It greets."}},
    ]
    pool = "process"

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse evaluators that cannot work."""
        given, results = inputs.get("evaluators"), inputs.get("results")
        for place, reason in problems(given, "inputs.evaluators", kinds=COMPARING):
            raise ExecutorError(f"{place} {reason}.")
        if isinstance(given, list) and isinstance(results, list) and len(results) < MOST_RESULTS:
            for each in given:
                if judging.needs_two(each["with"]):
                    raise ExecutorError(f"inputs.evaluators: '{each['name']}' {NEEDS_TWO}.")

    async def execute(self, inputs: Json, context: Context) -> list[Json] | Spawn:
        case, results = inputs.get("case") or {}, inputs["results"]
        pairs = {each["name"]: each["with"]["pair_judge"] for each in inputs["evaluators"] if is_of(each, "pair_judge")}
        people = {each["name"]: each["with"]["person"] for each in inputs["evaluators"] if is_of(each, "person")}
        if pairs and context.reply is None:
            asked = [judging.pair_tasks(name, given, case, results) for name, given in pairs.items()]
            return Spawn(tasks=[task for both in asked for task in both], again=True)
        found: list[Json] = [{} for _ in results]
        for name in pairs:
            _add(found, name, judging.preferred(name, context.reply.answer if context.reply else {}))
        scores = [before | own for before, own in zip(inputs.get("scores") or [{}] * len(results), found, strict=True)]
        tasks = list[Json]()
        for name, given in people.items():
            if (reason := _reason_not_to_ask(given, case, results, scores)) is None:
                order = judging.drawn_order(len(results))
                tasks.append(judging.person_task(name, given, case, results, order))
                _add(found, name, [{"value": None, "reason": WAITS, "order": order}] * len(results))
            else:
                _add(found, name, [{"value": None, "reason": reason}] * len(results))
        return Spawn(tasks=tasks, join=False, result=found) if tasks else found


def _add(found: Sequence[Json], name: str, scores: Sequence[Json]) -> None:
    for each, score in zip(found, scores, strict=True):
        each[name] = score


def _reason_not_to_ask(given: Json, case: Json, results: Sequence[Any], scores: Sequence[Json]) -> str | None:
    """Return why no person is asked; None if one is: `only_if` is absent, or true as in JMESPath."""
    if "only_if" not in given:
        return None
    names = dict.fromkeys(name for each in scores for name in each)
    values = {
        "scores": {name: [each.get(name, {}).get("value") for each in scores] for name in names},
        "inputs": case.get("inputs"),
        "expected": case.get("expected"),
        "results": results,
    }
    try:
        value = Work().value_of(given["only_if"], values, "")
    except CannotEvaluate as error:
        return f"No person was asked: only_if {error.why}."[: judging.LONGEST_REASON]
    return NOT_ASKED if value is None or value is False or value in ("", [], {}) else None
