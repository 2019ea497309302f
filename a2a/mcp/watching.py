"""The resources that sessions of clients watch (`resources/subscribe`): rows, so that any process sends the changes."""

from collections.abc import Collection
from typing import Final

from django.db import transaction
from django.utils import timezone

from a2a.mcp.sessions import LASTS
from a2a.models import WatchedResource
from accounts.callers import Caller
from apflow_site.db.turns import has_room
from tasks.rules.exceptions import LimitReached

MOST: Final = 100
"""The number of resources that a session may watch."""
MOST_OF_USER: Final = 1_000


@transaction.atomic
def watch(*, caller: Caller, session: str, run_id: str, uri: str) -> None:
    """Watch a resource. Raises LimitReached."""
    of_user = WatchedResource.objects.filter(user_id=caller.user_id)
    of_user.filter(created_at__lt=timezone.now() - LASTS).delete()  # their sessions have ended
    others = of_user.exclude(session=session, uri=uri)
    of_session = has_room(others.filter(session=session), of=caller.user_id, most=MOST)
    if not of_session or not has_room(others, of=caller.user_id, most=MOST_OF_USER):
        raise LimitReached(
            f"A session watches at most {MOST} resources, and all sessions of a user {MOST_OF_USER:,}. "
            "End some with resources/unsubscribe."
        )
    defaults = {"user_id": caller.user_id, "run_id": run_id}
    WatchedResource.objects.update_or_create(session=session, uri=uri, defaults=defaults)


def unwatch(*, session: str, uri: str) -> None:
    """Watch a resource no longer."""
    WatchedResource.objects.filter(session=session, uri=uri).delete()


def watched(*, session: str, run_ids: Collection[str] | None) -> list[str]:
    """Return the URIs that a session watches; only those that belong to these runs, unless `run_ids` is None."""
    found = WatchedResource.objects.filter(session=session)
    if run_ids is not None:
        found = found.filter(run_id__in=run_ids)
    return list(found.order_by("id").values_list("uri", flat=True))
