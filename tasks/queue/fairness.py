"""Turns: users share the workers fairly, however many runs one user has queued.

A run's turn is one more than the highest turn of any started run and of its owner's unfinished
runs. Workers take the lowest turn first (`tasks.queue.leases`), so users with queued runs are
served in rotation. The turn is fixed when the run is queued: a claim costs the same however long
the queue.
"""

from typing import Final

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef

from tasks.models import CancelRequest, Run
from tasks.rules.exceptions import RETRY_SECONDS, LimitReached

NEXT: Final = (
    "SELECT COALESCE((SELECT MAX(turn) FROM tasks_run WHERE started_at IS NOT NULL), 0), "
    "COALESCE((SELECT MAX(turn) FROM tasks_run WHERE user_id = %s AND finished_at IS NULL), 0)"
)


def next_turn(user_id: str) -> int:
    """Return the turn for a run that its owner queues now."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT, [user_id])
        turn: int = 1 + max(cursor.fetchone())
        return turn


def refuse_if_full(user_id: str) -> None:
    """Raise LimitReached if the user has the maximum number of unfinished runs.

    Cancelled runs that still wait for a worker to record it do not count. Without authentication
    there is no limit, since all users are the same.
    """
    most = settings.APFLOW.limits.runs_per_user
    unfinished = Run.objects.unfinished().filter(user_id=user_id)
    if not settings.APFLOW.auth.is_on or not unfinished[most - 1 : most].exists():
        return
    is_cancelled = Exists(CancelRequest.objects.filter(run_id=OuterRef("id"), task_id=OuterRef("target_id")))
    if unfinished.exclude(is_cancelled)[most - 1 : most].exists():
        raise LimitReached(
            f"This user already has {most:,} unfinished runs (limits.runs_per_user). Retry when one of them has ended, or cancel some.",
            data={"retry_after_seconds": RETRY_SECONDS},
        )
