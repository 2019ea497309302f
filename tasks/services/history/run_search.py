"""Runs that match a tag or a text, in order, without reading millions of rows at a time.

Runs are searched a piece at a time, for a limited time; a page may then end early, and the next one continues there.

Saved views are the filters of lists under names. Each user has their own.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, Func, OuterRef, Q, TextField
from django.db.models.lookups import IContains

from accounts.callers import Caller
from apflow_site.db.turns import has_room
from tasks.models import Run, RunQuerySet, SavedView, Task
from tasks.rules.exceptions import LimitReached

PIECE: Final = 500
"""Runs that one query searches."""
SECONDS: Final = 0.3

Place = tuple[datetime, str]
"""The position of a run in the list: its creation and its id."""
Source = Callable[[Place | None, int], Sequence[Place]]
"""Returns the places of the next runs after a place, at most so many."""
MOST_VIEWS: Final = 50
"""The number of views that a user may save for one list."""


class ErrorsOf(Func):
    """The errors in the failures of a run, as one text."""

    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        errors = "(SELECT group_concat(json_extract(value, '$.error'), char(10)) FROM json_each(%(expressions)s))"
        return self.as_sql(compiler, connection, template=errors, **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        errors = (
            "(SELECT string_agg(each ->> 'error', chr(10)) FROM json_array_elements((%(expressions)s)::json) AS each)"
        )
        return self.as_sql(compiler, connection, template=errors, **context)


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
            return found[:limit], (found[limit - 1].created_at, found[limit - 1].id)
        if len(piece) < PIECE:
            return found, None
        after = piece[-1]
        if monotonic() > give_up_at:
            return found, after


def has_text(text: str) -> Q:
    """Select runs with the text in the name of their tree, at the start of an id, or in an error that failed them."""
    named = Task.objects.filter(id=OuterRef("root_id"), name__icontains=text)
    ids = Q(id__startswith=text) | Q(root_id__startswith=text)
    return ids | Exists(named) | Q(IContains(ErrorsOf("failures"), text))


def views_of(*, caller: Caller, place: str) -> Sequence[SavedView]:
    """Return the caller's views of a list, by name."""
    return list(SavedView.objects.filter(user_id=caller.user_id, place=place).order_by("name"))


@transaction.atomic
def save_view(*, caller: Caller, place: str, name: str, query: str) -> None:
    """Save a view, or replace the one with this name. Raises LimitReached."""
    others = SavedView.objects.filter(user_id=caller.user_id, place=place).exclude(name=name)
    if not has_room(others, of=caller.user_id, most=MOST_VIEWS):
        raise LimitReached(f"You have {MOST_VIEWS} views of this list, which is the limit. Delete one of them first.")
    SavedView.objects.update_or_create(user_id=caller.user_id, place=place, name=name, defaults={"query": query})


def delete_view(*, caller: Caller, place: str, name: str) -> bool:
    """Delete a view of the caller. False: there is none with this name."""
    deleted, _ = SavedView.objects.filter(user_id=caller.user_id, place=place, name=name).delete()
    return deleted > 0
