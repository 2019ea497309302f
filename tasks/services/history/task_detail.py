"""The details of one task: the reply of `tasks.detail`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import Q, QuerySet

from accounts.callers import Caller
from aipartnerupflow.executors import ExecutorError
from tasks.executors.filling import filled_inputs
from tasks.models import ModelCall, Question, Run, Task, TaskEvent
from tasks.rules.exceptions import ResponseTooLarge
from tasks.rules.references import dependency_results, label_of, resolved_inputs
from tasks.rules.strict_json import Json
from tasks.services.flows.flow_lists import FlowOfRun, flow_of
from tasks.services.runs.child_runs import child_of, parent_of
from tasks.services.spending.usage import first_calls
from tasks.services.trees.queries import get_task
from tasks.services.waits import open_wait
from tasks.services.waits.questions import open_questions
from tasks.status import Status
from tasks.storage import loads

EVENTS_SHOWN: Final = 100
RELATIVES_SHOWN: Final = 20
"""The dependents of a task that its page shows."""
SHOWN: Final = ("id", "name", "status", "cause_id", "root_id", "parent_id")
"""The fields of other tasks that pages show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A task and its surroundings.

    `events` are its own in the latest run of its tree, oldest first.

    For a page, `dependants` are the first ones with the columns SHOWN only, and `children` is empty. `resolved_inputs`
    are None if they are too large and not required.

    `queued_seconds` counts from the start of the run to that of the task, `run_seconds` from there
    to the task's end; either keeps counting until then, and is None if it does not apply.
    """

    task: Task
    run: Run | None
    events: list[dict[str, Any]]
    children: list[Task]
    dependants: list[Task]
    dependant_count: int
    resolved_inputs: Json | None
    queued_seconds: float | None
    run_seconds: float | None
    question: Question | None
    wait: Question | None
    """The wait of the task, if it is for a time, an event or a run."""
    child: Run | None
    """The newest run that the task has started and waited for."""
    parent: Question | None
    """The wait of the task of another tree that has started the run."""
    flow: FlowOfRun | None
    """The flow of the run."""
    calls: list[ModelCall]
    """The first model calls of the task in the run, without what was said."""


def detail(*, caller: Caller, task_id: str, is_page: bool = False) -> Detail:
    """Return a task with its surroundings and latest events.

    For a page, only what pages show of the relatives. Raises TaskNotFound or ResponseTooLarge.
    """
    task = get_task(caller=caller, task_id=task_id)
    # The longest part of the id that is the same in every JSON: of a large tree, few rows are decoded.
    part = max(re.findall(r"[\w-]+", task_id, re.ASCII), key=len, default="")
    near = Task.objects.tree(task.root_id).filter(Q(parent_id=task_id) | Q(dependencies__contains=part))
    rows = list(near.values_list("id", "parent_id", "dependencies"))
    child_ids = [] if is_page else [row_id for row_id, parent_id, _ in rows if parent_id == task_id]
    dependant_ids = [row_id for row_id, _, needed in rows if any(item["id"] == task_id for item in needed)]
    if not is_page:
        sizes = dict(Task.objects.tree(task.root_id).values_list("id", loads.size_of(*loads.TASK_COLUMNS)))
        loads.spend(sum(sizes.get(each, 0) for each in {*child_ids, *dependant_ids}))
    whole = loads.with_texts(Task.objects.tree(task.root_id))
    children = [] if is_page else list(whole.filter(parent_id=task_id))
    dependant_count = len(dependant_ids)
    if is_page:
        dependant_ids = dependant_ids[:RELATIVES_SHOWN]
    relatives = (Task.objects.only(*SHOWN) if is_page else whole).in_bulk(dependant_ids)
    dependants = [relatives[each] for each in dependant_ids if each in relatives]
    runs = list(Run.objects.filter(root_id=task.root_id).order_by("-number"))
    queued_seconds, run_seconds = _timings(task, runs)
    latest = runs[0] if runs else None
    resolved: Json | None = None
    try:
        resolved = _resolved_inputs(task)
    except ResponseTooLarge:
        if not is_page:  # a page says so
            raise
    return Detail(
        task=task,
        run=latest,
        events=newest_events(TaskEvent.objects.filter(run_id=latest.id, task_id=task_id)) if latest else [],
        children=children,
        dependants=dependants,
        dependant_count=dependant_count,
        resolved_inputs=resolved,
        queued_seconds=queued_seconds,
        run_seconds=run_seconds,
        question=next(iter(open_questions(caller, task_id=task_id)), None),
        wait=open_wait(caller, task_id=task_id),
        child=child_of(latest, task_id=task_id),
        parent=parent_of(latest),
        flow=flow_of(latest),
        calls=first_calls(run_id=latest.id if latest else None, task_id=task_id),
    )


def newest_events(events: QuerySet[TaskEvent], *, count: int = EVENTS_SHOWN) -> list[dict[str, Any]]:
    """Return the newest of these events of a run, oldest first: `count`, or as many as fit into the response."""
    newest = events.order_by("-seq")[:count].values_list("id", loads.size_of("payload"))
    found = TaskEvent.objects.in_bulk(loads.spend_on_page(dict(newest), least=0))
    return [event.payload for event in sorted(found.values(), key=lambda event: event.seq)]


def _resolved_inputs(task: Task) -> Json:
    """Return the inputs that the executor gets, or would get now. Raises ResponseTooLarge."""
    schema = (task.schemas or {}).get("input_schema", {})
    found = results_of_dependencies(task)
    try:
        inputs: Json = filled_inputs(task, found, known=set(map(label_of, task.dependencies)))
    except ExecutorError:  # a dependency has no result yet, or not that value
        inputs = task.inputs
    return resolved_inputs(inputs, input_schema=schema, from_dependencies=found)


def results_of_dependencies(task: Task) -> Json:
    """Return the results of the dependencies that have completed, by the names that the task has for them.

    Raises ResponseTooLarge.
    """
    needed = [item["id"] for item in task.dependencies]
    rows = Task.objects.tree(task.root_id).filter(id__in=needed, status=Status.COMPLETED)
    loads.spend_on(rows, "result")
    return dependency_results(task.dependencies, dict(rows.values_list("id", "result")))


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
