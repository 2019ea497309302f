"""Turns: users share the workers, however many runs one of them has queued, and nobody's queue grows without end.

A run's turn is one more than any that a worker has begun with, and than those of its owner's unfinished runs. Workers take the lowest turn first
(`tasks.queue.leases`), so that users with runs in the queue are served one after the other. It is decided once, when the run is queued: a claim
costs the same however long the queue.
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
    """The turn of a run that its owner queues now."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT, [user_id])
        turn: int = 1 + max(cursor.fetchone())
        return turn


def refuse_if_full(user_id: str) -> None:
    """Raises LimitReached when the user has as many unfinished runs as one may, beside cancelled ones that wait for a worker to say so.

    Without authentication nobody is told apart.
    """
    most = settings.APFLOW.limits.runs_per_user
    theirs = Run.objects.unfinished().filter(user_id=user_id)
    if not settings.APFLOW.auth.is_on or not theirs[most - 1 : most].exists():
        return
    is_cancelled = Exists(CancelRequest.objects.filter(run_id=OuterRef("id"), task_id=OuterRef("target_id")))
    if theirs.exclude(is_cancelled)[most - 1 : most].exists():
        raise LimitReached(
            f"{most:,} runs of this user wait or work (limits.runs_per_user). Execute it again when one of them has ended, or cancel some.",
            data={"retry_after_seconds": RETRY_SECONDS},
        )
