"""Picks, joins, filters and renames what other tasks returned, by expressions in JMESPath."""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import TreeInterpreter

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json

EXPRESSION: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 10_000}
MOST_STEPS: Final = 2_000_000
"""How much work an expression may be: a second or two."""
GROWING: Final = frozenset(
    {
        "multi_select_list",
        "multi_select_dict",
        "projection",
        "filter_projection",
        "value_projection",
        "flatten",
        "function_expression",
    }
)
"""What makes values: their size counts as work, so that `[@, @] | [@, @] | …` ends before it is a million times larger."""


class Transform(Executor):
    """Evaluates `select` over its other inputs, the results of dependencies among them."""

    id = "transform_executor"
    name = "Transform"
    description = (
        "Picks, joins, filters and renames values in the results of its dependencies: `select` is a JMESPath "
        "expression, or an object of them."
    )
    tags = ("core", "data")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "select": {
                "anyOf": [EXPRESSION, {"type": "object", "additionalProperties": EXPRESSION, "minProperties": 1}],
                "description": "What the result is: the value of one expression, or an object with the value of each",
            },
        },
        "required": ["select"],
    }
    verbatim = frozenset({"select"})
    secret_inputs = frozenset()
    example: ClassVar[Json] = {"select": "people[?age > `30`].name", "people": [{"name": "Ada", "age": 36}]}
    example_result: ClassVar[Any] = ["Ada"]
    pool = "process"

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse expressions that are none. Whether there is one is a matter of the schema."""
        for place, expression in _expressions(inputs.get("select")):
            _parsed(expression, place)

    async def execute(self, inputs: Json, context: Context) -> Any:
        select = inputs["select"]
        values = {name: value for name, value in inputs.items() if name != "select"}
        work = _Work()
        found = [work.value_of(expression, values, place) for place, expression in _expressions(select)]
        return dict(zip(select, found, strict=True)) if isinstance(select, dict) else found[0]


def _expressions(select: Any) -> Iterator[tuple[str, str]]:
    """Yield each expression with its place in the inputs."""
    if isinstance(select, str):
        yield "select", select
    elif isinstance(select, dict):
        yield from ((f"select.{name}", each) for name, each in select.items() if isinstance(each, str))


def _parsed(expression: str, place: str) -> Any:
    try:
        return jmespath.compile(expression).parsed
    except JMESPathError as error:
        raise _failure(place, f"is not a JMESPath expression: {str(error).splitlines()[0].rstrip(':')}") from None
    except RecursionError:
        raise _failure(place, "is nested too deeply") from None


def _failure(place: str, why: str) -> ExecutorError:
    return ExecutorError(f"inputs.{place} {why}.", permanent=True)


class _TooMuch(Exception):
    pass


class _Work(TreeInterpreter):
    """Evaluates the expressions of one task, with a limit on the work of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0

    def value_of(self, expression: str, values: Json, place: str) -> Any:
        """Raises ExecutorError."""
        try:
            return self.visit(_parsed(expression, place), values)
        except _TooMuch:
            raise _failure(place, "is too much work: select less, or use python_executor") from None
        except RecursionError:
            raise _failure(place, "is nested too deeply") from None
        except (JMESPathError, ArithmeticError) as error:
            raise _failure(place, f"cannot be evaluated: {str(error).splitlines()[0]}") from None

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._spend(1)
        value = super().visit(node, *args, **kwargs)
        if node["type"] in GROWING:
            self._spend_on(value)
        return value

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise _TooMuch

    def _spend_on(self, value: Any) -> None:
        """Count the characters and values in it, without going further than the limit."""
        waiting = [value]
        while waiting:
            each = waiting.pop()
            self._spend(1 + len(each) // 64 if isinstance(each, str) else 1)
            if isinstance(each, dict):
                waiting += each.values()
            elif isinstance(each, list):
                waiting += each
