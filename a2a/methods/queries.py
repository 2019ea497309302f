"""Methods that read tasks."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import orjson
from django.conf import settings
from msgspec import UNSET, Meta, UnsetType
from orjson import Fragment

from a2a.core.exceptions import NotRunYet
from a2a.core.mapping import (
    JSON_FIELDS,
    native_detail,
    native_listed,
    native_node,
    native_row,
    native_task,
    native_tree,
    run_facts,
)
from a2a.core.parsing import NotWith, Params, Problem, Text
from a2a.methods.method import VIEWER, Response, Rest, method
from a2a.methods.params import (
    Get,
    GetOne,
    Moment,
    Tag,
    chosen_fields,
    moment,
    one_of,
    period_problems,
    picked,
    problems_of_fields,
    several_of,
)
from a2a.methods.questions import absolute, answer_url
from a2a.methods.responses import (
    BudgetLimit,
    ChildRun,
    Event,
    FlowRef,
    ListedTask,
    ModelCall,
    ParentRun,
    Question,
    RunStatus,
    Task,
    Wait,
)
from a2a.methods.results import DataResult, TaskListResult, TaskResult
from accounts.callers import Caller, Role
from apflow_site.db import pools
from apflow_site.db.at_once import at_once
from tasks import models
from tasks.rules.exceptions import InvalidParams, TaskNotFound
from tasks.rules.files import VALUE
from tasks.rules.strict_json import Json
from tasks.rules.tags import RULE, TAG
from tasks.services import history
from tasks.services.history import Period, task_detail
from tasks.services.schedules import task_schedules
from tasks.services.spending import budgets
from tasks.services.trees import listed, queries
from tasks.services.waits.event_waits import hook_url
from tasks.status import Status
from tasks.storage import loads

LARGE: Final = {name: (models.Task.SHOWN.index(name), part) for name, part in (("result", 2), ("inputs", 4))}
"""The columns of a task in which there may be large values that are stored as files, and the part of `limits.response_bytes` for these."""
UNFINISHED: Final = (
    "needed for this search, because one request reads only a part of the runs: send '' for the first page, and then "
    "next_cursor, also after a page with few tasks"
)
_TASKS: Final = pools.SharedCalls(queries.rows_by_id)


class Timings(Response, frozen=True, kw_only=True):
    """Seconds from the start of the run to that of the task, and from there to its end or now."""

    queued_seconds: float | None
    run_seconds: float | None


class Detail(Task, frozen=True, kw_only=True):
    """A task with at most 100 events and 100 model calls, its relatives, resolved inputs, timings, and open question or wait."""

    events: list[Event]
    children: list[Task]
    dependants: list[Task]
    resolved_inputs: Json
    timings: Timings
    question: Question | None
    wait: Wait | None
    child_run: ChildRun | None
    parent_run: ParentRun | None
    flow: FlowRef | None
    model_calls: list[ModelCall]


class TreeNode(Task, frozen=True, kw_only=True):
    """A task of `tasks.tree` with its descendants. `task` repeats its fields for clients of apflow 0.12 and later.

    Only a root has its latest run (null before the first), and only one with a budget has `budget`.
    """

    task: Task
    run_id: str | UnsetType | None = UNSET
    run_number: int | UnsetType | None = UNSET
    budget: list[BudgetLimit] | UnsetType = UNSET
    children: "list[TreeNode]"


class Page(Response, frozen=True, kw_only=True):
    """A page of tasks. `next_cursor` is null on the last page."""

    tasks: list[ListedTask]
    next_cursor: str | None


class Counts(Response, frozen=True, kw_only=True):
    """The number of tasks in each status."""

    pending: int
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    total: int


class GetTree(Params, frozen=True, kw_only=True):
    """tasks.tree"""

    ALIASES = MappingProxyType({"id": "task_id", "root_id": "task_id"})
    task_id: Text


class Children(Params, frozen=True, kw_only=True):
    """tasks.children"""

    ALIASES = MappingProxyType({"id": "task_id", "parent_id": "task_id"})
    task_id: Text


class Count(Params, frozen=True, kw_only=True):
    """tasks.count"""

    user_id: Text | None = None
    root_only: bool = False
    statuses: list[Status] | None = None
    """Count only tasks that have one of these; None counts all."""


TaskField = Annotated[str, Meta(extra_json_schema=one_of(ListedTask))]
TaskFields = Annotated[str, Meta(extra_json_schema=several_of(ListedTask))]
OF_RUNS = frozenset({"run_status", "run_id", "run_number"})
COUNTS = "task_counts"


class ListTasks(Params, frozen=True, kw_only=True):
    """tasks.list"""

    CONDITIONS = (
        NotWith("offset", "cursor", "cannot be combined with cursor, which already contains the position"),
        *(
            NotWith("offset", name, f"cannot be combined with {name}: use cursor")
            for name in ("run_status", "tag", "text")
        ),
    )
    user_id: Text | None = None
    status: Status | list[Status] | None = None
    run_status: RunStatus | list[RunStatus] | None = None
    """Only roots whose latest run has this status, in the order of these runs."""
    tag: Tag | None = None
    """Only roots whose latest run has this tag."""
    text: Text | None = None
    """Only roots with this text in their name, at the start of their id or that of their latest run, or in an error that failed it."""
    name: Text | None = None
    since: Moment | None = None
    """Only tasks that were created at this time or later."""
    until: Moment | None = None
    """Only tasks that were created before this time."""
    root_only: bool = True
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    cursor: str | None = None
    order: Literal["created_at", "-created_at"] = "-created_at"
    summary: bool = False
    """Leave out inputs, schemas, params and results, and count the tasks of each tree."""
    fields: TaskFields | list[TaskField] | None = None
    """Only these fields of each task, instead of what `summary` says."""

    @property
    def chosen(self) -> list[str] | None:
        """The names of the fields; None for those that `summary` says."""
        return chosen_fields(self.fields)

    @property
    def is_light(self) -> bool:
        """Whether the JSON of the tasks is left out."""
        return self.summary if self.chosen is None else JSON_FIELDS.isdisjoint(self.chosen)

    @property
    def has_counts(self) -> bool:
        """Whether the tasks of each tree are counted."""
        return self.summary if self.chosen is None else COUNTS in self.chosen

    @property
    def has_runs(self) -> bool:
        """Whether roots have their latest run."""
        return self.chosen is None or not OF_RUNS.isdisjoint(self.chosen)

    @property
    def is_by_run(self) -> bool:
        """Whether roots are found by their latest runs."""
        return bool(self.run_status) or self.is_search

    @property
    def is_search(self) -> bool:
        return self.tag is not None or self.text is not None

    @property
    def is_short(self) -> bool:
        """Whether the page is found by one index, near its beginning, and shows nothing that is counted."""
        is_first = not self.cursor and self.offset == 0 and self.since is None and self.until is None
        is_one_walk = self.root_only and len(self.statuses) <= 1 and not self.is_by_run
        return is_first and is_one_walk and not self.has_counts

    def contradictions(self) -> list[Problem]:
        no_tag = [] if self.tag is None or TAG.fullmatch(self.tag) else [("tag", RULE)]
        unknown = problems_of_fields(self.fields, ListedTask)
        return [*super().contradictions(), *no_tag, *unknown, *period_problems(self.since, self.until)]

    @property
    def period(self) -> Period:
        """The times in which the tasks were created."""
        since, until = (None if text is None else moment(text) for text in (self.since, self.until))
        return Period(since=since, until=until)

    @property
    def run_statuses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([self.run_status] if isinstance(self.run_status, str) else self.run_status or ()))

    @property
    def statuses(self) -> tuple[Status, ...]:
        if self.status is None:
            return ()
        return tuple(self.status) if isinstance(self.status, list) else (self.status,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageResult:
    """A page of tasks, which are loaded in the form that the reply needs."""

    caller: Caller
    given: ListTasks
    task_ids: list[str]
    next_cursor: str | None
    stream: None = None

    @property
    def native(self) -> Any:
        """Return the tasks; with a cursor, a page."""
        given = self.given
        rows = queries.rows_with_ids(self.caller, self.task_ids, summary=given.is_light, with_runs=given.has_runs)
        shown = partial(
            native_listed,
            columns=models.Task,
            schedules=task_schedules.schedules_of(rows),
            counts=listed.counts_of_roots(rows) if given.has_counts else None,
            is_light=given.is_light,
        )
        chosen = given.chosen
        tasks = [picked(shown(row), chosen) for row in rows]
        return tasks if given.cursor is None else {"tasks": tasks, "next_cursor": self.next_cursor}

    def as_a2a(self, caller: Caller) -> Any:
        tasks = queries.tasks_with_ids(self.task_ids, summary=self.given.is_light)
        task_schedules.attach(tasks)
        by_cursor = self.given.cursor is not None
        page = TaskListResult(
            native=None, tasks=tasks, fields=self.given.chosen, by_cursor=by_cursor, next_cursor=self.next_cursor
        )
        return page.as_a2a(caller)


@method(
    "tasks.get",
    role=VIEWER,
    answer=Task,
    rest=[
        Rest("getTask", "GET tasks/<task_id>/"),
        Rest(
            "followEvents",
            "GET tasks/<task_id>/events/",
            answers={200: Event, 204: None},
            errors=(NotRunYet,),
            without=frozenset({"expand"}),
            also={"tokens": {"type": "boolean"}},
            summary="Stream the events of the latest run of the task's tree.",
            is_stream=True,
        ),
    ],
)
async def get(caller: Caller, given: GetOne) -> TaskResult:
    """Return one task, without its children, with its result, also a large one that is stored as a file."""
    found = at_once(queries.rows_by_id, caller, [given.task_id]) or {}
    task = found.get(given.task_id) or await _TASKS.result(caller, given.task_id)
    if task is None:
        raise TaskNotFound(given.task_id)
    loads.spend(task.size)
    schedules = await pools.read(task_schedules.schedules_of, [task]) if task.schedule_id is not None else {}
    native = native_row(task, models.Task, schedule=schedules.get(task.id))
    if task.is_root:
        native["run_status"] = task.run_status
    for name, (at, part) in LARGE.items():
        stored = task.values[at]
        if given.expand and stored is not None and VALUE in stored:
            native[name] = Fragment(await _expanded(stored, part=part, owner=native["user_id"]))
    return TaskResult(native=native, task=task)


async def _expanded(stored: str, *, part: int, owner: str) -> str | bytes:
    """Return a stored value, as JSON, with the large values that are stored as files; the references, if these are too large for a reply."""
    from tasks.services.files.moved import TooMuch, whole  # noqa: PLC0415  (few results have them)

    limits = settings.APFLOW.limits
    try:
        value, _ = await whole(
            orjson.loads(stored), owner=owner, most_bytes=min(limits.value_bytes, limits.response_bytes // part)
        )
    except TooMuch:
        return stored
    text = orjson.dumps(value)
    loads.spend(len(text))
    return text


@method("tasks.detail", role=VIEWER, answer=Detail, rest=[Rest("getTaskDetail", "GET tasks/<task_id>/detail/")])
def detail(caller: Caller, given: Get, *, url: Callable[[], str] = str) -> TaskResult:
    """Return one task with its latest events, relatives, inputs, timings, and open question or wait."""
    found = task_detail.detail(caller=caller, task_id=given.task_id)
    task_schedules.attach([found.task])
    answer = answer_url(found.question, caller, url) if found.question else None
    hook = hook_url(found.wait) if found.wait and caller.may(Role.OPERATOR) else None
    native = native_detail(found, answer_url=answer, hook_url=absolute(hook, url))
    return TaskResult(native=native, task=found.task, run=found.run, metadata={"task": native})


@method("tasks.tree", role=VIEWER, answer=TreeNode, rest=[Rest("getTree", "GET tasks/<task_id>/tree/")])
def tree(caller: Caller, given: GetTree) -> TaskResult:
    """Return the whole tree that contains a task."""
    tasks = queries.get_tree(caller=caller, task_id=given.task_id, with_texts=True, times=2)
    task_schedules.attach(tasks)
    root = next(task for task in tasks if task.is_root)
    runs = queries.latest_runs(caller=caller, root_ids=[root.id])
    native = native_tree(tasks, fields=native_node) | run_facts(runs.get(root.id))
    if limits := budgets.limits_of_tree(root.id):
        native["budget"] = [asdict(limit) | {"text": limit.text} for limit in limits]
    return TaskResult(native=native, task=root, with_children=True)


@method("tasks.children", role=VIEWER, answer=list[Task], rest=[Rest("listChildren", "GET tasks/<task_id>/children/")])
def children(caller: Caller, given: Children) -> TaskListResult:
    """Return the children of a task."""
    tasks = queries.children(caller=caller, task_id=given.task_id)
    return TaskListResult(native=[native_task(task) for task in tasks], tasks=tasks)


@method(
    "tasks.list",
    role=VIEWER,
    answer=list[ListedTask] | Page,
    rest=[
        Rest(
            "listTasks",
            "GET tasks/",
            answers={200: Page},
            without=frozenset({"offset"}),
            always={"cursor": "", "summary": True},
        )
    ],
)
def list_tasks(caller: Caller, given: ListTasks) -> PageResult:
    """Return a page of tasks; each root with its latest run."""
    task_ids, next_cursor = (_page_by_run if given.is_by_run else _page)(caller, given)
    if given.is_search and given.cursor is None and next_cursor is not None and len(task_ids) < given.limit:
        raise InvalidParams([("cursor", UNFINISHED)])
    return PageResult(caller=caller, given=given, task_ids=task_ids, next_cursor=next_cursor)


def _page(caller: Caller, given: ListTasks) -> tuple[list[str], str | None]:
    return queries.list_tasks(
        caller=caller,
        user_id=given.user_id,
        statuses=given.statuses,
        name=given.name,
        root_only=given.root_only,
        limit=given.limit,
        offset=given.offset,
        cursor=given.cursor,
        order=given.order,
        summary=given.is_light,
        created=given.period.conditions,
    )


def _page_by_run(caller: Caller, given: ListTasks) -> tuple[list[str], str | None]:
    root_ids, next_cursor = history.roots_by_run(
        caller=caller,
        wanted=history.RootFilter(
            run_statuses=given.run_statuses,
            tag=given.tag,
            text=given.text,
            statuses=given.statuses,
            user_id=given.user_id,
            name=given.name,
            created=given.period,
            is_descending=given.order.startswith("-"),
        ),
        limit=given.limit,
        cursor=given.cursor or "",
    )
    return queries.counted_roots(root_ids, summary=given.is_light), next_cursor


@method("tasks.count", role=VIEWER, answer=Counts)
def count(caller: Caller, given: Count) -> DataResult:
    """Return the number of tasks in each status, or in some of them."""
    counted = queries.count(caller=caller, user_id=given.user_id, root_only=given.root_only, statuses=given.statuses)
    return DataResult(native=counted)
