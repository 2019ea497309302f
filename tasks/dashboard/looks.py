"""The statuses of tasks as people see them: a root has that of its run, a group that of its children, and a task that
never ran because a dependency failed is no failure of its own.
"""

from collections.abc import Collection, Sequence

from aipartnerupflow.growth import with_groups
from tasks.models import Run, Task
from tasks.rules.maps import for_each_of
from tasks.status import Status


def mark_handled(tasks: Sequence[Task], *, is_live: bool = False) -> None:
    """Mark those of these tasks of one tree whose failure fails no run: they may fail, or a map collects their failures.

    Without a failed task it reads nothing, unless tasks may yet fail (`is_live`).
    """
    if not is_live and not any(task.status == Status.FAILED and task.cause_id is None for task in tasks):
        return
    tree = Task.objects.tree(tasks[0].root_id).order_by()
    allowed = tree.filter(params__contains='"allow_failure":').values_list("id", "params")
    may_fail = {task_id for task_id, params in allowed if params and params.get("allow_failure")}
    maps = tree.filter(executor_id=None, params__contains='"on_failure":').values_list("id", "params")
    collecting = {task_id for task_id, params in maps if (found := for_each_of(params)) is not None and found.collects}
    parents = dict(tree.values_list("id", "parent_id")) if collecting else {}
    for task in tasks:
        above = parents.get(task.id)
        while above is not None and above not in collecting:
            above = parents.get(above)
        if task.id in may_fail or above is not None:
            vars(task)["may_fail"] = True


def looks_of(tasks: Sequence[Task], *, run: Run | None, boxes: Collection[str]) -> dict[str, str]:
    """Map the id of each task of a tree to the status that its drawings show. `boxes` are the ids of maps, loops and spawners."""
    groups = [task.id for task in tasks if task.executor_id is None and task.id not in boxes]
    statuses = {task.id: task.shown_status for task in tasks}
    found = with_groups(statuses, {task.id: task.parent_id for task in tasks}, groups)
    return found if run is None else found | {run.root_id: run.status}
