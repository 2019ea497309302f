"""The details of one task: the reply of `tasks.detail`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from accounts.callers import Caller
from tasks.models import Question, Run, Task, TaskEvent
from tasks.rules.exceptions import TaskNotFound
from tasks.rules.inputs import dependency_results, resolved_inputs
from tasks.rules.strict_json import Json
from tasks.services.queries import get_tree
from tasks.services.questions import open_questions
from tasks.status import Status

EVENTS_SHOWN: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A task and its surroundings.

    `events` are its own in the latest run of its tree, oldest first.

    `queued_seconds` counts from the start of the run to that of the task, `run_seconds` from there
    to the task's end; either keeps counting until then, and is None if it does not apply.
    """

    task: Task
    run: Run | None
    events: list[dict[str, Any]]
    children: list[Task]
    dependants: list[Task]
    resolved_inputs: Json
    queued_seconds: float | None
    run_seconds: float | None
    question: Question | None


def detail(*, caller: Caller, task_id: str) -> Detail:
    """Return a task with its surroundings and latest events. Raises TaskNotFound."""
    tree = get_tree(caller=caller, task_id=task_id)
    task = next((row for row in tree if row.id == task_id), None)
    if task is None:  # deleted between the two queries
        raise TaskNotFound(task_id)
    runs = list(Run.objects.filter(root_id=task.root_id).order_by("-number"))
    queued_seconds, run_seconds = _timings(task, runs)
    return Detail(
        task=task,
        run=runs[0] if runs else None,
        events=_events(runs[0], task_id) if runs else [],
        children=[row for row in tree if row.parent_id == task_id],
        dependants=[row for row in tree if any(item["id"] == task_id for item in row.dependencies)],
        resolved_inputs=_resolved_inputs(task, tree),
        queued_seconds=queued_seconds,
        run_seconds=run_seconds,
        question=next(iter(open_questions(caller, task_id=task_id)), None),
    )


def _events(run: Run, task_id: str) -> list[dict[str, Any]]:
    newest = TaskEvent.objects.filter(run_id=run.id, task_id=task_id).order_by("-seq")[:EVENTS_SHOWN]
    return [event.payload for event in reversed(newest)]


def _resolved_inputs(task: Task, tree: Sequence[Task]) -> Json:
    """Return the inputs that the executor gets, or would get now."""
    results = {row.id: row.result for row in tree if row.status == Status.COMPLETED}
    schema = (task.schemas or {}).get("input_schema", {})
    found = dependency_results(task.dependencies, results)
    return resolved_inputs(task.inputs, input_schema=schema, from_dependencies=found)


def _timings(task: Task, runs: Sequence[Run]) -> tuple[float | None, float | None]:
    """Return `queued_seconds` and `run_seconds`. `runs` are newest first.

    A task that kept its result from an earlier run was queued in that run.
    """
    now = datetime.now(UTC)
    if task.started_at is None:
        waits = bool(runs) and runs[0].finished_at is None and not Status(task.status).is_terminal
        return (_seconds(runs[0].created_at, now) if waits else None), None
    started_at = task.started_at
    own = next((run for run in runs if run.created_at <= started_at), None)
    queued_seconds = _seconds(own.created_at, started_at) if own else None
    return queued_seconds, _seconds(started_at, task.completed_at or now)


def _seconds(start: datetime, end: datetime) -> float:
    return max(0.0, round((end - start).total_seconds(), 6))
