"""The tree of a run, as it stood when the run ended.

A task that no later run has ended again is as its row says. The event log has the
status, result, error and times of the others, and the records of model calls have their usage. Names, inputs and
settings are those of the rows. A task that a later run added is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from accounts.callers import Caller
from tasks.models import Run, Task, TaskEvent
from tasks.rules.strict_json import TEXT, Json
from tasks.services import history
from tasks.services.history import RunFacts
from tasks.services.secrets.write_only import for_pages
from tasks.services.spending.usage import usage_of_tasks
from tasks.status import Status
from tasks.storage import loads
from tasks.storage.bulk import batched

ENDS: Final = ("task_completed", "task_failed", "task_cancelled", "task_skipped")
START: Final = "task_start"
RUNS: Final = 50
"""The number of runs whose events one query reads."""
EVENTS: Final = 1_000
PRUNED: Final = (
    "Events of this tree have been deleted (events.keep_days): {count:,} of its tasks ended again in a later run and "
    "are shown as pending."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTree:
    """A run with its tasks, in the order of their request and with texts."""

    facts: RunFacts
    tasks: list[Task]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The events with which a task ended in a run, and with which its last attempt had started there (None: it never did)."""

    run_id: str
    event_id: int
    start_id: int | None

    @property
    def event_ids(self) -> list[int]:
        return [self.event_id] if self.start_id is None else [self.event_id, self.start_id]


def past_tree(*, caller: Caller, run_id: str) -> PastTree:
    """Return the tree of the run; of one that is not over, as it is now. Raises RunNotFound or ResponseTooLarge."""
    facts = history.facts_of(caller=caller, run_id=run_id)
    rows = Task.objects.tree(facts.run.root_id)
    loads.spend_on(rows, *loads.TASK_COLUMNS)
    tasks = list(loads.with_texts(rows))
    ended_at = facts.run.finished_at
    if ended_at is None:
        return PastTree(facts=facts, tasks=tasks)
    there = [task for task in tasks if task.spawned_by is None or task.created_at <= ended_at]
    changed = [task for task in there if task.completed_at is None or task.completed_at > ended_at]
    return PastTree(facts=facts, tasks=there, warnings=_set_back(changed, facts.run) if changed else [])


def _set_back(tasks: Sequence[Task], run: Run) -> list[str]:
    """Give the tasks the state that they had at the end of the run. Returns warnings. Raises ResponseTooLarge."""
    wanted = {task.id for task in tasks}
    ends: dict[str, End] = {}  # the last one of each task until the end of the run
    is_whole = True  # whether the log still has all of them
    earlier = Run.objects.filter(root_id=run.root_id, number__lte=run.number).order_by("-number")
    for chunk in batched(list(earlier.values_list("id", flat=True)), RUNS):
        of_runs = _ends_of(chunk)
        is_whole = is_whole and len(of_runs) == len(chunk)
        for run_id in chunk:  # the newest first
            ends = {task_id: end for task_id, end in of_runs.get(run_id, {}).items() if task_id in wanted} | ends
        if wanted <= ends.keys():
            break
    payloads: dict[int, Json] = {}
    for some in batched([event_id for end in ends.values() for event_id in end.event_ids], EVENTS):
        events = TaskEvent.objects.filter(id__in=some)
        loads.spend_on(events, "payload")
        payloads |= dict(events.values_list("id", "payload"))
    used = usage_of_tasks({end.run_id for end in ends.values()})
    for task in tasks:
        if (end := ends.get(task.id)) is not None:
            event, start = payloads[end.event_id], payloads.get(end.start_id or 0)
            task.status, task.error, task.progress = event["status"], event["error"], event["progress"]
            task.cause_id, task.cached_from = event.get("cause_id"), event.get("cached_from")
            task.started_at = None if start is None else datetime.fromisoformat(start["timestamp"])
            task.completed_at = datetime.fromisoformat(event["timestamp"])
            task.token_usage = used.get((end.run_id, task.id))
            task.checks = None  # they are only known of the latest run
            _set_result(task, event["result"])
        else:
            task.status, task.error, task.progress, task.token_usage = Status.PENDING, None, 0.0, None
            task.attempt, task.started_at, task.completed_at, task.cause_id, task.checks = 0, None, None, None, None
            task.cached_from = None
            _set_result(task, None)
    unknown = len(tasks) - len(ends)
    return [PRUNED.format(count=unknown)] if unknown and not is_whole else []


def _ends_of(run_ids: Sequence[str]) -> dict[str, dict[str, End]]:
    """Return the ends of tasks in each of these runs. A run whose last event is gone is left out."""
    found: dict[str, dict[str, End]] = {}
    starts: dict[tuple[str, str], int] = {}
    events = TaskEvent.objects.filter(run_id__in=run_ids, type__in=(START, *ENDS, "final")).order_by("run_id", "seq")
    whole = set[str]()
    for event_id, run_id, type_, task_id in events.values_list("id", "run_id", "type", "task_id"):
        if type_ == "final":
            whole.add(run_id)
        elif type_ == START:
            starts[run_id, task_id] = event_id
        else:
            end = End(run_id=run_id, event_id=event_id, start_id=starts.get((run_id, task_id)))
            found.setdefault(run_id, {})[task_id] = end
    return {run_id: found.get(run_id, {}) for run_id in whole}


def _set_result(task: Task, result: Any) -> None:
    vars(task)[f"result{TEXT}"] = None if result is None else orjson.dumps(result).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunExport:
    """`events` are those that have not been deleted, in order; None: not asked for."""

    detail: history.RunDetail
    past: PastTree
    events: Sequence[Json] | None


def export(*, caller: Caller, run_id: str, with_events: bool) -> RunExport:
    """Return a run with its tree. Raises RunNotFound or ResponseTooLarge."""
    detail = history.get_run(caller=caller, run_id=run_id)
    past = past_tree(caller=caller, run_id=run_id)
    if not with_events:
        return RunExport(detail=detail, past=past, events=None)
    rows = TaskEvent.objects.filter(run_id=run_id)
    loads.spend_on(rows, "payload")
    events = list(rows.order_by("seq").values_list("payload", flat=True))
    return RunExport(detail=detail, past=past, events=events)


def for_file(*, caller: Caller, run_id: str) -> RunExport:
    """Like `export`, with events; without the parts of inputs that pages do not show, for a file that people pass on."""
    found = export(caller=caller, run_id=run_id, with_events=True)
    for task in found.past.tasks:
        columns = vars(task)
        task.schemas = orjson.loads(columns.pop(f"schemas{TEXT}") or "null")
        task.inputs = for_pages(task, orjson.loads(columns.pop(f"inputs{TEXT}") or "{}"))
    return found
