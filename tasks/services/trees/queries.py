"""Queries. Each returns only what its caller may see."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final, NamedTuple, Self, TypeVar

import orjson
from django.db.models import (
    Avg,
    F,
    Func,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    TextField,
    Value,
)

from accounts.callers import Caller
from apflow_site.db.at_once import SHORT_BYTES, NotShort, is_at_once
from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.prepared import Prepared
from tasks.models import Run, RunQuerySet, Schedule, Task, TaskCount, TaskQuerySet
from tasks.rules.exceptions import InvalidParams, StatusConflict, TaskNotFound
from tasks.status import Status
from tasks.storage import loads

T = TypeVar("T")
SUMMARY: Final = tuple(name for name in loads.TASK_COLUMNS if name not in loads.JSON_COLUMNS)
"""The columns of a task in a summary that may be large."""
FEW_TASKS: Final = 20_000
SMALL_TREE_BYTES: Final = 64 * 1024
"""A tree of this size is made into a reply on the event loop, in less time than a turn of a thread takes."""
JSON_ARRAY: Final = "JSON_ARRAY" if IS_SQLITE else "JSONB_BUILD_ARRAY"
NOT_A_CURSOR: Final = ("cursor", "is not a cursor of this server: omit it to get the first page")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """The status of a task.

    `task` is None if the caller has no task with that id; `run` is the newest of its tree.

    For a root, `status` is that of the newest run and `progress` the mean over the tree's tasks.
    """

    task_id: str
    task: Task | None = None
    run: Run | None = None
    status: str | None = None
    progress: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether the task is in progress; for a root, whether a run of its tree is unfinished."""
        if self.task is None or self.run is None or self.run.finished_at is not None:
            return False
        return self.task.is_root or self.task.status == Status.IN_PROGRESS


BESIDE: Final = ("spawned_by", "schedule_id", "cause_id", "checks", "cached_from")
"""Columns behind those of each task in a reply."""
_COUNT: Final = len(Task.SHOWN)
_ID, _ROOT_ID = map(Task.SHOWN.index, ("id", "root_id"))


class TaskRow(NamedTuple):
    """A task as it is in the database (`Prepared.tuples`), for a reply. `values` are those of Task.SHOWN."""

    id: str
    root_id: str
    values: tuple[Any, ...]
    spawned_by: str | None
    schedule_id: str | None
    cause_id: str | None
    checks: str | list[Any] | None
    """The JSON as it is stored, or read."""
    cached_from: str | dict[str, Any] | None
    size: int = 0
    """The size of the row in bytes, if it was asked for."""
    run_status: str | None = None
    """The status of the latest run of its tree, if it was asked for."""
    run: "RunRow | None" = None
    """The latest run of its tree, if it was asked for and the caller may see it."""

    @classmethod
    def of(cls, values: tuple[Any, ...]) -> Self:
        return cls(values[_ID], values[_ROOT_ID], values, *values[_COUNT:])

    @property
    def is_root(self) -> bool:
        return self.id == self.root_id


def rows_by_id(caller: Caller, task_ids: Sequence[str]) -> dict[str, TaskRow]:
    """Return the tasks that the caller may see, by id, with size and status of the run. A caller that uses one spends its `size` (`loads.spend`).

    At once, in an event loop, only those that are short.
    """
    width = 1 << (len(task_ids) - 1).bit_length()  # few forms of the query, so that all of them stay compiled
    padded = [*task_ids, *[task_ids[-1]] * (width - len(task_ids))]
    is_short = is_at_once()
    found = _rows_of_caller.tuples(caller.rights, width, is_short, user_id=caller.user_id, **_named(padded))
    return {row.id: row for row in map(TaskRow.of, found)}


@Prepared
def _rows_of_caller(rights: Caller, width: int, is_short: bool, *, user_id: str) -> QuerySet[Task, tuple[Any, ...]]:
    found = _with_extra(Task.objects.for_caller(rights).filter(id__in=[*_named([""] * width)]))
    return (found.filter(size__lte=SHORT_BYTES) if is_short else found).values_list(
        *Task.SHOWN, *BESIDE, "size", "run_status"
    )


def get_task(*, caller: Caller, task_id: str) -> Task:
    """Return a task. Raises TaskNotFound, also for a task of another owner, or ResponseTooLarge."""
    task = _task_of_caller.first(caller.rights, user_id=caller.user_id, task_id=task_id)
    if task is None:
        raise TaskNotFound(task_id)
    loads.spend(vars(task)["size"])
    return task


@Prepared
def _task_of_caller(rights: Caller, *, user_id: str, task_id: str) -> QuerySet[Task]:
    return _with_extra(Task.objects.for_caller(rights).filter(id=task_id))


def _with_extra(found: TaskQuerySet) -> QuerySet[Any]:
    newest = Run.objects.filter(root_id=OuterRef("id")).order_by("-number").values("status")[:1]
    return found.annotate(size=loads.size_of(*loads.TASK_COLUMNS), run_status=Subquery(newest))


def root_of(*, caller: Caller, task_id: str) -> str:
    """Return the id of the root of the task's tree. Raises TaskNotFound."""
    found = _ROOT.first(caller.rights, user_id=caller.user_id, task_id=task_id)
    if found is None:
        raise TaskNotFound(task_id)
    return found[0]


_ROOT: Final[Prepared[tuple[str]]] = Prepared(
    lambda rights, *, user_id, task_id: Task.objects.for_caller(rights).filter(id=task_id).values_list("root_id")
)


def get_tree(*, caller: Caller, task_id: str, with_texts: bool = False, times: int = 1) -> list[Task]:
    """Return the whole tree that the task belongs to, in the order of its request.

    `with_texts`: with the texts of its JSON, for a reply (`tasks.storage.loads`), which has it so many `times`.

    Raises TaskNotFound or ResponseTooLarge.
    """
    found = _root_and_size.first(caller.rights, user_id=caller.user_id, task_id=task_id)
    if found is None:
        raise TaskNotFound(task_id)
    root_id, size = found
    loads.spend(times * size)
    return _tree.rows(with_texts, root_id=root_id)


@Prepared
def _root_and_size(rights: Caller, *, user_id: str, task_id: str) -> QuerySet[Task, tuple[str, int]]:
    of_tree = Task.objects.filter(root_id=OuterRef("root_id"), part=None).order_by().values("root_id")
    size = Subquery(of_tree.annotate(size=Sum(loads.size_of(*loads.TASK_COLUMNS))).values("size"))
    found = Task.objects.for_caller(rights).filter(id=task_id)
    return found.annotate(size=size).values_list("root_id", "size")


@Prepared
def _tree(with_texts: bool, *, root_id: str) -> QuerySet[Task]:
    tree = Task.objects.tree(root_id)
    return loads.with_texts(tree) if with_texts else tree


def small_trees(caller: Caller, root_ids: Sequence[str]) -> dict[str, list[Task]]:
    """Return the trees of these roots that take up to SMALL_TREE_BYTES, with texts, in the order of their requests.

    A caller that uses one spends the `size` of its tasks.
    """
    width = 1 << (len(root_ids) - 1).bit_length()
    padded = [*root_ids, *[root_ids[-1]] * (width - len(root_ids))]
    found: defaultdict[str, list[Task]] = defaultdict(list)
    for task in _small_trees.rows(caller.rights, width, user_id=caller.user_id, **_named(padded)):
        found[task.root_id].append(task)
    return found


@Prepared
def _small_trees(rights: Caller, width: int, *, user_id: str) -> QuerySet[Task]:
    size = loads.size_of(*loads.TASK_COLUMNS)
    of_caller = Task.objects.for_caller(rights).filter(root_id__in=[*_named([""] * width)], part=None)
    small = of_caller.order_by().values("root_id").annotate(all=Sum(size)).filter(all__lte=SMALL_TREE_BYTES)
    tasks = Task.objects.filter(root_id__in=small.values("root_id"), part=None).order_by("root_id", "position")
    return loads.with_texts(tasks).annotate(size=size)


def tree_of(task: Task, *, without: Sequence[str] = ()) -> list[Task]:
    """Return the tasks of the task's tree, `without` these columns.

    Raises TaskNotFound if the task has been deleted since it was read, and StatusConflict if it belongs to a part that is over.
    """
    refuse_past(task)
    tree = list(Task.objects.tree(task.root_id).defer(*without))
    if not any(each.id == task.id for each in tree):
        raise TaskNotFound(task.id)
    return tree


def refuse_past(task: Task) -> None:
    """Raise StatusConflict if the task belongs to a part of a workflow that is over."""
    if task.part is not None:
        raise StatusConflict(
            f"Task '{task.id}' belongs to part {task.part} of its workflow, which is over: it cannot run again. Take the workflow, or a "
            "task of its latest part.",
            data={"task_id": task.id},
        )


def list_tasks(
    *,
    caller: Caller,
    user_id: str | None = None,
    statuses: Collection[str] = (),
    name: str | None = None,
    root_only: bool = True,
    limit: int = 100,
    offset: int = 0,
    cursor: str | None = None,
    order: str = "-created_at",
    summary: bool = False,
    created: Q | None = None,
) -> tuple[list[str], str | None]:
    """Return the ids of a page of the caller's tasks, and the cursor of the next page (None at the end).

    The page is counted as it will be loaded: with `summary`, without the JSON of the tasks. `created` are conditions on the time of
    their creation. `order` is `created_at` or `-created_at`. With a cursor (also ""), a page that would be too large ends early.
    Raises InvalidParams for an invalid cursor, or ResponseTooLarge.
    """
    owner = user_id if user_id is not None or caller.sees_all else caller.user_id
    page = Page(
        statuses=() if len(set(statuses)) == len(Status) else tuple(sorted(set(statuses))),
        is_of_owner=user_id is not None,
        is_named=name is not None,
        root_only=root_only,
        by_tree=not root_only and owner is not None and has_few_tasks(owner),
        limit=limit,
        offset=offset,
        order=order,
        columns=SUMMARY if summary else loads.TASK_COLUMNS,
    )
    texts = {"owner": user_id or "", "name": name or ""}
    if not cursor and not created:
        found = _FIRST_PAGE.tuples(page, caller.rights, user_id=caller.user_id, **texts)
    else:
        after = after_cursor(cursor, descending=page.is_descending) if cursor else Q()
        found = list(page.rows(Task.objects.for_caller(caller), after=after & (created or Q()), **texts))
    shown = {task_id: size for task_id, size, _ in found[:limit]}
    loaded = counted(shown, least=1 if cursor is not None else len(shown))
    if not loaded or len(loaded) == len(found):
        return loaded, None
    last_id, _, created_at = found[len(loaded) - 1]
    return loaded, cursor_at(as_moment(created_at), last_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The tasks that a page of the list shows, apart from the strings with which columns are compared."""

    statuses: tuple[str, ...]
    is_of_owner: bool
    is_named: bool
    root_only: bool
    by_tree: bool
    limit: int
    offset: int
    order: str
    columns: tuple[str, ...]

    def rows(
        self, found: TaskQuerySet, *, owner: str, name: str, after: Q
    ) -> QuerySet[Task, tuple[str, int, datetime]]:
        """Return the ids of the page and of the task behind it, each with the size of its row and its time."""
        if self.is_of_owner:
            found = found.filter(user_id=owner)
        if self.is_named:
            found = found.filter(name=name)
        if self.root_only:
            found = found.filter(parent_id=None)
        if self.by_tree:
            found = found.filter(root_id__in=found.filter(parent_id=None).order_by().values("id"))
        sign = "-" if self.is_descending else ""
        found = found.filter(after).order_by(f"{sign}created_at", f"{sign}id")
        end = self.offset + self.limit + 1
        if len(self.statuses) > 1 and self.root_only and IS_SQLITE:  # it would sort all tasks that have one of them
            firsts = [Q(id__in=found.filter(status=status)[:end].values("id")) for status in self.statuses]
            found = found.filter(reduce(or_, firsts))
        elif self.statuses:
            found = found.filter(status__in=self.statuses)
        return found[self.offset : end].values_list("id", loads.size_of(*self.columns), "created_at")

    @property
    def is_descending(self) -> bool:
        return self.order.startswith("-")


def has_few_tasks(owner: str) -> bool:
    """Return whether to look for the owner's tasks tree by tree: they are too rare to be found among the newest of all owners."""
    (number,) = _NUMBER.first(owner=owner) or (0,)
    return number <= FEW_TASKS


_NUMBER: Final[Prepared[tuple[int]]] = Prepared(
    lambda *, owner: (
        TaskCount.objects.filter(user_id=owner).values("user_id").annotate(number=Sum("tasks")).values_list("number")
    )
)


_FIRST_PAGE: Final[Prepared[tuple[str, int, datetime]]] = Prepared(
    lambda page, rights, *, user_id, owner, name: page.rows(
        Task.objects.for_caller(rights), owner=owner, name=name, after=Q()
    )
)


def counted(sizes: dict[str, int], *, least: int) -> list[str]:
    """Return the ids of those of these tasks, each with its size, that the reply may load, and count them.

    Raises ResponseTooLarge if these are fewer than `least`, and NotShort.
    """
    if is_at_once() and sum(sizes.values()) > SHORT_BYTES:
        raise NotShort
    return loads.spend_on_page(sizes, least=least)


def counted_roots(root_ids: Sequence[str], *, summary: bool) -> list[str]:
    """Return these roots, which the caller may see, in this order, and count them. Raises ResponseTooLarge."""
    found = Task.objects.filter(id__in=root_ids)
    sizes = dict(found.values_list("id", loads.size_of(*(SUMMARY if summary else loads.TASK_COLUMNS))))
    shown = {root_id: sizes[root_id] for root_id in root_ids if root_id in sizes}
    return counted(shown, least=len(shown))


def listed_tasks(root_ids: Sequence[str]) -> list[Task]:
    """Return these roots, which the caller may see, in this order, with texts. Raises ResponseTooLarge."""
    return tasks_with_ids(counted_roots(root_ids, summary=False))


def tasks_with_ids(task_ids: Sequence[str], *, summary: bool = False) -> list[Task]:
    """Return these tasks in this order, with texts or, for a `summary`, with none; without those that are gone."""
    tasks = {task.id: task for task in _with_ids(_tasks, task_ids, summary)}
    return [tasks[task_id] for task_id in task_ids if task_id in tasks]


@Prepared
def _tasks(count: int, summary: bool) -> QuerySet[Task]:
    found = Task.objects.filter(id__in=[*_named([""] * count)])
    return loads.without_texts(found) if summary else loads.with_texts(found)


def rows_with_ids(caller: Caller, task_ids: Sequence[str], *, summary: bool, with_runs: bool) -> list[TaskRow]:
    """Return these tasks in this order, for a `summary` without their JSON; without those that are gone. Roots may have their runs."""
    if not task_ids:
        return []
    rows = {}
    for *values, latest in _rows.tuples(len(task_ids), summary, with_runs, **_named(task_ids)):
        row, run = TaskRow.of(tuple(values)), RunRow(*orjson.loads(latest)) if latest else None
        rows[row.id] = row._replace(run=run) if run and run.is_seen_by(caller) else row
    return [rows[task_id] for task_id in task_ids if task_id in rows]


@Prepared
def _rows(count: int, summary: bool, with_runs: bool) -> QuerySet[Task, tuple[Any, ...]]:
    """For a summary, the columns of JSON are null. The last column is a JSON array, the fields of a RunRow, or null."""
    nothing = Value(None, output_field=TextField())
    columns = [nothing if summary and name in loads.JSON_COLUMNS else F(name) for name in (*Task.SHOWN, *BESIDE)]
    newest = Run.objects.filter(root_id=OuterRef("id")).order_by("-number")
    latest = newest.values(values=Func(*RunRow._fields, function=JSON_ARRAY, output_field=TextField()))[:1]
    found = Task.objects.filter(id__in=[*_named([""] * count)])
    return found.values_list(*columns, Subquery(latest) if with_runs else nothing)


def latest_run(*, caller: Caller, task_id: str) -> Run | None:
    """Return the newest run of the task's tree; None if it never ran. Raises TaskNotFound."""
    return _LATEST_RUN.first(root_id=root_of(caller=caller, task_id=task_id))


_LATEST_RUN: Final = Prepared(lambda *, root_id: Run.objects.filter(root_id=root_id).order_by("-number")[:1])


def run_of(*, caller: Caller, run_id: str) -> Run:
    """Return a run. Raises TaskNotFound, also for a run of another owner."""
    run = Run.objects.for_caller(caller).filter(id=run_id).first()
    if run is None:
        raise TaskNotFound(run_id)
    return run


def later_runs(*, caller: Caller, run: Run) -> list[Run]:
    """Return the runs of the same tree that began after this one, in order."""
    later = Run.objects.for_caller(caller).filter(root_id=run.root_id, number__gt=run.number)
    return list(later.order_by("number"))


def latest_runs(*, caller: Caller, root_ids: Collection[str]) -> dict[str, Run]:
    """Map each root id to its newest run; trees that never ran are omitted."""
    # The same rule as `for_caller`. In the query, SQLite would read all runs of the owner instead of those of the trees.
    newest = _latest_ids.tuples(len(root_ids), **_named([*root_ids])) if root_ids else []
    found = _with_ids(_RUNS, [run_id for (run_id,) in newest if run_id is not None])
    return {run.root_id: run for run in found if caller.sees_all or run.user_id == caller.user_id}


class RunRow(NamedTuple):
    """The facts about a run that lists have."""

    user_id: str
    id: str
    number: int
    status: str

    def is_seen_by(self, caller: Caller) -> bool:
        """Return whether the caller may see the run, by the rule of `for_caller`."""
        return caller.sees_all or self.user_id == caller.user_id


def _with_ids(query: Prepared[T], ids: Sequence[str], *shape: Hashable) -> list[T]:
    """Return the rows of a query whose shape begins with the number of ids."""
    return query.rows(len(ids), *shape, **_named(ids)) if ids else []


def _named(ids: Sequence[str]) -> dict[str, str]:
    return {f"id{number}": each for number, each in enumerate(ids)}


@Prepared
def _latest_ids(count: int) -> QuerySet[Task, tuple[str | None]]:
    """Return a query of its own: with the runs in it too, PostgreSQL would read all of them."""
    newest = Run.objects.filter(root_id=OuterRef("id")).order_by("-number").values("id")[:1]
    return Task.objects.filter(id__in=[*_named([""] * count)]).order_by().values_list(Subquery(newest))


_RUNS: Final = Prepared(lambda count: Run.objects.filter(id__in=[*_named([""] * count)]))


def children(*, caller: Caller, task_id: str) -> list[Task]:
    """Return the direct children of a task, with texts, in the order of their request.

    Raises TaskNotFound or ResponseTooLarge.
    """
    found = Task.objects.tree(root_of(caller=caller, task_id=task_id)).filter(parent_id=task_id)
    loads.spend_on(found, *loads.TASK_COLUMNS)
    return list(loads.with_texts(found))


def count(
    *, caller: Caller, user_id: str | None = None, root_only: bool = False, statuses: Sequence[Status] | None = None
) -> dict[str, int]:
    """Count the caller's tasks by status, and in `total`. With `statuses`, only tasks that have one of them count."""
    found = TaskCount.objects.for_caller(caller)
    if user_id is not None:
        found = found.filter(user_id=user_id)
    if root_only:
        found = found.filter(is_root=True)
    if statuses is not None:
        found = found.filter(status__in=statuses)
    numbers = dict(found.order_by().values_list("status").annotate(Sum("tasks")))
    return {status.value: numbers.get(status, 0) for status in Status} | {"total": sum(numbers.values())}


def running_list(*, caller: Caller, user_id: str | None = None, limit: int = 100) -> list[Task]:
    """Return the roots of trees that run or wait for a worker, on any host, with texts; the newest run first."""
    root_ids = list(
        _unfinished(caller, user_id).order_by("-created_at", "-id").values_list("root_id", flat=True)[:limit]
    )
    return listed_tasks(root_ids)


def running_count(*, caller: Caller, user_id: str | None = None) -> int:
    """Count the trees that run or wait for a worker."""
    return _unfinished(caller, user_id).count()


def running_status(*, caller: Caller, task_ids: Sequence[str]) -> list[StatusReport]:
    """Return the status of each of these tasks, in request order."""
    found = Task.objects.for_caller(caller).defer(*loads.JSON_COLUMNS).in_bulk(list(task_ids))
    runs = latest_runs(caller=caller, root_ids={task.root_id for task in found.values()})
    roots = [task.root_id for task in found.values() if task.is_root]
    of_trees = Task.objects.filter(root_id__in=roots, part=None).order_by().values_list("root_id")
    progress = dict(of_trees.annotate(Avg("progress")))
    return [_report_of(task_id, found.get(task_id), runs, progress) for task_id in task_ids]


def roots_of_contexts(*, caller: Caller, context_ids: Sequence[str]) -> list[str]:
    """Return the roots that ran in these contexts, in order.

    An id without a run is kept: it may be a root's id.
    """
    found = Run.objects.for_caller(caller).filter(context_id__in=context_ids).order_by("created_at")
    roots: defaultdict[str, list[str]] = defaultdict(list)
    for context_id, root_id in found.values_list("context_id", "root_id"):
        roots[context_id].append(root_id)
    return list(dict.fromkeys(root_id for context_id in context_ids for root_id in roots.get(context_id, [context_id])))


def _unfinished(caller: Caller, user_id: str | None) -> RunQuerySet:
    return Run.objects.unfinished_for(caller, user_id).exclude(root_id=F("id"))  # those have no tree yet


def _report_of(task_id: str, task: Task | None, runs: dict[str, Run], progress: dict[str, float]) -> StatusReport:
    if task is None:
        return StatusReport(task_id=task_id)
    run = runs.get(task.root_id)
    return StatusReport(
        task_id=task_id,
        task=task,
        run=run,
        status=run.status if run and task.is_root else task.status,
        progress=progress.get(task.id, task.progress),
    )


def after_cursor(cursor: str, *, descending: bool, column: str = "created_at") -> Q:
    """Select rows after the cursor's row, by this time and their id, in a form for which both databases use the index.

    Raises InvalidParams.
    """
    created_at, task_id = read_cursor(cursor)
    if descending:
        return Q((f"{column}__lte", created_at)) & (Q((f"{column}__lt", created_at)) | Q(id__lt=task_id))
    return Q((f"{column}__gte", created_at)) & (Q((f"{column}__gt", created_at)) | Q(id__gt=task_id))


def cursor_of(row: Task | Run | Schedule) -> str:
    """Return the cursor of the page after this row."""
    return cursor_at(row.created_at, row.id)


def as_moment(value: datetime | str) -> datetime:
    """Return a time as `Prepared.tuples` has it: on SQLite it is a text or has no zone, in UTC."""
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def cursor_at(moment: datetime, row_id: str) -> str:
    """Return the cursor of the page after the row with this time and id."""
    return urlsafe_b64encode(f"{moment.isoformat()} {row_id}".encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        moment, task_id = urlsafe_b64decode(cursor.encode()).decode().split(" ", 1)
        created_at = datetime.fromisoformat(moment)
    except ValueError:
        raise InvalidParams([NOT_A_CURSOR]) from None
    # Our cursors are in UTC: near the year 1, a time in another zone has no equivalent in UTC.
    # PostgreSQL refuses NUL.
    if created_at.utcoffset() != timedelta(0) or "\0" in task_id:
        raise InvalidParams([NOT_A_CURSOR])
    return created_at, task_id
