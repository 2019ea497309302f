"""Store and execute trees.

The functions here and in `queries`, `editing` and `copies` are what every interface calls.

They are sync, take keyword arguments only, and run in one transaction each.
"""

import math
from collections.abc import Iterable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef

from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from apflow_site.db.pipelines import in_one_go
from llmkeys import run_secrets
from llmkeys.providers import SentKey
from tasks.executors.admission import checked
from tasks.ids import new_id
from tasks.models import Run, Task, Webhook
from tasks.models.trees import TO_RUN_AGAIN
from tasks.queue import fairness, leases
from tasks.rules.exceptions import InvalidParams, StatusConflict
from tasks.rules.maps import templates_of
from tasks.rules.specs import TreeSpec
from tasks.rules.steps import FAILED_AFTER, superseded
from tasks.rules.tree import covered_by
from tasks.services.secrets.stored_secrets import refuse_unusable
from tasks.services.trees import copies, pending_runs
from tasks.services.trees.copies import Copy, store_copy
from tasks.services.trees.further_runs import carry_over, latest_of
from tasks.services.trees.model_names import model_names
from tasks.services.trees.persist import calls_in, decided_in, rows_of, store
from tasks.services.trees.queries import get_task, refuse_past, tree_of
from tasks.status import Status
from tasks.storage.bulk import batched, insert_computed, marks
from tasks.telemetry import run_log, tracing

RENAME: Final = "rename"
REFUSE: Final = "error"
NEW: Final = "new"
"""All stored ids are new ones, as in the runs of a flow."""
SCOPED: Final = (
    "id", "root_id", "parent_id", "priority", "position", "executor_id", "status", "spawned_by", "dependencies", "params", "error"
)  # fmt: skip
"""The columns of a task that say what an execution of it covers."""
LARGE: Final = 200
"""A tree of so many tasks takes some time to check."""
LOOKUP_CHUNK: Final = 5_000
"""The maximum number of ids in one query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A stored tree. `ids` maps each id of the request to the stored id."""

    tasks: list[Task]
    root: Task
    ids: dict[str, str]
    warnings: list[str]
    run: Run | None
    webhook: Webhook | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A requested run. `started` is False if the tree was already running, `is_idle` True if all its tasks have completed."""

    task: Task
    run: Run
    started: bool
    original_task_id: str | None
    ids: dict[str, str]
    warnings: list[str]
    webhook: Webhook | None = None
    is_idle: bool = False
    since: float = -math.inf
    """A time of the monotonic clock at which `run`, if it is unfinished, had not ended yet."""


def create_tree(
    *,
    caller: Caller,
    tasks: object,
    id_conflict: str = RENAME,
    execute: bool = False,
    context_id: str | None = None,
    reserved_id: str | None = None,
    llm_key: SentKey | None = None,
) -> Created:
    """Store a tree; with `execute` also queue its first run: the reserved one, or a new one.

    An LLM key is stored for that run, or, without `execute`, for the next one.

    Raises InvalidParams, InvalidTree, InvalidParent, InvalidDependency, CircularDependency or
    ExecutorNotFound; then nothing is stored.
    """
    make = partial(new_tree, caller, tasks, id_conflict)
    new = beforehand("tree", make, tasks, id_conflict) if _is_large(tasks) else make()
    while True:
        rows, root = new.rows, new.root
        try:
            # A reserved run is taken by an UPDATE whose count of rows matters.
            begin = in_one_go if reserved_id is None else transaction.atomic
            with begin(savepoint=new.may_collide):
                if id_conflict == REFUSE:
                    _refuse_ids_in_use(new.spec)
                store(rows)
                run = _start_run(root, context_id=context_id, reserved_id=reserved_id) if execute else None
                if llm_key is not None:
                    keep_key(llm_key, caller=caller, tree=rows, run=run)
        except IntegrityError:  # another request took one of the ids since the check: check again
            if not new.may_collide:
                raise
            new = make()
            continue
        return new.created(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTree:
    """A checked tree that is not stored. `ids` maps each id of the request to that of its row."""

    spec: TreeSpec
    rows: list[Task]
    root: Task
    ids: dict[str, str]
    may_collide: bool
    """Whether another tree may have one of the ids."""

    def created(self, run: Run | None) -> Created:
        """Return the tree as stored with this run."""
        warnings, named = [*self.spec.warnings], self.spec.tasks[0].user_id
        if named and named != self.root.user_id:
            warnings.append(
                f"user_id '{named}' was replaced by yours, '{self.root.user_id}': "
                "only administrators may create tasks for other users."
            )
        return Created(tasks=self.rows, root=self.root, ids=self.ids, warnings=warnings, run=run)


def new_tree(caller: Caller, tasks: object, id_conflict: str) -> NewTree:
    """Check the tree, and make its rows. Raises what `create_tree` raises."""
    spec = checked(tasks)
    owner = owner_of(caller, spec)
    refuse_unusable(spec, owner=owner)
    taken = ids_in_use([task.id for task in spec.tasks if not task.has_new_id]) if id_conflict == RENAME else ()
    ids = {task.id: new_id() if id_conflict == NEW or task.id in taken else task.id for task in spec.tasks}
    rows = rows_of(spec, ids=ids, user_id=owner)
    return NewTree(
        spec=spec,
        rows=rows,
        root=next(row for row in rows if row.is_root),
        ids=ids,
        may_collide=id_conflict != NEW and not all(task.has_new_id for task in spec.tasks),
    )


def execute_tree(
    *,
    caller: Caller,
    tasks: object,
    id_conflict: str = RENAME,
    context_id: str | None = None,
    reserved_id: str | None = None,
    llm_key: SentKey | None = None,
) -> Execution:
    """Store a tree and queue its run: a new one, or the reserved one.

    Raises what `create_tree` raises.
    """
    created = create_tree(
        caller=caller,
        tasks=tasks,
        id_conflict=id_conflict,
        execute=True,
        context_id=context_id,
        reserved_id=reserved_id,
        llm_key=llm_key,
    )
    return executed(created)


def executed(created: Created) -> Execution:
    """Return the execution of a tree that was stored with its run."""
    assert created.run is not None  # noqa: S101  (`execute=True`)
    return Execution(
        task=created.root,
        run=created.run,
        started=True,
        original_task_id=None,
        ids=created.ids,
        warnings=created.warnings,
    )


@transaction.atomic
def execute_task(
    *,
    caller: Caller,
    task_id: str,
    copy_execution: bool = False,
    copy_children: bool = False,
    context_id: str | None = None,
    reserved_id: str | None = None,
    llm_key: SentKey | None = None,
) -> Execution:
    """Queue a run of a stored task.

    A root runs its whole tree; another task itself, its descendants and what they need.

    With `copy_execution` a copy is created and run instead. Without an LLM key the run gets the one
    that the caller has stored for it before. Raises TaskNotFound.
    """
    if copy_execution:
        make = partial(_new_copy, caller=caller, task_id=task_id, with_children=copy_children)
        task, copy = beforehand("copy", make, task_id)
        store_copy(task, copy)
        execution = execute_copy(task, copy, context_id=context_id, reserved_id=reserved_id)
        if llm_key is not None:
            copied = Task.objects.tree(execution.run.root_id)
            keep_key(llm_key, caller=caller, tree=copied, run=execution.run)
        return execution
    task = held_task(caller=caller, task_id=task_id)
    refuse_past(task)
    running = Run.objects.unfinished().filter(root_id=task.root_id).first()
    if running:
        return _execution(task, running, started=False)
    # Models of thousands of tasks take three times as long, and the tree is locked meanwhile.
    tree: Any = list(Task.objects.tree(task.root_id).values_list(*SCOPED, named=True))
    scope = covered_by(task.id, tree)
    calls = calls_in(tree)
    if gone := superseded(tree, calls) & scope:
        Task.objects.filter(id__in=gone).delete()
        tree = [each for each in tree if each.id not in gone]
    for workflow_id in scope & calls.keys():
        if FAILED_AFTER in calls[workflow_id]:
            del calls[workflow_id][FAILED_AFTER]
            Task.objects.filter(id=workflow_id).update(call=calls[workflow_id] or None)
    scope -= _parts_of_templates(task, tree) | decided_in(tree, calls) | gone
    is_idle = all(each.status == Status.COMPLETED for each in tree if each.id in scope)
    undone = (Status.FAILED, Status.CANCELLED, Status.SKIPPED)
    if again := [each.id for each in tree if each.id in scope and each.status in undone]:
        Task.objects.filter(id__in=again).update(**TO_RUN_AGAIN, updated_at=datetime.now(UTC))
    before = latest_of(task.root_id)
    run = _start_run(task, context_id=context_id, reserved_id=reserved_id, after=before)
    carry_over(before, run)
    if llm_key is not None:
        keep_key(llm_key, caller=caller, tree=Task.objects.tree(task.root_id), run=run)
    elif run_secrets.is_any_waiting(tree_id=task.root_id, user_id=caller.user_id):
        names = model_names(Task.objects.tree(task.root_id))
        run_secrets.hand_over(tree_id=task.root_id, run_id=run.id, user_id=caller.user_id, model_names=names)
    return replace(_execution(task, run, started=True), is_idle=is_idle)


def checked_beforehand(tasks: object) -> TreeSpec:
    """Check the tasks of a definition; many of them before the transaction. Raises what `create_tree` raises."""
    return beforehand("check", partial(checked, tasks), tasks) if _is_large(tasks) else checked(tasks)


# --- the steps of the verbs ---


def _is_large(tasks: object) -> bool:
    """Return whether it takes some time to check the tasks. More than are allowed are refused at once."""
    return isinstance(tasks, list) and LARGE <= len(tasks) <= settings.APFLOW.limits.tasks_per_tree


def held_task(*, caller: Caller, task_id: str) -> Task:
    """Return a task whose tree no other transaction can change or start. Raises TaskNotFound."""
    task = get_task(caller=caller, task_id=task_id)
    Task.objects.hold_tree(task.root_id)
    return get_task(caller=caller, task_id=task_id)  # read again, now that the tree is locked


def owner_of(caller: Caller, spec: TreeSpec) -> str:
    """Return the owner.

    Only a caller who sees everything may name another owner.
    """
    named = spec.tasks[0].user_id
    return named if caller.sees_all and named else caller.user_id


def _refuse_ids_in_use(spec: TreeSpec) -> None:
    taken = ids_in_use([task.id for task in spec.tasks if not task.has_new_id])
    if taken:
        raise InvalidParams(
            [
                (f"tasks[{position}].id", f"'{task.id}' is in use: choose another one")
                for position, task in enumerate(spec.tasks)
                if task.id in taken
            ]
        )


def ids_in_use(task_ids: Sequence[str]) -> set[str]:
    """Return those of the ids that stored tasks have, of any user."""
    taken: set[str] = set()
    for chunk in batched(task_ids, LOOKUP_CHUNK):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM tasks_task WHERE id IN ({marks(chunk)})", chunk)  # noqa: S608
            taken.update(task_id for (task_id,) in cursor.fetchall())
    return taken


def _start_run(
    task: Task, *, context_id: str | None = None, reserved_id: str | None = None, after: Run | None = None
) -> Run:
    """Queue a run of the task after an earlier one of its tree, in the caller's transaction.

    Raises IntegrityError if its tree has an unfinished run.
    """
    number = after.number + 1 if after else 1
    if reserved_id is not None:
        return pending_runs.take(reserved_id, task=task, number=number)
    fairness.refuse_if_full(task.user_id)
    run = new_run(task, context_id=context_id, number=number, after=after)
    insert_computed(run, "turn", fairness.next_turn_of(task.user_id))
    leases.enqueue(run.id)
    log_queued(run, copy_context())
    return run


def new_run(
    task: Task, *, context_id: str | None = None, number: int = 1, after: Run | None = None, turn: int = 0
) -> Run:
    """Return an unsaved run of the task."""
    return Run(
        root_id=task.root_id,
        target_id=task.id,
        user_id=task.user_id,
        context_id=context_id or task.root_id,
        number=number,
        turn=turn,
        flow_id=after.flow_id if after else None,
        flow_version=after.flow_version if after else None,
        trace=tracing.current(),
        created_at=datetime.now(UTC),
    )


def log_queued(run: Run, context: Context) -> None:
    """Log the run after the commit; the line has the id of the request of the context."""
    log = partial(run_log.queued, run_id=run.id, root_id=run.root_id, user_id=run.user_id)
    transaction.on_commit(partial(context.run, log))


def keep_key(llm_key: SentKey, *, caller: Caller, tree: Iterable[Task], run: Run | None) -> None:
    """Store the key for the run or, without one, for the next run of the tree."""
    tasks = list(tree)
    run_secrets.keep(
        llm_key,
        tree_id=tasks[0].root_id,
        run_id=run.id if run else None,
        user_id=caller.user_id,
        model_names=model_names(tasks),
    )


def _parts_of_templates(task: Task, tree: Sequence[Task]) -> set[str]:
    """Return the ids of the tasks that never run themselves. Raises StatusConflict if the task is one of them."""
    for map_id, template in (templates := templates_of(tree)).items():
        if any(part.id == task.id for part in template):
            raise StatusConflict(
                f"Task '{task.id}' is part of the template of '{map_id}', which runs copies of it. Execute '{map_id}'.",
                data={"task_id": task.id, "map_id": map_id},
            )
    return {part.id for template in templates.values() for part in template}


def _new_copy(*, caller: Caller, task_id: str, with_children: bool) -> tuple[Task, Copy]:
    task = get_task(caller=caller, task_id=task_id)
    tree = tree_of(task, without=["steps", "call"])
    _parts_of_templates(task, tree)
    return task, copies.copied(task, tree, copies.for_execution(task.id, tree, with_children=with_children))


def execute_copy(task: Task, copy: Copy, *, context_id: str | None = None, reserved_id: str | None = None) -> Execution:
    """Queue the run of a stored copy that the task is part of, in the caller's transaction."""
    run = _start_run(copy.root, context_id=context_id, reserved_id=reserved_id)
    carry_over(latest_of(task.root_id), run)
    return Execution(
        task=next(row for row in copy.tasks if row.original_task_id == task.id),
        run=run,
        started=True,
        original_task_id=task.id,
        ids=copy.ids,
        warnings=copy.warnings,
    )


def _execution(task: Task, run: Run, *, started: bool) -> Execution:
    return Execution(task=task, run=run, started=started, original_task_id=None, ids={task.id: task.id}, warnings=[])


@transaction.atomic
def execute_again(*, caller: Caller, task_id: str) -> Execution:
    """Queue a run of the whole tree of a task. Tasks that others have added to it are deleted: they are added again.

    While the tree is running nothing changes; then `started` is False. Raises TaskNotFound.
    """
    task = held_task(caller=caller, task_id=task_id)
    if not Run.objects.unfinished().filter(root_id=task.root_id).exists():
        tree = Task.objects.filter(root_id=task.root_id)
        if tree.filter(spawned_by__isnull=False).delete()[0]:
            below = tree.filter(parent_id=OuterRef("id"))
            tree.filter(~Exists(below), has_children=True).update(has_children=False)
        tree.update(**TO_RUN_AGAIN, steps=None, call=None, updated_at=datetime.now(UTC))
    return execute_task(caller=caller, task_id=task.root_id)
