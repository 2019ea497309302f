"""Fill the places in the inputs of a task, but for those that its executor fills by itself."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors import get_executor
from tasks.rules.exceptions import ExecutorNotFound
from tasks.rules.places import filled, is_run_place
from tasks.rules.templates import CannotFill

CHAT: Final = "llm_executor"
HISTORY: Final = "history"
"""The input of CHAT in which nothing is a place, unless it is nothing but the place of an input of the run: then it is that value."""


class Filled(Protocol):
    """The attributes of a task, a row or the engine's own object, that are read here."""

    executor_id: str | None
    inputs: Json


def filled_inputs(
    task: Filled,
    results: Mapping[str, Any],
    *,
    known: Collection[str],
    own: Json | None = None,
    keeps_literals: bool = False,
    secrets: Mapping[str, str] = MappingProxyType({}),
    run_inputs: Json | None = None,
    max_characters: int | None = None,
) -> Json:
    """Return the inputs of the task with the values of its places (`tasks.rules.places`).

    `own` replaces the inputs of the task. `known` are the ids whose places are filled. With `keeps_literals`, `{{{{` stays: the inputs will be
    filled again. `secrets` maps the names of secrets to their values. `max_characters` is `limits.result_bytes` by default. Raises ExecutorError, permanent, if a place has no value or the values are too long.
    """
    inputs = task.inputs if own is None else own
    left = set(left_fields(task.executor_id))
    if task.executor_id == CHAT and is_run_place(inputs.get(HISTORY)):
        left.discard(HISTORY)
    try:
        return filled(
            inputs,
            results,
            known=known,
            left=left,
            max_characters=max_characters or settings.APFLOW.limits.result_bytes,
            keeps_literals=keeps_literals,
            secrets=secrets,
            run_inputs=run_inputs,
        )
    except CannotFill as error:
        raise ExecutorError(f"Cannot fill the inputs: {error}.", permanent=True) from None


def left_fields(executor_id: str | None) -> Collection[str]:
    """Return the inputs of which no place is filled before the executor is called."""
    try:
        executor = None if executor_id is None else get_executor(executor_id)
    except ExecutorNotFound:  # the configuration has changed since the tree was stored
        executor = None
    return () if executor is None else executor.templates | executor.verbatim
