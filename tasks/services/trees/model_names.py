"""Collect the model names in a tree, to infer the provider of an LLM key sent without one."""

from collections.abc import Iterable
from typing import Any, Final

from tasks.models import Task

FIELDS: Final = frozenset({"model", "llm", "function_calling_llm", "manager_llm", "planning_llm"})
MOST: Final = 100
MOST_CHARACTERS: Final = 200


def model_names(tasks: Iterable[Task]) -> list[str]:
    """Return up to 100 distinct names.

    Some may not be models: only LiteLLM knows, in the worker processes.
    """
    left: list[Any] = []
    for task in tasks:
        schemas = {name: value for name, value in (task.schemas or {}).items() if name != "input_schema"}
        left += [task.params, schemas, {name: task.inputs.get(name) for name in ("model", "works")}]
    found = set[str]()
    while left:  # iterative: a client may nest values deeply
        value = left.pop()
        if isinstance(value, dict):
            for given in (value[name] for name in FIELDS & value.keys()):
                found |= {text for text in (given if isinstance(given, list) else [given]) if isinstance(text, str)}
            left += value.values()
        elif isinstance(value, list):
            left += value
    return sorted(name for name in found if len(name) <= MOST_CHARACTERS)[:MOST]
