"""The places where a tree uses the inputs of its run: places such as `{{run.inputs.topic}}`, conditions, and items of maps."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

import orjson

from aipartnerupflow.executors import Json
from tasks.executors import get_executor
from tasks.executors.plugins import plugins
from tasks.executors.template_check import value_labels
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.maps import source_of
from tasks.rules.places import INPUTS_OF_RUN, RUN, is_run_input, places_in
from tasks.rules.specs import TaskSpec, TreeSpec, labels_of, names_of

NAMED: Final = re.compile(r'\brun\.inputs(?:\.([A-Za-z0-9_-]+))?|"/inputs(?:/([^/"]*))?')
"""An input of the run in a place, an expression or a JSON Pointer, in JSON; without a name, all of them."""
RUN_AS_A_WHOLE: Final = re.compile(r"\brun\b(?!\.inputs\b)")
"""An expression that may use inputs of the run without naming them as `run.inputs`."""
UsesInputs = tuple[str | None, Json, Json | None]
"""A task: the id of its executor, its inputs and its params."""


def names_that_may_be_used(tasks: Iterable[UsesInputs]) -> set[str] | None:
    """Return the inputs of the run that the tasks of a tree may use.

    None if they may use any: all inputs as a whole, or those that tasks name which they add to the tree.
    """
    used: set[str] = set()
    for executor_id, inputs, params in tasks:
        names = {place or pointer.replace("~1", "/").replace("~0", "~") for place, pointer in _found(inputs, params)}
        if (
            "" in names
            or _may_add_tasks(executor_id, inputs, params or {})
            or _has_open_expression(executor_id, inputs)
        ):
            return None
        used |= names
    return used


def _found(inputs: Json, params: Json | None) -> list[tuple[str, str]]:
    return NAMED.findall(orjson.dumps([inputs, params]).decode())


def _may_add_tasks(executor_id: str | None, inputs: Json, params: Json) -> bool:
    runs_code = executor_id == "python_executor" or executor_id in plugins().executors
    return runs_code or "spawn" in params or (executor_id == "generate_executor" and bool(inputs.get("run")))


def _has_open_expression(executor_id: str | None, inputs: Json) -> bool:
    try:
        executor = None if executor_id is None else get_executor(executor_id)
    except ExecutorNotFound:  # the configuration has changed since the tree was stored
        return True
    expressions = [inputs[field] for field in executor.verbatim if field in inputs] if executor else []
    return RUN_AS_A_WHOLE.search(orjson.dumps(expressions).decode()) is not None


def inputs_used(spec: TreeSpec) -> Iterator[tuple[str, str]]:
    """Yield each use of an input of the run: where it is, and the name of the input.

    Not of all inputs together, `{{run.inputs}}`. A task that knows a result or a value as `run` uses none.
    """
    names, values = names_of(spec), value_labels(spec)
    for task in spec.tasks:
        labels = labels_of(task, names) | values.get(task.id, set())
        if RUN not in labels:
            yield from ((f"tasks[{task.position}].{place}", name) for place, name in _in_task(task))


def _in_task(task: TaskSpec) -> Iterator[tuple[str, str]]:
    executor = None if task.executor_id is None else get_executor(task.executor_id)
    verbatim: Collection[str] = executor.verbatim if executor else ()
    if RUN not in task.inputs:
        for field, value in task.inputs.items():
            if field not in verbatim:
                yield from _named(places_in(value, f"inputs.{field}"))
    params = task.params or {}
    yield from _in_condition(params.get("when"), "params.when")
    if source_of(params) == RUN:
        yield from _at(params["for_each"]["items"].get("path", ""), "params.for_each.items")


def _named(places: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for place, path in places:
        if is_run_input(path) and path != INPUTS_OF_RUN:
            yield place, path.removeprefix(f"{INPUTS_OF_RUN}.").partition(".")[0]


def _in_condition(condition: Json | None, place: str) -> Iterator[tuple[str, str]]:
    left: list[Any] = [condition]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            if part.get("task") == RUN:
                yield from _at(part.get("path", ""), place)
            left += [part[name] for name in ("all", "any", "not") if name in part]


def _at(pointer: str, place: str) -> Iterator[tuple[str, str]]:
    """Yield the input at a JSON Pointer such as `/inputs/topic/name`."""
    steps = pointer.split("/")[1:3]
    if len(steps) == 2 and steps[0] == "inputs":
        yield place, steps[1].replace("~1", "/").replace("~0", "~")
