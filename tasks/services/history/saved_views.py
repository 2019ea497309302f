"""Saved views: the filters of lists under names. Each user has their own."""

from collections.abc import Sequence
from typing import Final

from django.db import transaction

from accounts.callers import Caller
from apflow_site.db.turns import has_room
from tasks.models import SavedView
from tasks.rules.exceptions import LimitReached

MOST: Final = 50
"""The number of views that a user may save for one list."""


def views_of(*, caller: Caller, place: str) -> Sequence[SavedView]:
    """Return the caller's views of a list, by name."""
    return list(SavedView.objects.filter(user_id=caller.user_id, place=place).order_by("name"))


@transaction.atomic
def save_view(*, caller: Caller, place: str, name: str, query: str) -> None:
    """Save a view, or replace the one with this name. Raises LimitReached."""
    others = SavedView.objects.filter(user_id=caller.user_id, place=place).exclude(name=name)
    if not has_room(others, of=caller.user_id, most=MOST):
        raise LimitReached(f"You have {MOST} views of this list, which is the limit. Delete one of them first.")
    SavedView.objects.update_or_create(user_id=caller.user_id, place=place, name=name, defaults={"query": query})


def delete_view(*, caller: Caller, place: str, name: str) -> bool:
    """Delete a view of the caller. False: there is none with this name."""
    deleted, _ = SavedView.objects.filter(user_id=caller.user_id, place=place, name=name).delete()
    return deleted > 0
