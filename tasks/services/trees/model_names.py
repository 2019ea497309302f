"""Collect the model names in a tree, to infer the provider of an LLM key sent without one."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from tasks.models import Task

FIELDS: Final = frozenset({"model", "llm", "function_calling_llm", "manager_llm", "planning_llm"})
MOST: Final = 100
MOST_CHARACTERS: Final = 200


def model_names(tasks: Iterable[Task]) -> list[str]:
    """Return up to 100 distinct names.

    Some may not be models: only LiteLLM knows, in the worker processes.
    """
    names = {name for task in tasks for name in _of_task(task) if len(name) <= MOST_CHARACTERS}
    return sorted(names)[:MOST]


def _of_task(task: Task) -> Iterator[str]:
    schemas = {name: value for name, value in (task.schemas or {}).items() if name != "input_schema"}
    own = {name: task.inputs.get(name) for name in ("model", "works")}
    return _named([task.params, schemas, own])


def _named(value: Any) -> Iterator[str]:
    """Yield the names in a nested value. Iterative: a client may nest values deeply."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from (text for name, text in value.items() if name in FIELDS and isinstance(text, str))
            left += value.values()
        elif isinstance(value, list):
            left += value
