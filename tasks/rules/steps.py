"""Steps: a task adds tasks to its tree, and is called again with how they ended (`Spawn` with `again`). Pure.

The latest step of a task is stored with it, in the transaction that adds the tasks of the step. The code of a workflow runs beside its
steps instead: each of these has its call in the row (`tasks.worker.live`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tasks.rules.interrupts import INTERRUPTED
from tasks.rules.strict_json import Json
from tasks.status import Status

CANCEL: Final = "cancel"
"""The key, in the call of a workflow, of the order of the code that cancelled it."""
CANCELLATION: Final = ""
"""The end, among those that the code of a workflow has seen, that is the cancellation of the workflow itself."""
FAILED_AFTER: Final = "failed_after"
"""The key, in the `call` of a workflow that failed, of the number of calls that it had made before what made it fail."""
PART: Final = "part"
"""The key, in the `call` of a workflow, of the part that it is in, from the second one on: its number, arguments, seed, time and first position."""
RAISED: Final = "raised"
"""The key, in the call of a workflow, of the name and the arguments of the exception that the code gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The latest step of a task: its number, from 1, and how many tasks it added.

    `again`: the executor is called again with `memo`. `usage` is the token usage of the task until then.
    """

    number: int
    tasks: int
    again: bool = False
    memo: Any = None
    usage: Json | None = None

    def stored(self) -> Json:
        """Return the JSON of the step, which `read` takes."""
        return self.over() | {"usage": self.usage} | ({"memo": self.memo} if self.again else {})

    def over(self) -> Json:
        """Return what is left of it when the task has completed."""
        return {"number": self.number, "tasks": self.tasks}


def read(stored: Json) -> Step:
    """Return the step of which `stored` is the JSON."""
    return Step(
        number=stored["number"],
        tasks=stored["tasks"],
        again="memo" in stored,
        memo=stored.get("memo"),
        usage=stored.get("usage"),
    )


class Stored(Protocol):
    """The attributes of a task that are read here."""

    id: str
    parent_id: str | None
    status: str
    error: str | None
    spawned_by: str | None


def taken_up(tree: Sequence[Stored], steps: Mapping[str, Json]) -> set[str]:
    """Return the ids of the tasks whose end is decided: that of the task that takes the steps builds on it.

    They are what such a task has added, with all below it: in earlier steps, if it has failed, and in all steps of a
    task that has completed. `steps` maps the ids of the tasks that take steps to what is stored of them.
    """
    by_spawner = defaultdict[str, list[Stored]](list)
    for task in tree:
        if task.spawned_by is not None and task.spawned_by in steps:
            by_spawner[task.spawned_by].append(task)
    completed = {task.id for task in tree if task.status == Status.COMPLETED}
    found = set[str]()
    for task_id, parts in by_spawner.items():
        earlier = len(parts) - steps[task_id]["tasks"]
        for index, part in enumerate(parts):
            # The end of a part that a crash has interrupted is not known.
            has_failed = part.status == Status.FAILED and INTERRUPTED not in (part.error or "")
            if task_id in completed or index < earlier or has_failed:
                found.add(part.id)
    return _with_all_below(found, tree)


def heard(tree: Sequence[Stored], calls: Mapping[str, Json]) -> set[str]:
    """Return the ids of the calls of workflows whose end is decided, with all below them: the code has built on it.

    They are those of a workflow that has completed, those whose ends a later call has seen, and those that the code cancelled before
    its last call. Others, such as the one whose failure ended the code, may run again: a replay comes to them. `calls` maps the ids of
    the tasks that such code has called to their calls. `tree` has none of those that are superseded.
    """
    by_workflow = _by_workflow(tree, calls)
    completed = {task.id for task in tree if task.status == Status.COMPLETED}
    found = set[str]()
    for workflow_id, parts in by_workflow.items():
        seen = {path for part in parts for path in calls[part.id]["seen"]}
        for part in parts:
            call = calls[part.id]
            is_cancelled_before = CANCEL in call and call[CANCEL]["after"] < len(parts)
            if workflow_id in completed or call["path"] in seen or is_cancelled_before:
                found.add(part.id)
    return _with_all_below(found, tree)


def superseded(tree: Sequence[Stored], calls: Mapping[str, Json]) -> set[str]:
    """Return the ids of the calls, with all below them, that workflows made after they were cancelled, or after what made them fail: they
    cleaned up. Another run goes back to before that, since a replay would come to the cancellation, or the failure, again.
    """
    completed = {task.id for task in tree if task.status == Status.COMPLETED}
    found = set[str]()
    for workflow_id, parts in _by_workflow(tree, calls).items():
        if workflow_id in completed:
            continue
        cancelled_after = next(
            (n for n, part in enumerate(parts) if CANCELLATION in calls[part.id]["seen"]), len(parts)
        )
        failed_after = calls.get(workflow_id, {}).get(FAILED_AFTER, len(parts))
        found.update(part.id for part in parts[min(cancelled_after, failed_after) :])
    return _with_all_below(found, tree)


def _by_workflow(tree: Sequence[Stored], calls: Mapping[str, Json]) -> dict[str, list[Stored]]:
    """Map the ids of workflows to the tasks that they have called, in order."""
    found = defaultdict[str, list[Stored]](list)
    for task in tree:
        if task.spawned_by is not None and "path" in calls.get(task.id, ()):
            found[task.spawned_by].append(task)
    return found


def _with_all_below(found: set[str], tree: Sequence[Stored]) -> set[str]:
    for task in tree:  # a task comes after what it is below
        if task.parent_id in found or task.spawned_by in found:
            found.add(task.id)
    return found
