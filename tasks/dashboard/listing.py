"""The list of trees: filtered by the URL query, paginated in the database, one row per tree."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from django.db.models import Avg, Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from accounts.callers import Caller
from tasks.models import Question, Run, Task, TaskQuerySet
from tasks.rules.exceptions import InvalidParams
from tasks.services.queries import after_cursor, cursor_of, latest_runs
from tasks.status import Status

PAGE: Final = 50
ORDERS: Final = {"-created_at": "Newest first", "created_at": "Oldest first"}
#: The order of statuses in a tree's status bar.
BAR: Final = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.IN_PROGRESS, Status.PENDING)

StatusBar = list[tuple[str, float, float]]
"""(status, start, width) in percent of the tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters in the URL. An empty value does not filter."""

    text: str = ""
    status: str = ""
    executor: str = ""
    owner: str = ""
    order: str = "-created_at"
    cursor: str = ""

    @property
    def is_narrowed(self) -> bool:
        return bool(self.text or self.status or self.executor or self.owner)

    def query(self, **changes: str) -> str:
        """Return the URL query for these filters with `changes` applied."""
        values = {"q": self.text, "status": self.status, "executor": self.executor, "owner": self.owner}
        values |= {"order": "" if self.order == "-created_at" else self.order, "cursor": self.cursor} | changes
        return urlencode({name: value for name, value in values.items() if value})


def read_filters(query: Mapping[str, str]) -> Filters:
    """Read the filters. Raises InvalidParams for an unknown status or order."""
    given = {name: query.get(name, "").strip() for name in ("q", "status", "executor", "owner", "order", "cursor")}
    problems = []
    if given["status"] and given["status"] not in list(Status):
        problems.append(("status", f"must be one of {', '.join(Status)}"))
    if given["order"] and given["order"] not in ORDERS:
        problems.append(("order", f"must be one of {', '.join(ORDERS)}"))
    if problems:
        raise InvalidParams(problems)
    return Filters(
        text=given["q"],
        status=given["status"],
        executor=given["executor"],
        owner=given["owner"],
        order=given["order"] or "-created_at",
        cursor=given["cursor"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A tree in the list. `seconds` is None before its first run."""

    root: Task
    run: Run | None
    status: str
    task_count: int
    done_count: int
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


def list_trees(*, caller: Caller, filters: Filters) -> Listing:
    """List the caller's trees that match the filters. Raises InvalidParams for a malformed cursor."""
    descending = filters.order.startswith("-")
    found = _matching(_roots(caller), filters)
    if filters.cursor:
        found = found.filter(after_cursor(filters.cursor, descending=descending))
    sign = "-" if descending else ""
    roots = list(found.order_by(f"{sign}created_at", f"{sign}id")[: PAGE + 1])
    shown = roots[:PAGE]
    next_cursor = cursor_of(shown[-1]) if len(roots) > PAGE else None
    return Listing(rows=_rows(caller, shown), filters=filters, next_cursor=next_cursor)


def rows_of_trees(*, caller: Caller, root_ids: Collection[str]) -> list[Row]:
    """Return the current rows of these trees."""
    return _rows(caller, list(_roots(caller).filter(id__in=root_ids)))


def _roots(caller: Caller) -> TaskQuerySet:
    # These columns may be large, and the list shows none of them.
    return Task.objects.for_caller(caller).filter(parent_id=None).defer("inputs", "result", "schemas", "params")


def _matching(roots: TaskQuerySet, filters: Filters) -> TaskQuerySet:
    if filters.text:
        roots = roots.filter(Q(name__icontains=filters.text) | Q(id__startswith=filters.text))
    if filters.owner:
        roots = roots.filter(user_id=filters.owner)
    if filters.executor:
        using = Task.objects.filter(executor_id=filters.executor, root_id=OuterRef("id"))
        roots = roots.filter(id__in=using.values("root_id")[:1])
    if filters.status:
        newest = Run.objects.filter(root_id=OuterRef("id")).order_by("-number").values("status")[:1]
        roots = roots.annotate(tree_status=Coalesce(Subquery(newest), "status")).filter(tree_status=filters.status)
    return roots


def _rows(caller: Caller, roots: Sequence[Task]) -> list[Row]:
    root_ids = [root.id for root in roots]
    runs = latest_runs(caller=caller, root_ids=root_ids)
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    progress: dict[str, float] = {}
    per_status = Task.objects.filter(root_id__in=root_ids).order_by().values_list("root_id", "status")
    for root_id, status, number, mean in per_status.annotate(Count("id"), Avg("progress")):
        counts[root_id][status] = number
        if status == Status.IN_PROGRESS:
            progress[root_id] = mean
    asking = set(Question.objects.waiting().filter(run__in=runs.values()).values_list("run__root_id", flat=True))
    return [
        _row(
            root,
            runs.get(root.id),
            bar_of(counts[root.id], progress.get(root.id, 0.0)),
            counts[root.id],
            asks=root.id in asking,
        )
        for root in roots
    ]


def _row(root: Task, run: Run | None, bar: StatusBar, counts: Mapping[str, int], *, asks: bool) -> Row:
    return Row(
        root=root,
        run=run,
        status=run.status if run else root.status,
        task_count=sum(counts.values()),
        done_count=sum(number for status, number in counts.items() if Status(status).is_terminal),
        bar=bar,
        seconds=seconds_of(run),
        asks=asks,
    )


def bar_of(counts: Mapping[str, int], progress: float) -> StatusBar:
    """Return the share of each status. `progress` of the running tasks, 0.0 to 1.0, splits their share into done and rest."""
    total = sum(counts.values())
    parts, start = [], 0.0
    for status in BAR:
        width = 100 * counts.get(status, 0) / total
        done = width * progress if status is Status.IN_PROGRESS else width
        parts += [(status.value, start, done), (f"{status.value} rest", start + done, width - done)]
        start += width
    return [(kind, round(first, 3), round(width, 3)) for kind, first, width in parts if width]


def seconds_of(run: Run | None) -> float | None:
    """Return the duration of the run so far. None before it starts."""
    if run is None or run.started_at is None:
        return None
    return ((run.finished_at or datetime.now(UTC)) - run.started_at).total_seconds()
