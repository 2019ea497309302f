"""The data of a tree's page: hierarchy, timeline and dependency graph."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from accounts.callers import Caller
from tasks.dashboard.boxes import Box, Boxes, Folds, boxes_of, settings_of_boxes
from tasks.dashboard.graph import graph_of, in_order
from tasks.dashboard.listing import StatusBar, bar_of, seconds_of
from tasks.dashboard.logs import join_words, name_in
from tasks.dashboard.looks import looks_of, mark_handled
from tasks.models import Firing, Question, Run, Schedule, Task, TaskEvent
from tasks.rules.exceptions import TaskNotFound
from tasks.rules.strict_json import Json
from tasks.rules.tree import children_of, mean_progress, needs_of, node_of
from tasks.services.history.task_detail import newest_events
from tasks.services.runs.child_runs import parent_of
from tasks.services.runs.run_inputs import tags_of
from tasks.services.spending.budgets import Limit, limits_of
from tasks.services.trees.queries import root_of
from tasks.services.waits import open_waits
from tasks.services.waits.questions import open_questions
from tasks.status import Status

MAX_LINES: Final = 2_000
"""Limit of the timeline. The graph has all tasks."""
EVENTS_SHOWN: Final = 200
CAUSES_SHOWN: Final = 3
WAITS_SHOWN: Final = 3
SCHEDULES_SHOWN: Final = 5
DEEPEST: Final = 12
"""Deeper levels are not indented further."""
AXIS_PARTS: Final = 4
BORDER_TYPES: Final = ("task_start", "task_retry")
USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens", "cost_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A time span, in milliseconds since the run was created: `wait` (ready, not started), `attempt`, `last` (the latest
    attempt) or `pause` (before a retry). `is_open`: not finished."""

    kind: str
    start: int
    width: int
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A task, its depth, and its time spans in the latest run. `is_kept`: the result is of an earlier run."""

    task: Task
    look: str
    """Its status in the drawing (`looks_of`)."""
    number: int
    """Its index in the data of the scripts."""
    depth: int
    bars: list[Bar]
    seconds: float | None
    is_kept: bool
    box: Box | None = None
    is_template: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The current state of a tree and its latest run."""

    root: Task
    run: Run | None
    status: str
    lines: list[Line]
    """The lines of the timeline: up to MAX_LINES, the selected task among them."""
    first: int
    """The number of lines of the tree before these."""
    earlier: Task | None
    """The task of the line before these, and `later` that of the line after them."""
    later: Task | None
    left_out: int
    folds: Folds
    span_ms: int
    counts: dict[str, int]
    """The number of tasks by status, without templates of which copies run."""
    stored_count: int
    progress: float
    """Mean progress of the running tasks, 0.0 to 1.0."""
    graph: Json
    token_usage: Json | None
    budget: list[Limit]
    """The amounts of its budget that the run has spent."""
    failed: list[Task]
    """The tasks that failed the run, in the order in which they ended."""
    asking: list[tuple[Question, str]]
    """Open questions, with the names of their tasks."""
    waits: list[tuple[Question, str]]
    """The next waits for a time, an event or a run to end, with the names of their tasks."""
    parent: Question | None
    """The wait of the task of another tree that has started the run."""
    firing: Firing | None
    """The time of a schedule that the latest run was started for, with the schedule."""
    schedules: list[Schedule]
    """The schedules that run this tree, or copies of it."""
    tags: list[str]
    """The tags of the latest run."""

    @property
    def causes(self) -> list[Task]:
        """The failed tasks that the banner lists."""
        return self.failed[:CAUSES_SHOWN]

    @property
    def more_causes(self) -> int:
        return max(0, len(self.failed) - CAUSES_SHOWN)

    @property
    def bar(self) -> StatusBar:
        """The share of tasks per status."""
        return bar_of(self.counts, self.progress)

    @property
    def task_count(self) -> int:
        return sum(self.counts.values())

    @property
    def seconds(self) -> float | None:
        """Duration since a worker started the run, as in the list. The timeline also shows the queue time."""
        return seconds_of(self.run)

    @property
    def started_ms(self) -> int | None:
        return round(self.run.started_at.timestamp() * 1000) if self.run and self.run.started_at else None

    @property
    def axis(self) -> list[int]:
        """Labels of the time axis, in milliseconds."""
        return [round(self.span_ms * part / AXIS_PARTS) for part in range(AXIS_PARTS + 1)]

    @property
    def is_running(self) -> bool:
        return self.run is not None and self.run.finished_at is None


def picture_of(*, caller: Caller, task_id: str, folds: Folds | None = None) -> Picture:
    """Load the tree of the task. Raises TaskNotFound, also if no address can contain the id of the root."""
    folds = folds or Folds(selected_id=task_id)
    root_id = root_of(caller=caller, task_id=task_id)
    if "\0" in root_id:  # stored by SQLite before every interface refused it
        raise TaskNotFound(task_id)
    # Read the run first: the stream may then repeat changes that the rows contain, but it misses none.
    run = Run.objects.filter(root_id=root_id).order_by("-number").first()
    tasks = list(Task.objects.tree(root_id).defer("inputs", "result", "schemas", "params", "steps"))
    now = datetime.now(UTC)
    root = next(task for task in tasks if task.is_root)
    mark_handled(tasks, is_live=run is not None and run.finished_at is None)
    boxes = boxes_of(tasks, settings_of_boxes(root_id), folds)
    drawn, _ = in_order(tasks, boxes)
    bars = _bars(tasks, drawn, run, now) if run else {}
    ordered = _in_order(drawn, root)
    # The part of the timeline with the selected task.
    place = next((number for number, (task, _) in enumerate(ordered) if task.id == folds.selected_id), 0)
    first = place - place % MAX_LINES
    end = min(first + MAX_LINES, len(ordered))
    counts = Counter(task.shown_status for task in tasks if boxes.counts(task))
    used = [task.token_usage for task in tasks if task.token_usage]
    token_usage = {name: sum(usage.get(name) or 0 for usage in used) for name in USAGE} if used else None
    failed = [task for task in tasks if task.shown_status == Status.FAILED]
    is_running = run is not None and run.finished_at is None
    names = {task.id: task.name for task in tasks}
    asking = open_questions(caller, run_ids=[run.id]) if run and is_running else []
    waits = open_waits(caller, run_id=run.id, limit=WAITS_SHOWN) if run and is_running else []
    firings = Firing.objects.select_related("schedule").defer("schedule__tasks", "schedule__inputs")
    return Picture(
        root=root,
        run=run,
        status=run.status if run else root.status,
        lines=_lines(ordered[first:end], drawn, boxes, bars, run, now, looks_of(tasks, run=run, boxes=boxes.by_id)),
        first=first,
        earlier=ordered[first - 1][0] if first else None,
        later=ordered[end][0] if end < len(ordered) else None,
        left_out=len(ordered) - (end - first),
        folds=folds,
        span_ms=max(1, _ms(run.created_at, run.finished_at or now)) if run else 1,
        counts=dict(counts),
        stored_count=len(tasks),
        progress=mean_progress(task.progress for task in tasks if task.status == Status.IN_PROGRESS),
        graph=graph_of(tasks, boxes, folds, run, now),
        token_usage=token_usage,
        budget=limits_of(run, root.params),
        asking=[(question, names[question.task_id]) for question in asking],
        parent=parent_of(run),
        firing=firings.filter(run_id=run.id).first() if run else None,
        schedules=list(
            Schedule.objects.filter(task_id=root_id).defer("tasks", "inputs").order_by("name")[:SCHEDULES_SHOWN]
        ),
        tags=tags_of([run.id]).get(run.id, []) if run else [],
        waits=[(wait, names[wait.task_id]) for wait in waits],
        failed=sorted(failed, key=lambda task: task.completed_at or datetime.max.replace(tzinfo=UTC)),
    )


def events_of(picture: Picture) -> list[Json]:
    """Load the newest events of the run that the picture contains, as many as fit into the response."""
    if picture.run is None:
        return []
    names = {task["id"]: task["name"] for task in picture.graph["tasks"]}
    shown = TaskEvent.objects.filter(run_id=picture.run.id, seq__lte=picture.run.last_seq)
    return [event | {"name": name_in(event, names)} for event in join_words(newest_events(shown, count=EVENTS_SHOWN))]


def first_failure(*, caller: Caller, root_id: str) -> str | None:
    """Return the task that failed first in the latest run, for the root of a tree. None: it has not failed, or is no root."""
    is_root = Task.objects.for_caller(caller).filter(id=root_id, parent_id=None).exists()
    run = Run.objects.filter(root_id=root_id).order_by("-number").first() if is_root else None
    if run is None or run.status != Status.FAILED:
        return None
    found = Task.objects.tree(root_id).filter(status=Status.FAILED, cause_id=None).order_by("completed_at")
    failed = list(found.only("id", "root_id", "parent_id", "status", "cause_id"))
    mark_handled(failed)
    return next((task.id for task in failed if task.shown_status == Status.FAILED), None)


def _in_order(tasks: Sequence[Task], root: Task) -> list[tuple[Task, int]]:
    """Sort tasks below their parents, each with its depth. Iterative: a tree may be deep."""
    by_id = {task.id: task for task in tasks}
    below = children_of(map(node_of, tasks))
    ordered, stack = [], [(root.id, 0)]
    while stack:
        task_id, depth = stack.pop()
        ordered.append((by_id[task_id], min(depth, DEEPEST)))
        stack += [(child, depth + 1) for child in reversed(below.get(task_id, []))]
    return ordered


def _lines(
    part: Sequence[tuple[Task, int]],
    drawn: Sequence[Task],
    boxes: Boxes,
    bars: Mapping[str, list[Bar]],
    run: Run | None,
    now: datetime,
    looks: Mapping[str, str],
) -> list[Line]:
    numbers = {task.id: number for number, task in enumerate(drawn)}
    return [
        Line(
            task=task,
            look=looks[task.id],
            number=numbers[task.id],
            depth=depth,
            bars=bars.get(task.id, []),
            seconds=(((task.completed_at or now) - task.started_at).total_seconds() if task.started_at else None),
            is_kept=_is_kept(task, run),
            box=boxes.by_id.get(task.id),
            is_template=task.id in boxes.templates,
        )
        for task, depth in part
    ]


def _is_kept(task: Task, run: Run | None) -> bool:
    return run is not None and task.completed_at is not None and task.completed_at < run.created_at


# --- timeline ---


def _bars(tasks: Sequence[Task], drawn: Sequence[Task], run: Run, now: datetime) -> dict[str, list[Bar]]:
    """Return the time spans of tasks that are drawn, by id. Tasks with the result of an earlier run have none."""
    ended = {task.id: task.completed_at for task in tasks if Status(task.status).is_terminal and task.completed_at}
    below = children_of(map(node_of, tasks))
    # The starts and retries of tasks with several attempts: the row has only the last attempt.
    borders: defaultdict[str, list[tuple[str, datetime]]] = defaultdict(list)
    if any(task.attempt > 1 for task in drawn):
        events = TaskEvent.objects.filter(run_id=run.id, type__in=BORDER_TYPES).order_by("seq")
        for task_id, kind, moment in events.values_list("task_id", "type", "created_at"):
            borders[task_id].append((kind, moment))
    end = run.finished_at or now
    bars = {}
    for task in drawn:
        if not _is_kept(task, run):
            needed, ready_at = needs_of(node_of(task), below), None
            if all(task_id in ended for task_id in needed):
                ready_at = max([run.created_at, task.created_at, *(ended[task_id] for task_id in needed)])
            bars[task.id] = _task_bars(task, ready_at, borders.get(task.id, []), run, end)
    return bars


def _task_bars(
    task: Task, ready_at: datetime | None, borders: Sequence[tuple[str, datetime]], run: Run, end: datetime
) -> list[Bar]:
    zero = run.created_at
    began_at = borders[0][1] if borders else task.started_at
    is_over = Status(task.status).is_terminal
    bars = []
    if ready_at is not None and not (is_over and began_at is None):
        bars.append(_bar("wait", zero, ready_at, began_at, end))
    for (kind, start), (_, stop) in pairwise(borders):
        bars.append(_bar("attempt" if kind == "task_start" else "pause", zero, start, stop, end))
    if borders and borders[-1][0] == "task_retry":
        bars.append(_bar("pause", zero, borders[-1][1], task.completed_at if is_over else None, end))
    elif task.started_at is not None:
        bars.append(_bar("last", zero, task.started_at, task.completed_at if is_over else None, end))
    return bars


def _bar(kind: str, zero: datetime, start: datetime, stop: datetime | None, end: datetime) -> Bar:
    first = _ms(zero, start)
    return Bar(kind=kind, start=first, width=max(0, _ms(zero, stop or end) - first), is_open=stop is None)


def _ms(zero: datetime, moment: datetime) -> int:
    return max(0, round((moment - zero).total_seconds() * 1000))
