"""The list of trees: filtered by the URL query, paginated in the database, one row per tree."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from django.db import connection
from django.db.models import Avg, Case, Count, F, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce

from accounts.callers import Caller
from aipartnerupflow.growth import HANDLED, NOT_RUN
from apflow_site.db.connections import IS_SQLITE
from tasks.dashboard.filters import Filters
from tasks.models import Question, Run, Task, TaskQuerySet
from tasks.services.trees.queries import after_cursor, cursor_of, latest_runs
from tasks.status import Status

PIECE: Final = 5_000
"""Roots that one query searches, at a few microseconds each."""
SECONDS: Final = 0.5
MOST_NAMES: Final = 5_000
"""Different names that are looked through."""
FEW: Final = 20
MOST_RUNS: Final = 1_000
MOST_TASKS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Matching roots in order. `last` is the last root that was searched, if the search has not reached the end."""

    roots: list[Task]
    last: Task | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The results to find: the caller's roots and those that match, both in order, and the number that is enough."""

    filters: Filters
    owner: str | None
    roots: TaskQuerySet
    matching: TaskQuerySet
    most: int

    @property
    def is_descending(self) -> bool:
        return self.filters.order.startswith("-")

    def after(self, cursor: str, found: TaskQuerySet) -> TaskQuerySet:
        return found.filter(after_cursor(cursor, descending=self.is_descending)) if cursor else found

    def until(self, last: Task) -> Q:
        """Select the roots up to this one."""
        if self.is_descending:
            return Q(created_at__gte=last.created_at) & (Q(created_at__gt=last.created_at) | Q(id__gte=last.id))
        return Q(created_at__lte=last.created_at) & (Q(created_at__lt=last.created_at) | Q(id__lte=last.id))


def search(caller: Caller, roots: TaskQuerySet, filters: Filters, *, most: int) -> Found:
    """Find up to `most` of the caller's roots. Raises InvalidParams for a malformed cursor."""
    sign = "-" if filters.order.startswith("-") else ""
    if filters.owner:
        roots = roots.filter(user_id=filters.owner)
    roots = roots.order_by(f"{sign}created_at", f"{sign}id")
    owner = filters.owner or (None if caller.sees_all else caller.user_id)
    wanted = Wanted(filters=filters, owner=owner, roots=roots, matching=_matching(roots, filters), most=most)
    if not (filters.text or filters.status or filters.executor):
        return Found(roots=list(wanted.after(filters.cursor, roots)[:most]))
    found, last = _piece(wanted, filters.cursor, most=most)
    if last is None or len(found) >= most:
        return Found(roots=found)
    rare = _rare(wanted, cursor_of(last))
    if rare is not None:
        rest = wanted.after(cursor_of(last), wanted.matching.filter(id__in=rare))
        return Found(roots=found + list(rest[: most - len(found)]))
    give_up_at = monotonic() + SECONDS
    while last is not None and len(found) < most and monotonic() < give_up_at:
        more, last = _piece(wanted, cursor_of(last), most=most - len(found))
        found += more
    return Found(roots=found, last=last)


def _piece(wanted: Wanted, cursor: str, *, most: int) -> tuple[list[Task], Task | None]:
    """Return the matches among the next PIECE roots, and the last of these; None if there are no more."""
    last = wanted.after(cursor, wanted.roots).only("id", "created_at")[PIECE - 1 : PIECE].first()
    found = wanted.after(cursor, wanted.matching)
    return list((found.filter(wanted.until(last)) if last else found)[:most]), last


def _matching(roots: TaskQuerySet, filters: Filters) -> TaskQuerySet:
    if filters.text:
        roots = roots.filter(Q(name__icontains=filters.text) | _starts_with(filters.text))
    if filters.executor:
        # PostgreSQL would answer an EXISTS by reading all tasks of the executor first.
        tasks = Task.objects.filter(executor_id=filters.executor, root_id=OuterRef("id"))
        roots = roots.alias(has_executor=Subquery(tasks.values("root_id")[:1])).filter(has_executor__isnull=False)
    if filters.status:
        newest = Run.objects.filter(root_id=OuterRef("id")).order_by("-number").values("status")[:1]
        roots = roots.annotate(tree_status=Coalesce(Subquery(newest), "status")).filter(tree_status=filters.status)
    return roots


def _starts_with(text: str) -> Q:
    """Return the ids that start with the text, by an index: on SQLite, LIKE uses none."""
    return Q(id__gte=text, id__lt=f"{text}\U0010ffff") if IS_SQLITE else Q(id__startswith=text)


# --- rare matches by an index ---


def _rare(wanted: Wanted, cursor: str) -> list[str] | None:
    """Return the ids of the first matches after the cursor, found by an index, and perhaps of some other roots.

    None: no index has them, or they are not rare.
    """
    filters = wanted.filters
    if filters.executor and (rare := _of_executor(filters.executor)) is not None:
        return rare
    if filters.text:
        return None if filters.status or filters.executor else _of_text(wanted, cursor)
    return _of_unfinished(wanted, cursor) if filters.status in (Status.PENDING, Status.IN_PROGRESS) else None


def _of_executor(executor_id: str) -> list[str] | None:
    """Return the ids of all roots with a task of this executor; None if it has many tasks."""
    ids = list(Task.objects.filter(executor_id=executor_id).values_list("root_id", flat=True)[: MOST_TASKS + 1])
    return None if len(ids) > MOST_TASKS else list(set(ids))


def _of_text(wanted: Wanted, cursor: str) -> list[str] | None:
    text, most = wanted.filters.text, wanted.most
    # Of all owners: with the owner in the query, SQLite would read all of the owner's roots.
    ids = list(Task.objects.filter(_starts_with(text), parent_id=None).values_list("id", flat=True)[:most])
    names = _names(wanted.owner)
    if len(ids) == most or names is None:
        return None
    fitting = [name for name in names if text.upper() in name.upper()]
    if len(fitting) > FEW:
        return None
    for name in fitting:
        ids += wanted.after(cursor, wanted.roots.filter(name=name)).values_list("id", flat=True)[:most]
    return ids


def _names(owner: str | None) -> list[str] | None:
    """Return the different names of the owner's roots, or of all; None if there are too many. It jumps from one to the next."""
    roots = "SELECT name FROM tasks_task WHERE parent_id IS NULL" + (" AND user_id = %(owner)s" if owner else "")  # noqa: S608
    query = f"""
        WITH RECURSIVE names(name) AS (
            SELECT name FROM ({roots} ORDER BY name LIMIT 1) AS least
            UNION ALL
            SELECT ({roots} AND name > names.name ORDER BY name LIMIT 1) FROM names WHERE names.name IS NOT NULL
        ) SELECT name FROM names WHERE name IS NOT NULL LIMIT {MOST_NAMES + 1}
    """  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(query, {"owner": owner} if owner else None)
        names = [str(name) for (name,) in cursor.fetchall()]
    return names if len(names) <= MOST_NAMES else None


def _of_unfinished(wanted: Wanted, cursor: str) -> list[str] | None:
    status = wanted.filters.status
    runs = Run.objects.unfinished().filter(status=status)
    if wanted.owner:
        runs = runs.filter(user_id=wanted.owner)
    ids = list(runs.values_list("root_id", flat=True)[: MOST_RUNS + 1])
    if len(ids) > MOST_RUNS:
        return None
    if status == Status.PENDING:  # also of trees that never ran
        ids += wanted.after(cursor, wanted.matching.filter(status=status)).values_list("id", flat=True)[: wanted.most]
    return ids


PAGE: Final = 50
TEMPLATE: Final = "Template: "
"""The reason of a skipped template, of which copies run, begins with this. It is none of the tasks that are counted."""
#: The order of statuses in a tree's status bar.
BAR: Final = (
    Status.COMPLETED,
    Status.FAILED,
    NOT_RUN,
    Status.CANCELLED,
    HANDLED,
    Status.SKIPPED,
    Status.IN_PROGRESS,
    Status.PENDING,
)

StatusBar = list[tuple[str, float, float]]
"""(status, start, width) in percent of the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A tree in the list. `seconds` is None before its first run."""

    root: Task
    run: Run | None
    status: str
    counts: Mapping[str, int]
    """The number of its tasks with each status."""
    bar: StatusBar
    seconds: float | None
    asks: bool
    """Whether one of its tasks waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of the list, and the cursor of the next page."""

    rows: list[Row]
    filters: Filters
    next_cursor: str | None
    searched_until: datetime | None = None
    """The page ends early: trees beyond this time have not been searched yet."""


def list_trees(*, caller: Caller, filters: Filters) -> Listing:
    """List the caller's trees that match the filters. Raises InvalidParams for a malformed cursor."""
    found = search(caller, _roots(caller), filters, most=PAGE + 1)
    shown = found.roots[:PAGE]
    if len(found.roots) > PAGE:
        return Listing(rows=_rows(caller, shown), filters=filters, next_cursor=cursor_of(shown[-1]))
    return Listing(
        rows=_rows(caller, shown),
        filters=filters,
        next_cursor=cursor_of(found.last) if found.last else None,
        searched_until=found.last.created_at if found.last else None,
    )


def rows_of_trees(*, caller: Caller, root_ids: Collection[str]) -> list[Row]:
    """Return the current rows of these trees."""
    return _rows(caller, list(_roots(caller).filter(id__in=root_ids)))


def _roots(caller: Caller) -> TaskQuerySet:
    # These columns may be large, and the list shows none of them.
    return (
        Task.objects.for_caller(caller)
        .filter(parent_id=None)
        .defer("inputs", "result", "schemas", "params", "steps", "call")
    )


def _rows(caller: Caller, roots: Sequence[Task]) -> list[Row]:
    root_ids = [root.id for root in roots]
    runs = latest_runs(caller=caller, root_ids=root_ids)
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    progress: dict[str, float] = {}
    tasks = Task.objects.filter(root_id__in=root_ids, part=None).exclude(
        status=Status.SKIPPED, error__startswith=TEMPLATE
    )
    handled = Q(status=Status.FAILED, params__contains='"allow_failure":true')
    shown = Case(
        When(cause_id__isnull=False, then=Value(NOT_RUN)), When(handled, then=Value(HANDLED)), default=F("status")
    )
    per_status = tasks.order_by().annotate(shown=shown).values_list("root_id", "shown")
    for root_id, status, number, mean in per_status.annotate(Count("id"), Avg("progress")):
        run = runs.get(root_id)
        if status == Status.FAILED and run is not None and run.status == Status.COMPLETED:
            status = HANDLED  # a map has collected it
        counts[root_id][status] = counts[root_id].get(status, 0) + number
        if status == Status.IN_PROGRESS:
            progress[root_id] = mean
    asking = set(Question.objects.waiting().filter(run__in=runs.values()).values_list("run__root_id", flat=True))
    rows = []
    for root in roots:
        run = runs.get(root.id)
        rows.append(
            Row(
                root=root,
                run=run,
                status=run.status if run else root.status,
                counts=counts[root.id],
                bar=bar_of(counts[root.id], progress.get(root.id, 0.0)),
                seconds=seconds_of(run),
                asks=root.id in asking,
            )
        )
    return rows


def bar_of(counts: Mapping[str, int], progress: float) -> StatusBar:
    """Return the share of each status. `progress` of the running tasks, 0.0 to 1.0, splits their share into done and rest."""
    total = sum(counts.values())
    parts, start = [], 0.0
    for status in BAR:
        width = 100 * counts.get(status, 0) / total
        done = width * progress if status == Status.IN_PROGRESS else width
        parts += [(str(status), start, done), (f"{status} rest", start + done, width - done)]
        start += width
    return [(kind, round(first, 3), round(width, 3)) for kind, first, width in parts if width]


def seconds_of(run: Run | None) -> float | None:
    """Return the duration of the run so far. None before it starts."""
    if run is None or run.started_at is None:
        return None
    return ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds()
