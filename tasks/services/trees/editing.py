"""Update and delete stored tasks: only while the tree does not run, and only if it stays valid."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

from django.db import transaction

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from llmkeys import run_secrets
from tasks.executors.admission import checked
from tasks.executors.workflows import STEP
from tasks.models import (
    CachedResult,
    CancelRequest,
    ConversationTurn,
    Experiment,
    ModelCall,
    Run,
    RunBudget,
    RunInputs,
    RunTag,
    Schedule,
    Score,
    Task,
    TaskEvent,
    TaskState,
)
from tasks.queue import fairness
from tasks.rules.exceptions import CannotDelete, InvalidParams, StatusConflict
from tasks.rules.field_rules import TASK_FIELDS
from tasks.rules.maps import templates_of
from tasks.rules.specs import TaskSpec, TreeLimits, explicit_executor
from tasks.rules.strict_json import Json
from tasks.rules.tree import children_of, descendants, node_of
from tasks.services.files.references import TREE, named_in, refer, release
from tasks.services.secrets.stored_secrets import refuse_unusable
from tasks.services.secrets.write_only import sealed_inputs
from tasks.services.trees import LARGE, LOOKUP_CHUNK, held_task
from tasks.services.trees.queries import refuse_past
from tasks.status import Status
from tasks.storage.bulk import batched

EDITABLE: Final = ("name", "priority", "inputs", "params", "schemas", "dependencies")
REQUEST: Final = ("id", "parent_id", *EDITABLE)
"""The columns of a task that a request has, too."""
NAMED: Final = 3
"""The number of tasks that prevent a deletion which the message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """The number of tasks that were deleted, including the named one."""

    task_id: str
    deleted_count: int


@transaction.atomic
def update_task(*, caller: Caller, task_id: str, changes: Json) -> Task:
    """Change the `EDITABLE` fields of a pending task whose tree is not running.

    The whole tree is validated again.

    Raises TaskNotFound, StatusConflict, InvalidParams, InvalidDependency, CircularDependency or
    ExecutorNotFound; then nothing changes.
    """
    if not changes:
        raise InvalidParams([("params", f"no changes: send at least one of {', '.join(EDITABLE)}")])
    if problems := [problem for name, value in changes.items() for problem in TASK_FIELDS[name](value, name)]:
        raise InvalidParams(problems)
    task = held_task(caller=caller, task_id=task_id)
    data = {"task_id": task.id, "status": task.status}
    if task.status != Status.PENDING:
        why = f"Task '{task.id}' is {task.status}: only a pending task can be changed. Copy it with tasks.copy instead."
        raise StatusConflict(why, data=data)
    if task.executor_id == STEP:
        why = f"Task '{task.id}' is a step that the code of the workflow '{task.spawned_by}' calls: change the inputs of that one."
        raise StatusConflict(why, data=data)
    if Run.objects.unfinished().filter(root_id=task.root_id).exists():
        why = f"Task '{task.id}' cannot be changed while its tree is running. Wait until it finishes, or cancel it with tasks.cancel."
        raise StatusConflict(why, data=data)
    valid, latest = _checked(task, changes)
    for name in EDITABLE:
        setattr(task, name, getattr(valid, name))
    task.dependencies = [item.stored({item.id: item.id}) for item in valid.dependencies]
    task.executor_id = valid.executor_id
    task.inputs = sealed_inputs(
        task.inputs, executor_id=task.executor_id, schemas=task.schemas, owner=str(task.user_id)
    )
    task.updated_at = max(datetime.now(UTC), latest + timedelta(microseconds=1))  # clocks of machines differ
    task.save(update_fields=[*EDITABLE, "executor_id", "updated_at"])
    refer(f"{TREE}{task.root_id}", named_in(task.inputs), owner=str(task.user_id))
    return task


@transaction.atomic
def delete_task(*, caller: Caller, task_id: str, force: bool = False) -> Deletion:
    """Delete a task and all tasks below it; for a root also its runs and their events.

    The audit log has an entry of it. `force` includes finished tasks.

    Raises TaskNotFound; CannotDelete while the tree runs, or if a remaining task depends on a
    deleted one.
    """
    task, count = remove_task(caller=caller, task_id=task_id, force=force)
    action = Action.TREE_DELETED if task.is_root else Action.TASK_DELETED
    audit.record(action, actor=caller.user_id, target=task_id, owner=task.user_id, tasks=count)
    return Deletion(task_id=task_id, deleted_count=count)


@transaction.atomic
def remove_task(*, caller: Caller, task_id: str, force: bool = False) -> tuple[Task, int]:
    """Delete as `delete_task` does, without an entry in the audit log.

    Returns the task as it was, and how many tasks were deleted.
    """
    task = held_task(caller=caller, task_id=task_id)
    count = _remove_tree(task, force=force) if task.is_root else _remove_part(task, force=force)
    if task.schedule_id is not None:
        Schedule.objects.filter(id=task.schedule_id).delete()
    return task, count


# --- the steps of the verbs ---


def _checked(task: Task, changes: Json) -> tuple[TaskSpec, datetime]:
    """Return the changed task of the locked tree, and the time of the tree's latest change.

    A large tree is checked before the transaction, and again if it has changed since.
    """

    def check() -> tuple[TaskSpec, tuple[int, datetime]]:
        state = Task.objects.state_of_tree(task.root_id)
        tree: list[Json] = list(Task.objects.tree(task.root_id).values(*REQUEST))
        requests = [row | changes if row["id"] == task.id else row for row in tree]
        steps = {row["id"] for row in tree if explicit_executor(row) == STEP}
        spec = checked(requests, limits=TreeLimits(tasks=len(tree), depth=len(tree)), steps=steps)
        refuse_unusable(spec, owner=task.user_id)
        return next(row for row in spec.tasks if row.id == task.id), state

    state = Task.objects.state_of_tree(task.root_id)
    for attempt in count():
        valid, seen = beforehand("update", check, task.id, changes, attempt) if state[0] >= LARGE else check()
        if seen == state:
            break
    return valid, state[1]


def _remove_tree(root: Task, *, force: bool) -> int:
    _check_ended(root)
    tree = Task.objects.tree(root.root_id).order_by()
    begun = [] if force else list(tree.exclude(status=Status.PENDING).order_by("position").values_list("id", flat=True))
    _check_pending_or_forced(root, begun, force=force)
    return remove_trees([root.root_id])


def remove_trees(root_ids: Sequence[str]) -> int:
    """Delete all tasks of these locked trees, and their runs. Returns how many tasks.

    They are deleted without reading them, by a statement for each table: other writers of SQLite wait meanwhile.
    """
    run_secrets.erase_of_trees(root_ids)
    release([f"{TREE}{root_id}" for root_id in root_ids])
    runs = Run.objects.filter(root_id__in=root_ids)
    for model in (
        TaskEvent,
        ModelCall,
        CancelRequest,
        ConversationTurn,
        RunInputs,
        RunTag,
        RunBudget,
        TaskState,
        Score,
    ):
        model.objects.filter(run_id__in=runs.values("id")).delete()
    CachedResult.objects.filter(root_id__in=root_ids).delete()
    Experiment.objects.filter(id__in=root_ids).delete()
    fairness.keep_turn(runs)
    runs.delete()
    count, _ = Task.objects.filter(root_id__in=root_ids).delete()
    return count


def _remove_part(task: Task, *, force: bool) -> int:
    """Delete the task and all tasks below it."""
    refuse_past(task)
    tree = list(Task.objects.tree(task.root_id).defer("inputs", "schemas", "result", "steps", "call"))
    doomed = {task.id, *descendants(task.id, children_of(map(node_of, tree)))}
    # The rest of what a task has added, or of a template, would be taken for the whole.
    owners = [(row.id, row.spawned_by) for row in tree if row.spawned_by is not None]
    owners += [(part.id, map_id) for map_id, template in templates_of(tree).items() for part in template]
    for part_id, owner_id in owners:
        if part_id in doomed and owner_id not in doomed:
            raise _refusal(task, [owner_id], f"it is a part of '{owner_id}'. Delete that task")
    _check_ended(task)
    begun = [row.id for row in tree if row.id in doomed and row.status != Status.PENDING]
    _check_pending_or_forced(task, begun, force=force)
    dependants = [
        row.id for row in tree if row.id not in doomed and any(item["id"] in doomed for item in row.dependencies)
    ]
    if dependants:
        raise _refusal(
            task,
            dependants,
            f"other tasks depend on it ({_named(dependants)}). Delete them first, or delete the whole tree",
        )
    count = len(doomed)
    while doomed:
        past = set[str]()  # of parts of workflows that are over
        for chunk in batched(sorted(doomed), LOOKUP_CHUNK):
            of_tree = Task.objects.filter(root_id=task.root_id, part__isnull=False)
            past.update(of_tree.filter(spawned_by__in=chunk).values_list("id", flat=True))
            Task.objects.filter(id__in=chunk).delete()
            CachedResult.objects.filter(root_id=task.root_id, task_id__in=chunk).delete()
        doomed = past
    if not Task.objects.tree(task.root_id).filter(parent_id=task.parent_id).exists():
        Task.objects.filter(id=task.parent_id).update(has_children=False)
    return count


def _check_ended(task: Task) -> None:
    """Refuse to delete what belongs to a tree that is running."""
    if (running := Run.objects.unfinished().filter(root_id=task.root_id).first()) is not None:
        is_running = (
            f"its tree is running ('{running.target_id}'). Wait until it finishes, or cancel it with tasks.cancel"
        )
        raise _refusal(task, [running.target_id], is_running)


def _check_pending_or_forced(task: Task, begun: list[str], *, force: bool) -> None:
    if begun and not force:
        raise _refusal(
            task,
            begun,
            f"not all of its tasks are pending ({_named(begun)}). "
            "Pass force: true (?force=true over REST, --force on the command line) to delete them too",
        )


def _refusal(task: Task, in_the_way: list[str], why: str) -> CannotDelete:
    data = {"task_id": task.id, "in_the_way": in_the_way}
    return CannotDelete(f"Task '{task.id}' cannot be deleted: {why}.", data=data)


def _named(task_ids: list[str]) -> str:
    more = len(task_ids) - NAMED
    return ", ".join(map(repr, task_ids[:NAMED])) + (f" and {more:,} more" if more > 0 else "")
