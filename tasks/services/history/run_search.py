"""Runs that match a tag or a text, in order, without reading millions of rows at a time.

Runs are searched a piece at a time, for a limited time; a page may then end early, and the next one continues there.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, Final

from django.db.models import Exists, Func, OuterRef, Q, QuerySet, Subquery, TextField
from django.db.models.functions import Cast

from tasks.models import Run, RunQuerySet, Task, TaskEvent

PIECE: Final = 500
"""Runs that one query searches."""
SECONDS: Final = 0.3
FIRST_ERRORS: Final = 10
"""How many of the errors of a run are searched."""

Place = tuple[datetime, str]
"""Where a run is in the list: its creation and its id."""
Source = Callable[[Place | None, int], Sequence[Place]]
"""Returns the places of the next runs after a place, at most so many."""


class ErrorOf(Func):
    """The text of the error in the payload of an event."""

    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="json_extract(%(expressions)s, '$.error')", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)::json ->> 'error'", **context)


def search(
    runs: RunQuerySet, source: Source, matches: Q, *, limit: int, after: Place | None, is_descending: bool = True
) -> tuple[list[Run], Place | None]:
    """Return up to `limit` of the runs that match, and the place after which the search continues (None at the end)."""
    found: list[Run] = []
    give_up_at, sign = monotonic() + SECONDS, "-" if is_descending else ""
    while True:
        piece = source(after, PIECE)
        wanted = runs.filter(matches, id__in=[run_id for _, run_id in piece]).order_by(f"{sign}created_at", f"{sign}id")
        found += wanted[: limit + 1 - len(found)]
        if len(found) > limit:
            return found[:limit], _place(found[limit - 1])
        if len(piece) < PIECE:
            return found, None
        after = piece[-1]
        if monotonic() > give_up_at:
            return found, after


def _place(run: Run) -> Place:
    return run.created_at, run.id


def has_text(text: str) -> Q:
    """Select runs with the text in the name of their tree, at the start of an id, or in one of the first errors."""
    named = Task.objects.filter(id=OuterRef("root_id"), name__icontains=text)
    first = _failures(OuterRef(OuterRef("id"))).order_by("seq").values("id")[:FIRST_ERRORS]
    errors = _failures(OuterRef("id")).filter(id__in=Subquery(first))
    errors = errors.annotate(said=ErrorOf(Cast("payload", TextField()))).filter(said__icontains=text)
    ids = Q(id__startswith=text) | Q(root_id__startswith=text)
    return ids | Exists(named) | Exists(errors)


def _failures(run_id: OuterRef) -> QuerySet[TaskEvent]:
    return TaskEvent.objects.filter(run_id=run_id, type="task_failed")
