"""The statuses of tasks as people see them: a root has that of its run, a group that of its children, and a task that
never ran because a dependency failed is no failure of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import starmap
from typing import Any, Final, Protocol

from aipartnerupflow.growth import HANDLED, NOT_RUN, with_groups
from tasks.models import Run, Task
from tasks.rules.maps import for_each_of
from tasks.rules.steps import heard
from tasks.rules.tree import WORKFLOW
from tasks.status import Status


class Shown(Protocol):
    """The attributes of a task, a row or a `Seen`, from which its place and its look in the tree follow."""

    id: str
    root_id: str
    parent_id: str | None
    name: str
    status: str
    cause_id: str | None
    executor_id: str | None
    spawned_by: str | None
    progress: float

    @property
    def dependencies(self) -> Sequence[Mapping[str, Any]]: ...

    @property
    def shown_status(self) -> str: ...


@dataclass
class Seen:
    """A task with only what its place and its look in the tree follow from: a model takes five times the time to load."""

    id: str
    root_id: str
    parent_id: str | None
    name: str
    status: str
    cause_id: str | None
    executor_id: str | None
    spawned_by: str | None
    progress: float
    dependencies: Sequence[Mapping[str, Any]]

    @property
    def shown_status(self) -> str:
        """The status for people, as that of `Task`."""
        if self.cause_id is not None:
            return NOT_RUN
        return HANDLED if self.status == Status.FAILED and "may_fail" in vars(self) else self.status


COLUMNS: Final = tuple(field.name for field in fields(Seen))


def seen_of(root_id: str) -> list[Seen]:
    """Load all tasks of a tree, in the order of their positions."""
    return list(starmap(Seen, Task.objects.tree(root_id).values_list(*COLUMNS)))


def mark_handled(tasks: Sequence[Shown], *, is_live: bool = False) -> None:
    """Mark those of these tasks of one tree whose failure fails no run: they may fail, or a map collects their failures.

    Without a failed task it reads nothing, unless tasks may yet fail (`is_live`).
    """
    if not is_live and not any(task.status == Status.FAILED and task.cause_id is None for task in tasks):
        return
    tree = Task.objects.tree(tasks[0].root_id).order_by()
    allowed = tree.filter(params__contains='"allow_failure":').values_list("id", "params")
    may_fail = {task_id for task_id, params in allowed if params and params.get("allow_failure")}
    if may_fail:  # the code of a workflow that failed did not catch what no later call of it has seen
        failed = tree.filter(executor_id__startswith=WORKFLOW, status=Status.FAILED)
        called = tree.filter(spawned_by__in=failed.values("id"), call__isnull=False)
        calls = list(called.only("id", "parent_id", "root_id", "status", "spawned_by", "error", "call"))
        may_fail -= {call.id for call in calls} - heard(calls, {call.id: call.call for call in calls})
    maps = tree.filter(executor_id=None, params__contains='"on_failure":').values_list("id", "params")
    collecting = {task_id for task_id, params in maps if (found := for_each_of(params)) is not None and found.collects}
    parents = dict(tree.values_list("id", "parent_id")) if collecting else {}
    for task in tasks:
        above = parents.get(task.id)
        while above is not None and above not in collecting:
            above = parents.get(above)
        if task.id in may_fail or above is not None:
            vars(task)["may_fail"] = True


def looks_of(tasks: Sequence[Shown], *, run: Run | None, boxes: Collection[str]) -> dict[str, str]:
    """Map the id of each task of a tree to the status that its drawings show. `boxes` are the ids of maps, loops and spawners."""
    groups = [task.id for task in tasks if task.executor_id is None and task.id not in boxes]
    statuses = {task.id: task.shown_status for task in tasks}
    found = with_groups(statuses, {task.id: task.parent_id for task in tasks}, groups)
    return found if run is None else found | {run.root_id: run.status}
