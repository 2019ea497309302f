"""The tasks of a `Spawn`, checked like a request and placed below their spawner."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import Spawn
from llmkeys.sealed_texts import has_sealed
from tasks.executors.admission import checked
from tasks.executors.input_places import named_in
from tasks.models import Task
from tasks.rules.exceptions import TasksError
from tasks.rules.spawns import settings_of
from tasks.rules.specs import TaskSpec, TreeLimits, TreeSpec, name_of
from tasks.rules.steps import Step
from tasks.services.trees.persist import rows_of
from tasks.worker.load_run import LoadedTask
from tasks.worker.outcomes import Outcome
from tasks.worker.spawning.growth import CannotGrow, Draft, Growth, Room, growth_of, stored_id

SPAWNER: Final = "(spawner)"
ONLY_IF_NAMED: Final = frozenset({"run_tree_executor"})
"""A tree of its own may use every executor and secret of the user."""
REFUSED: Final = "The tasks that this one adds are refused: "


def list_draft(
    task: LoadedTask, spawn: Spawn, *, level: int, outcome: Outcome | None, room: Room, now: datetime
) -> Draft:
    """Return the tasks of the Spawn, which are a step if it says so or follows one. `level` is that of the spawner in its tree, from 1.

    It takes time in proportion to the tasks. Raises CannotGrow.
    """
    if len(spawn.tasks) > room.tasks:
        raise CannotGrow(
            f"{len(spawn.tasks):,} tasks are more than the {room.tasks:,} that may still be added to this tree "
            "(limits.spawned_tasks)."
        )
    spec = _checked(task, spawn, level=level)
    _check_executors(task, spawn, spec)
    _check_secrets(task, spec)
    _check_sealed(spec)
    step = _step_of(task, spawn)

    def grow(ids: Mapping[str, str]) -> Growth:
        rows = rows_of(spec, ids={**ids, task.id: task.id}, user_id=task.user_id)
        return replace(growth_of(_placed(rows, task, now=now), room, outcome=outcome), step=step)

    prefix = prefix_of(task.id, step)
    below = [each for each in spec.tasks if each.id != task.id]
    return Draft(wanted={each.id: stored_id(f"{prefix}{_name_below(each)}") for each in below}, grow=grow)


def prefix_of(task_id: str, step: Step | None) -> str:
    """Return what the ids of the tasks of a step, or of what a task adds without steps, begin with."""
    return f"{task_id}/" if step is None else f"{task_id}/{step.number}/"


def _step_of(task: LoadedTask, spawn: Spawn) -> Step | None:
    number = task.step.number if task.step else 0
    if not spawn.again and not number:
        return None
    return Step(number=number + 1, tasks=len(spawn.tasks), again=spawn.again, memo=spawn.memo, usage=task.token_usage)


def _placed(rows: Iterable[Task], task: LoadedTask, *, now: datetime) -> list[Task]:
    """Return the rows without that of the spawner, as parts of its tree."""
    new = [row for row in rows if row.id != task.id]
    for row in new:
        row.root_id = task.root_id
        row.spawned_by = task.id
        row.created_at = row.updated_at = now
    return new


def _checked(task: LoadedTask, spawn: Spawn, *, level: int) -> TreeSpec:
    """Check the tasks as the tree that they form with their spawner. The tasks of a step may fail: the executor decides what follows."""
    given = [_below(task, each) for each in spawn.tasks]
    if spawn.again:
        given = [_that_may_fail(each) for each in given]
    most = TreeLimits(tasks=len(given) + 1, depth=max(1, settings.APFLOW.limits.tree_depth - level + 1))
    try:
        return checked([*given, {"id": task.id, "name": SPAWNER}], limits=most)
    except TasksError as error:
        raise CannotGrow(REFUSED + error.message) from None


def _below(task: LoadedTask, given: Any) -> Any:
    """Return the task as the owner would send it, with the priority of the spawner unless it has its own."""
    if not isinstance(given, dict):
        return given
    if "user_id" in given:
        raise CannotGrow(f"{REFUSED}one has a user_id. They belong to the owner of the tree.")
    sent = {name: value for name, value in given.items() if value is not None}
    return {"parent_id": task.id, "priority": task.priority} | sent


def _that_may_fail(given: Any) -> Any:
    if not isinstance(given, dict) or not isinstance(params := given.get("params", {}), dict):
        return given
    return given | {"params": params | {"allow_failure": True}}


def _check_executors(task: LoadedTask, spawn: Spawn, spec: TreeSpec) -> None:
    """Only those that are named or, if none are, all but those of which one does what others may not."""
    allowed = settings_of(task.params)
    named = spawn.executors if allowed is None or allowed.executors is None else allowed.executors
    for each in spec.tasks:
        if each.executor_id is None or each.id == task.id:
            continue
        if each.executor_id not in named if named is not None else each.executor_id in ONLY_IF_NAMED:
            raise CannotGrow(
                f"{REFUSED}'{name_of(each)}' is for {each.executor_id}, which params.spawn.executors does not name."
            )
        if (each.params or {}).get("checks") is not None:
            from tasks.rules.checks import executors_of  # noqa: PLC0415  (few tasks have checks)

            for needed in executors_of(each.params or {}):
                if needed not in named if named is not None else needed in ONLY_IF_NAMED:
                    raise CannotGrow(
                        f"{REFUSED}a check of '{name_of(each)}' needs {needed}, which params.spawn.executors does not name."
                    )


def _check_secrets(task: LoadedTask, spec: TreeSpec) -> None:
    """Refuse secrets of the user in tasks that a model or a service writes."""
    allowed = settings_of(task.params)
    for each, place, name in named_in(spec):
        if allowed is None or name not in allowed.secrets:
            raise CannotGrow(
                f"{REFUSED}'{name_of(each)}' uses the secret '{name}' in {place}, which params.spawn.secrets does not name."
            )


def _check_sealed(spec: TreeSpec) -> None:
    """Nor at what is encrypted in the inputs of the user's other tasks, which the API returns as it is stored."""
    for each in spec.tasks:
        if has_sealed(each.inputs):
            raise CannotGrow(f"{REFUSED}'{name_of(each)}' has an encrypted input of another task. Use a named secret.")


def _name_below(task: TaskSpec) -> str:
    return str(task.position) if task.has_new_id else task.id
