"""The tasks that a result adds to the tree: a `Spawn`, or data where `params.spawn` looks for it."""

from collections.abc import Mapping
from typing import Any

from aipartnerupflow.executors import ExecutorError, Spawn
from tasks.rules.conditions import ABSENT, value_at
from tasks.rules.spawns import WRAPPER, settings_of


def spawn_in(result: Any, params: Mapping[str, Any]) -> Spawn | None:
    """Return what the result spawns, or None. Raises ExecutorError, permanent, if `params.spawn` finds no tasks."""
    if isinstance(result, Spawn):
        return result
    settings = settings_of(params)
    if settings is None:
        return None
    found = _unwrapped(value_at(settings.path, result))
    if not isinstance(found, list):
        where = f"what is at '{settings.path}' in the result" if settings.path else "the result"
        raise ExecutorError(
            f"params.spawn finds no tasks: {where} is no list, and no object with a list as 'tasks'.", permanent=True
        )
    if len(found) > settings.max_tasks:
        raise ExecutorError(
            f"The result has {len(found):,} tasks, more than the {settings.max_tasks:,} of params.spawn.max_tasks.",
            permanent=True,
        )
    return Spawn(tasks=found, join=settings.join, result=None if settings.join else result) if found else None


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict):
        value = value.get(WRAPPER, value)
    return value.get("tasks", ABSENT) if isinstance(value, dict) else value
