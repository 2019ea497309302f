"""The data of a tree's page: hierarchy, timeline and dependency graph."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Final

from django.db.models import TextField
from django.db.models.functions import Substr

from accounts.callers import Caller
from aipartnerupflow.growth import NOT_RUN
from tasks.dashboard.boxes import Box, Boxes, Folds, boxes_of, rank_of, settings_of_boxes
from tasks.dashboard.graph import graph_of, in_order
from tasks.dashboard.listing import StatusBar, bar_of, seconds_of
from tasks.dashboard.logs import join_words, name_in
from tasks.dashboard.looks import Shown, looks_of, mark_handled, seen_of
from tasks.executors.workflows import STEP
from tasks.models import Firing, Question, Run, Schedule, Task, TaskEvent
from tasks.rules.exceptions import TaskNotFound
from tasks.rules.strict_json import Json
from tasks.rules.tree import mean_progress, needs_of, node_of
from tasks.services.history.task_detail import newest_events
from tasks.services.runs.child_runs import parent_of
from tasks.services.runs.run_inputs import tags_of
from tasks.services.spending.budgets import Limit, limits_of
from tasks.services.trees.queries import root_of
from tasks.services.waits import open_waits
from tasks.services.waits.needed_code import NeededCode, needed_by
from tasks.services.waits.questions import open_questions
from tasks.status import Status

WHOLE: Final = 1_000
"""A tree with more tasks is large: the scripts know only the lines in view and the tasks near the selected one."""
LINES: Final = 32
"""The lines of a large tree that are sent at a time: those in view, and some before and after them."""
BEFORE: Final = 11
"""The lines before the selected one."""
NEAR: Final = 10
"""The tasks of each kind near the selected one in the graph of a large tree."""
MOST_NEEDED: Final = 200
"""A group of a large tree with more children has no time at which it was ready."""
EVENTS_SHOWN: Final = 200
EVENTS_OF_LARGE: Final = 12
CAUSES_SHOWN: Final = 3
WAITS_SHOWN: Final = 3
SCHEDULES_SHOWN: Final = 5
DEEPEST: Final = 12
"""Deeper levels are not indented further."""
AXIS_PARTS: Final = 4
NAME_OF_ARGUMENT: Final = re.compile(r'(^|,)"\w+":')
ARGUMENTS_SHOWN: Final = 40
"""The number of characters of the arguments of a step."""
STOPPING: Final = (Status.FAILED, NOT_RUN, Status.CANCELLED)
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
    needs: str = ""
    """The dependency that kept the task from running, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The lines of a large tree that are wanted: those from `start` on, or around the selected task, among the tasks with the
    text in their name, id or executor and with the status."""

    start: int | None = None
    text: str = ""
    status: str = ""

    def has(self, task: Shown) -> bool:
        if self.status and task.shown_status != self.status:
            return False
        return self.text in f"{task.name}\n{task.id}\n{task.executor_id or ''}".lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The current state of a tree and its latest run."""

    root: Task
    run: Run | None
    status: str
    lines: list[Line]
    """The lines of the timeline: of a large tree LINES of them."""
    arguments: dict[str, str]
    """The arguments of the steps of workflows, as one short line."""
    is_large: bool
    first: int
    """The number of lines of the tree before these."""
    total: int
    """The number of all lines."""
    earlier: Shown | None
    """The task of the line before these, and `later` that of the line after them."""
    later: Shown | None
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
    causes: list[Task]
    """The first tasks that failed the run, in the order in which they ended: the banner lists them."""
    more_causes: int
    asking: list[tuple[Question, str]]
    """Open questions, with the names of their tasks."""
    waits: list[tuple[Question, str]]
    """The next waits for a time, an event or a run to end, with the names of their tasks."""
    needs: list[tuple[NeededCode, str]]
    """The code for which its workflows wait, with their names."""
    parent: Question | None
    """The wait of the task of another tree that has started the run."""
    firing: Firing | None
    """The time of a schedule that the latest run was started for, with the schedule."""
    schedules: list[Schedule]
    """The schedules that run this tree, or copies of it."""
    tags: list[str]
    """The tags of the latest run."""

    @property
    def left_out(self) -> int:
        return self.total - len(self.lines)

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


def picture_of(*, caller: Caller, task_id: str, folds: Folds | None = None, wanted: Wanted = Wanted()) -> Picture:
    """Load the tree of the task; of a large one, the `wanted` lines only.

    Raises TaskNotFound, also if no address can contain the id of the root.
    """
    folds = folds or Folds(selected_id=task_id)
    root_id = root_of(caller=caller, task_id=task_id)
    if "\0" in root_id:  # stored by SQLite before every interface refused it
        raise TaskNotFound(task_id)
    # Read the run first: the stream may then repeat changes that the rows contain, but it misses none.
    run = Run.objects.filter(root_id=root_id).order_by("-number").first()
    tree = Task.objects.tree(root_id).defer("inputs", "result", "schemas", "params", "steps", "call")
    is_large = tree.count() > WHOLE
    rows: dict[str, Task] = {} if is_large else {task.id: task for task in tree}
    tasks: Sequence[Shown] = seen_of(root_id) if is_large else list(rows.values())
    if not any(task.id == root_id for task in tasks):  # it has been deleted meanwhile
        raise TaskNotFound(task_id)
    now = datetime.now(UTC)
    is_running = run is not None and run.finished_at is None
    mark_handled(tasks, is_live=is_running)
    boxes = boxes_of(tasks, settings_of_boxes(root_id), folds)
    looks = looks_of(tasks, run=run, boxes=boxes.by_id)
    drawn, others = in_order(tasks, boxes)
    below = _below(drawn)
    listed = _in_order(drawn, root_id, below)
    if is_large and (wanted.text or wanted.status):
        hidden = [(task, 0) for task in others if boxes.place[task.id] is not None]
        listed = [(task, depth) for task, depth in [*listed, *hidden] if wanted.has(task)]
    by_id = {task.id: task for task in tasks}
    place = next((number for number, (task, _) in enumerate(listed) if task.id == folds.selected_id), -1)
    first, end = _range(place, len(listed), wanted) if is_large else (0, len(listed))
    part: tuple[list[Shown], list[Shown]] | None = None
    shown = [task for task, _ in listed[first:end]]
    if is_large:
        near = _near(by_id[boxes.place.get(folds.selected_id) or root_id], by_id, boxes, below)
        part = ([task for task in tasks if task.id in near], [task for task in shown if task.id not in near])
        rows = tree.in_bulk([root_id, *(task.id for task in shown)])
        if root_id not in rows:
            raise TaskNotFound(task_id)
        drawn = [*part[0], *part[1]]
    arguments = _arguments_of(root_id, [*drawn, *shown])
    graph = graph_of(tasks, boxes, folds, run, now, part=part, looks=looks, arguments=arguments)
    counts = Counter(task.shown_status for task in tasks if boxes.counts(task))
    progress = mean_progress(task.progress for task in tasks if task.status == Status.IN_PROGRESS)
    if is_large:
        graph |= {
            "range": {"first": first, "total": len(listed), "place": place, "at": boxes.place.get(folds.selected_id)},
            "counts": counts,
            "progress": progress,
        }
    failed = {task.id for task in tasks if task.shown_status == Status.FAILED}
    causes = _first_ended(root_id, failed)
    asking = open_questions(caller, run_ids=[run.id]) if run and is_running else []
    waits = open_waits(caller, run_id=run.id, limit=WAITS_SHOWN) if run and is_running else []
    firings = Firing.objects.select_related("schedule").defer("schedule__tasks", "schedule__inputs")
    numbers = {task.id: number for number, task in enumerate(drawn)}
    bars = _bars(rows, shown, below, run, now)
    root = rows[root_id]
    return Picture(
        root=root,
        run=run,
        status=run.status if run else root.status,
        lines=_lines(listed[first:end], rows, by_id, numbers, boxes, bars, run, now, looks),
        arguments=arguments,
        is_large=is_large,
        first=first,
        total=len(listed),
        earlier=listed[first - 1][0] if first else None,
        later=listed[end][0] if end < len(listed) else None,
        folds=folds,
        span_ms=max(1, _ms(run.created_at, run.finished_at or now)) if run else 1,
        counts=dict(counts),
        stored_count=len(tasks),
        progress=progress,
        graph=graph,
        token_usage=_used(root_id if is_large else None, rows),
        budget=limits_of(run, root.params),
        asking=[(question, by_id[question.task_id].name) for question in asking],
        parent=parent_of(run),
        firing=firings.filter(run_id=run.id).first() if run else None,
        schedules=list(
            Schedule.objects.filter(task_id=root_id).defer("tasks", "inputs").order_by("name")[:SCHEDULES_SHOWN]
        ),
        tags=tags_of([run.id]).get(run.id, []) if run else [],
        waits=[(wait, by_id[wait.task_id].name) for wait in waits],
        needs=[(each, by_id[each.task_id].name) for each in needed_by(run) if each.task_id in by_id],
        causes=causes,
        more_causes=len(failed) - len(causes),
    )


def _arguments_of(root_id: str, tasks: Sequence[Shown]) -> dict[str, str]:
    """Map the ids of steps of workflows to the beginning of their arguments: it tells calls of one function apart."""
    steps = {task.id for task in tasks if task.executor_id == STEP}
    if not steps:
        return {}
    beginning = Substr("inputs", 1, 4 * ARGUMENTS_SHOWN, output_field=TextField())
    rows = (
        Task.objects.tree(root_id).filter(executor_id=STEP).annotate(beginning=beginning).values_list("id", "beginning")
    )
    found = {
        task_id: NAME_OF_ARGUMENT.sub(r"\1", text.partition('"arguments":{')[2].partition("}")[0])
        for task_id, text in rows
        if task_id in steps
    }
    return {
        task_id: text if len(text) <= ARGUMENTS_SHOWN else f"{text[:ARGUMENTS_SHOWN]}…"
        for task_id, text in found.items()
    }


def _used(large_id: str | None, rows: Mapping[str, Task]) -> Json | None:
    """Return the tokens of all tasks together. The rows of a large tree, with the root `large_id`, are not all of its tasks."""
    used: list[Json] = [task.token_usage for task in rows.values() if task.token_usage is not None]
    if large_id is not None:
        found = Task.objects.tree(large_id).exclude(token_usage=None)
        used = [usage for usage in found.values_list("token_usage", flat=True) if usage is not None]
    return {name: sum(usage.get(name) or 0 for usage in used) for name in USAGE} if used else None


def _range(place: int, count: int, wanted: Wanted) -> tuple[int, int]:
    """Return the lines of a large tree from the first to the one before `end`. `place` is that of the selected task, or -1."""
    start = place - BEFORE if wanted.start is None else wanted.start
    first = max(0, min(start, count - LINES))
    return first, min(first + LINES, count)


def _stopped_by(task: Task, by_id: Mapping[str, Shown]) -> str:
    """Return the name of the first dependency that kept the task from running."""
    needed = [by_id[item["id"]] for item in task.dependencies if item["required"] and item["id"] in by_id]
    return next((each.name for each in needed if each.shown_status in STOPPING), "")


def _near(selected: Shown, by_id: Mapping[str, Shown], boxes: Boxes, below: Mapping[str, Sequence[Shown]]) -> set[str]:
    """Return the ids of the tasks that the graph of a large tree has.

    They are the selected one, some that it needs, that need it and that are below it, urgent ones first, and those above them.
    """
    needed = [item["id"] for item in selected.dependencies]
    needing = [task.id for task in by_id.values() if any(item["id"] == selected.id for item in task.dependencies)]
    children = sorted(below.get(selected.id, ()), key=lambda task: rank_of(task.shown_status))
    near = {selected.id}
    for ids in (needed, needing):
        places = dict.fromkeys(boxes.place.get(each) for each in ids)
        near.update(islice(filter(None, places), NEAR))
    near.update(task.id for task in children[:NEAR])
    for task_id in list(near):
        above = by_id[task_id].parent_id
        while above is not None:
            near.add(above)
            above = by_id[above].parent_id
    return near


def _first_ended(root_id: str, failed: Collection[str]) -> list[Task]:
    """Return the first CAUSES_SHOWN of these failed tasks, in the order in which they ended."""
    if not failed:
        return []
    order = Task.objects.tree(root_id).filter(status=Status.FAILED, cause_id=None).order_by("completed_at", "position")
    first = list(islice((each for each in order.values_list("id", flat=True) if each in failed), CAUSES_SHOWN))
    found = Task.objects.defer("inputs", "result", "schemas", "params", "steps", "call").in_bulk(first)
    return [found[each] for each in first if each in found]


def events_of(picture: Picture) -> list[Json]:
    """Load the newest events of the run that the picture contains, as many as fit into the response."""
    if picture.run is None:
        return []
    shown = TaskEvent.objects.filter(run_id=picture.run.id, seq__lte=picture.run.last_seq)
    count = EVENTS_OF_LARGE if picture.is_large else EVENTS_SHOWN
    events = join_words(newest_events(shown, count=count))
    named = Task.objects.filter(id__in={event["task_id"] for event in events})
    names = dict(named.values_list("id", "name"))
    return [event | {"name": name_in(event, names)} for event in events]


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


def _below(tasks: Iterable[Shown]) -> dict[str, list[Shown]]:
    """Map the ids of tasks to their children, in the order of the tasks."""
    found = defaultdict[str, list[Shown]](list)
    for task in tasks:
        if task.parent_id is not None:
            found[task.parent_id].append(task)
    return dict(found)


def _in_order(tasks: Iterable[Shown], root_id: str, below: Mapping[str, Sequence[Shown]]) -> list[tuple[Shown, int]]:
    """Sort tasks below their parents, each with its depth. Iterative: a tree may be deep."""
    ordered, stack = [], [(next(task for task in tasks if task.id == root_id), 0)]
    while stack:
        task, depth = stack.pop()
        ordered.append((task, min(depth, DEEPEST)))
        stack += [(child, depth + 1) for child in reversed(below.get(task.id, ()))]
    return ordered


def _lines(
    part: Sequence[tuple[Shown, int]],
    rows: Mapping[str, Task],
    by_id: Mapping[str, Shown],
    numbers: Mapping[str, int],
    boxes: Boxes,
    bars: Mapping[str, list[Bar]],
    run: Run | None,
    now: datetime,
    looks: Mapping[str, str],
) -> list[Line]:
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
            needs=_stopped_by(task, by_id) if looks[task.id] == NOT_RUN else "",
        )
        for task, depth in ((rows[each.id], depth) for each, depth in part if each.id in rows)
    ]


def _is_kept(task: Task, run: Run | None) -> bool:
    return run is not None and task.completed_at is not None and task.completed_at < run.created_at


# --- timeline ---


def _bars(
    rows: Mapping[str, Task],
    shown: Iterable[Shown],
    below: Mapping[str, Sequence[Shown]],
    run: Run | None,
    now: datetime,
) -> dict[str, list[Bar]]:
    """Return the time spans of tasks in the timeline, by id. Tasks with the result of an earlier run have none."""
    if run is None:
        return {}
    drawn = [rows[each.id] for each in shown if each.id in rows and not _is_kept(rows[each.id], run)]
    needed = {
        task.id: needs_of(node_of(task), {task.id: [each.id for each in below.get(task.id, ())]}) for task in drawn
    }
    others = {each for ids in needed.values() if len(ids) <= MOST_NEEDED for each in ids}.difference(rows)
    known = [*rows.values(), *Task.objects.filter(id__in=others).only("id", "status", "completed_at")]
    ended = {task.id: task.completed_at for task in known if Status(task.status).is_terminal and task.completed_at}
    # The starts and retries of tasks with several attempts: the row has only the last attempt.
    borders: defaultdict[str, list[tuple[str, datetime]]] = defaultdict(list)
    if again := [task.id for task in drawn if task.attempt > 1]:
        events = TaskEvent.objects.filter(run_id=run.id, type__in=BORDER_TYPES, task_id__in=again).order_by("seq")
        for task_id, kind, moment in events.values_list("task_id", "type", "created_at"):
            borders[task_id].append((kind, moment))
    end = run.finished_at or now
    bars = {}
    for task in drawn:
        ready_at = None
        if all(task_id in ended for task_id in needed[task.id]):
            ready_at = max([run.created_at, task.created_at, *(ended[task_id] for task_id in needed[task.id])])
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
