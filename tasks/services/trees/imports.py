"""Store trees of another server as they are: with statuses, results and times, and without running them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.callers import LOCAL_USER
from tasks.events import pruning
from tasks.executors import disabled_executors, executor_ids
from tasks.models import Run, Task
from tasks.models.runs import FAILURES, LONGEST_ERROR
from tasks.rules.exceptions import ExecutorNotFound, TasksError
from tasks.rules.specs import TreeLimits, TreeSpec, parse_tree
from tasks.rules.strict_json import Json
from tasks.services.trees.persist import rows_of
from tasks.status import Status
from tasks.storage.bulk import batched, insert_many

LOOKUP_CHUNK: Final = 5_000
PRUNED: Final = 1
"""The `last_seq` of an imported run: it says that there were events, which are deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The columns of a task that the other server has set."""

    status: Status
    result: Any
    error: str | None
    progress: float
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    has_copy: bool
    original_task_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignTree:
    """A tree to store. `tasks` are those that `tasks.create` accepts, each with its id; the root is the first."""

    tasks: list[Json]
    states: Mapping[str, State]

    @property
    def root_id(self) -> str:
        return str(self.tasks[0]["id"])


class Fate(Enum):
    """The action of the import on a tree."""

    IMPORTED = auto()
    PRESENT = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`reason` says why a tree is refused. `warnings` has the ids of tasks that cannot run here, and why."""

    fate: Fate
    reason: str = ""
    warnings: Sequence[tuple[str, str]] = ()


def import_trees(
    *, trees: Sequence[ForeignTree], default_user: str = LOCAL_USER, dry_run: bool = False
) -> list[Outcome]:
    """Store these trees in one transaction, and return the outcome of each; with `dry_run` only return the outcomes.

    Trees that are here already are not stored again: those whose root has the same id, name and time of creation.
    A tree without an owner gets `default_user`. A tree that has ended gets a run that ended then, without events.
    """
    parsed = [_parsed(tree) for tree in trees]
    while True:
        taken: dict[str, Task] = {}
        for chunk in batched([str(task["id"]) for tree in trees for task in tree.tasks], LOOKUP_CHUNK):
            taken |= Task.objects.only("id", "root_id", "name", "created_at").in_bulk(list(chunk))
        outcomes = [_outcome(tree, spec, taken) for tree, spec in zip(trees, parsed, strict=True)]
        new = [
            (tree, spec)
            for tree, spec, outcome in zip(trees, parsed, outcomes, strict=True)
            if outcome.fate is Fate.IMPORTED and isinstance(spec, TreeSpec)
        ]
        if dry_run or not new:
            return outcomes
        rows = [_rows(tree, spec, default_user) for tree, spec in new]
        try:
            with transaction.atomic():
                insert_many((task for tasks in rows for task in tasks), Task)
                insert_many((run for tasks in rows for run in _runs(tasks)), Run)
                pruning.forget_sweeps()  # these runs ended in the past
        except IntegrityError:  # another process took one of the ids since the look-up: look again
            continue
        return outcomes


def _parsed(tree: ForeignTree) -> TreeSpec | TasksError:
    """Return the tree by our rules, or the rule that it breaks. Any executor will do: the task may have run elsewhere."""
    most = settings.APFLOW.limits
    places = [
        place.get(field)
        for task in tree.tasks
        for name, field in (("params", "executor_id"), ("schemas", "method"))
        if isinstance(place := task.get(name), dict)
    ]
    known = executor_ids() | disabled_executors().keys() | {named for named in places if isinstance(named, str)}
    try:
        return parse_tree(
            tree.tasks, executors=known, limits=TreeLimits(tasks=most.tasks_per_tree, depth=most.tree_depth)
        )
    except TasksError as error:
        return error


def _outcome(tree: ForeignTree, spec: TreeSpec | TasksError, taken: Mapping[str, Task]) -> Outcome:
    root, same = taken.get(tree.root_id), (tree.tasks[0]["name"], tree.states[tree.root_id].created_at)
    if root is not None and root.is_root and (root.name, root.created_at) == same:
        return Outcome(fate=Fate.PRESENT)
    if isinstance(spec, TasksError):
        return Outcome(fate=Fate.REFUSED, reason=spec.message)
    used = next((task["id"] for task in tree.tasks if task["id"] in taken), None)
    if used is not None:
        reason = f"The id '{used}' is in use by another task here. Delete that task, then import again."
        return Outcome(fate=Fate.REFUSED, reason=reason)
    return Outcome(fate=Fate.IMPORTED, warnings=list(_warnings(tree, spec)))


def _warnings(tree: ForeignTree, spec: TreeSpec) -> Iterator[tuple[str, str]]:
    """Yield the pending tasks whose executor this server does not have."""
    for task in spec.tasks:
        executor_id = task.executor_id
        is_missing = executor_id is not None and executor_id not in executor_ids()
        if is_missing and tree.states[task.id].status is Status.PENDING:
            missing = ExecutorNotFound(str(executor_id), enable_with=disabled_executors().get(str(executor_id)))
            yield task.id, f"It fails when it runs: {missing.message}"


def _rows(tree: ForeignTree, spec: TreeSpec, default_user: str) -> list[Task]:
    owner = spec.tasks[0].user_id or default_user
    rows = rows_of(spec, ids={task.id: task.id for task in spec.tasks}, user_id=owner)
    for row in rows:
        state = tree.states[row.id]
        for field in fields(state):
            setattr(row, field.name, getattr(state, field.name))
        row.attempt = 0 if state.started_at is None else 1
        row.origin_type = "copy" if state.original_task_id else "create"
    return rows


def _runs(tasks: Sequence[Task]) -> list[Run]:
    """Return the run of a tree that has ended, else none."""
    statuses = {Status(task.status) for task in tasks}
    if not all(status.is_terminal for status in statuses):
        return []
    root = tasks[0]
    created_at = min(task.created_at for task in tasks)
    status = next((each for each in (Status.FAILED, Status.CANCELLED) if each in statuses), Status.COMPLETED)
    failed = [task for task in tasks if task.status == Status.FAILED]
    failed.sort(key=lambda task: task.completed_at or task.updated_at)
    failures = [
        {"task_id": task.id, "name": task.name, "error": (task.error or "")[:LONGEST_ERROR]}
        for task in failed[:FAILURES]
    ]
    return [
        Run(
            root_id=root.id,
            target_id=root.id,
            user_id=root.user_id,
            context_id=root.id,
            status=status,
            failures=failures or None,
            last_seq=PRUNED,
            created_at=created_at,
            started_at=min((task.started_at for task in tasks if task.started_at), default=created_at),
            finished_at=max(task.completed_at or task.updated_at for task in tasks),
        )
    ]
