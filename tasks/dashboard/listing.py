"""The list of trees: filtered by the URL query, paginated in the database, one row per tree."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.db.models import Avg, Count

from accounts.callers import Caller
from tasks.dashboard.filters import Filters
from tasks.dashboard.search import search
from tasks.models import Question, Run, Task, TaskQuerySet
from tasks.services.trees.queries import cursor_of, latest_runs
from tasks.status import Status

PAGE: Final = 50
TEMPLATE: Final = "Template: "
"""The reason of a skipped template, of which copies run, begins with this. It is none of the tasks that are counted."""
#: The order of statuses in a tree's status bar.
BAR: Final = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.SKIPPED, Status.IN_PROGRESS, Status.PENDING)

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
        Task.objects.for_caller(caller).filter(parent_id=None).defer("inputs", "result", "schemas", "params", "steps")
    )


def _rows(caller: Caller, roots: Sequence[Task]) -> list[Row]:
    root_ids = [root.id for root in roots]
    runs = latest_runs(caller=caller, root_ids=root_ids)
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    progress: dict[str, float] = {}
    tasks = Task.objects.filter(root_id__in=root_ids).exclude(status=Status.SKIPPED, error__startswith=TEMPLATE)
    per_status = tasks.order_by().values_list("root_id", "status")
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
        counts=counts,
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
