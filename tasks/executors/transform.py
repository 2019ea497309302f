"""Picks, joins, filters and renames what other tasks returned, by expressions in JMESPath."""

import time
from collections.abc import Iterator
from typing import Any, ClassVar, Final

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.visitor import TreeInterpreter

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json

EXPRESSION: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 10_000}
MOST_STEPS: Final = 2_000_000
"""The work of all expressions of a task: a second or two."""
MOST_SECONDS: Final = 10.0
"""The processor time of all expressions of a task, should a step be slower than any that is known."""
LOOK_AT_CLOCK: Final = 1_000
"""The steps between two looks at the clock."""
STEPS_OF_CHARACTER: Final = 10
"""The steps of reading a character of an expression."""
DEEP_FUNCTIONS: Final = frozenset({"contains", "to_string"})
"""Functions that read all of an argument; the others read the elements of a list."""
LIGHT_FUNCTIONS: Final = frozenset({"length", "not_null", "to_array", "type"})
"""Functions that read nothing of an argument."""
GROWING: Final = frozenset(
    {
        "multi_select_list",
        "multi_select_dict",
        "projection",
        "filter_projection",
        "value_projection",
        "flatten",
        "slice",
        "function_expression",
    }
)
"""Nodes that make values: their size counts as work, so that `[@, @] | [@, @] | …` ends before it is a million times larger."""


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
                "description": "The definition of the result: the value of one expression, or an object with the value of each",
            },
        },
        "required": ["select"],
    }
    verbatim = frozenset({"select"})
    secret_inputs = frozenset()
    param_names = frozenset()
    example: ClassVar[Json] = {"select": "people[?age > `30`].name", "people": [{"name": "Ada", "age": 36}]}
    example_result: ClassVar[Any] = ["Ada"]
    pool = "process"

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        """Refuse a text that is no expression. The schema requires one."""
        work = Work()
        for place, expression in _expressions(inputs.get("select")):
            work.parsed(expression, place)

    async def execute(self, inputs: Json, context: Context) -> Any:
        select = inputs["select"]
        values = {name: value for name, value in inputs.items() if name != "select"}
        work = Work()
        found = [work.value_of(expression, values, place) for place, expression in _expressions(select)]
        return dict(zip(select, found, strict=True)) if isinstance(select, dict) else found[0]


def _expressions(select: Any) -> Iterator[tuple[str, str]]:
    """Yield each expression with its place in the inputs."""
    if isinstance(select, str):
        yield "select", select
    elif isinstance(select, dict):
        yield from ((f"select.{name}", each) for name, each in select.items() if isinstance(each, str))


class CannotEvaluate(ExecutorError):
    """An expression cannot be read or has no value. `why` is the rest of a sentence about it."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"inputs.{place} {why}.", permanent=True)
        self.why = why


CONTAINERS: Final = (list, dict)
TOO_MUCH: Final = "is too much work: select less, or use python_executor"


class _TooMuch(Exception):
    pass


class Work(TreeInterpreter):
    """Evaluates expressions, with a limit on the work of all of them together."""

    def __init__(self) -> None:
        super().__init__()
        self._library: Any = Functions()
        self._steps = 0
        self._next_look = LOOK_AT_CLOCK
        self._started = time.thread_time()

    def parsed(self, expression: str, place: str) -> Any:
        """Return the tree of the expression. Raises CannotEvaluate."""
        try:
            self._spend(STEPS_OF_CHARACTER * len(expression))
            return jmespath.compile(expression).parsed
        except _TooMuch:
            raise CannotEvaluate(place, TOO_MUCH) from None
        except JMESPathError as error:
            raise CannotEvaluate(
                place, f"is not a JMESPath expression: {str(error).splitlines()[0].rstrip(':')}"
            ) from None
        except RecursionError:
            raise CannotEvaluate(place, "is nested too deeply") from None

    def value_of(self, expression: str, values: Json, place: str) -> Any:
        """Return the value of the expression. Raises CannotEvaluate."""
        tree = self.parsed(expression, place)
        try:
            return self.visit(tree, values)
        except _TooMuch:
            raise CannotEvaluate(place, TOO_MUCH) from None
        except RecursionError:
            raise CannotEvaluate(place, "is nested too deeply") from None
        except (JMESPathError, ArithmeticError) as error:
            raise CannotEvaluate(place, f"cannot be evaluated: {str(error).splitlines()[0]}") from None

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._spend(1)
        value = super().visit(node, *args, **kwargs)
        if node["type"] in GROWING:
            self._spend_on(value)
        return value

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        """Count what the function reads before it reads it."""
        function = node["value"]
        arguments = [self.visit(child, value) for child in node["children"]]
        for each in arguments if function not in LIGHT_FUNCTIONS else ():
            if function in DEEP_FUNCTIONS:
                self._spend_on(each)
            else:
                self._spend(_length(each))
        return self._library.call_function(function, arguments)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        """Count what the comparison reads: `==` compares whole lists and objects."""
        left, right = (self.visit(child, value) for child in node["children"])
        if isinstance(left, CONTAINERS) and isinstance(right, CONTAINERS):
            self._spend_on(left)
        literals = [{"type": "literal", "value": each, "children": []} for each in (left, right)]
        evaluated: Any = {**node, "children": literals}
        return super().visit_comparator(evaluated, value)

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > self._next_look:
            self._next_look = self._steps + LOOK_AT_CLOCK
            if self._steps > MOST_STEPS or time.thread_time() - self._started > MOST_SECONDS:
                raise _TooMuch

    def _spend_on(self, value: Any) -> None:
        """Count the characters and values in it, without going further than the limit."""
        waiting = [value]
        while waiting:
            each = waiting.pop()
            self._spend(1 + (_length(each) if isinstance(each, str) else 0))
            if isinstance(each, dict):
                waiting += each.values()
            elif isinstance(each, list):
                waiting += each


def _length(value: Any) -> int:
    """Return the steps of reading the value, but not what is in its elements."""
    if isinstance(value, str):
        return len(value) // 64
    return len(value) if isinstance(value, CONTAINERS) else 0
