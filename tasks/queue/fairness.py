"""Turns: users share the workers fairly, however many runs one user has queued.

A run's turn is one more than the highest turn of any started run and of its owner's unfinished
runs. Workers take the lowest turn first (`tasks.queue.leases`), so users with queued runs are
served in rotation. The turn is fixed when the run is queued: a claim costs the same however long
the queue. When started runs are deleted, their highest turn is kept: users who queue after that
would otherwise come before all that wait.
"""

from typing import Final

from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef

from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.turns import take_turns
from tasks.models import CancelRequest, Run, RunQuerySet
from tasks.queue.dead_rows import Rest
from tasks.rules.exceptions import RETRY_SECONDS, LimitReached
from tasks.storage.bulk import Computed

REACHED: Final = "turn_reached"
"""The name of the fact with the highest turn of a started run that has been deleted."""
STARTED: Final = "COALESCE((SELECT MAX(turn) FROM tasks_run WHERE started_at IS NOT NULL), 0)"
HIGHEST: Final = (
    f"{STARTED}, "  # noqa: S608  (constants of this module; the next line looks only for higher ones: below them may be many dead rows)
    f"COALESCE((SELECT MAX(turn) FROM tasks_run WHERE user_id = %s AND finished_at IS NULL AND turn > {STARTED}), 0), "
    "COALESCE((SELECT CAST(value AS BIGINT) FROM tasks_installationfact WHERE name = %s), 0)"
)
NEXT: Final = f"1 + MAX({HIGHEST})" if IS_SQLITE else f"1 + GREATEST({HIGHEST})"
KEEP: Final = (
    "INSERT INTO tasks_installationfact (name, value, updated_at) VALUES (%s, %s, CURRENT_TIMESTAMP) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at "
    "WHERE CAST(tasks_installationfact.value AS BIGINT) < CAST(excluded.value AS BIGINT)"
)
MORE_THAN: Final = "SELECT 1 FROM tasks_run WHERE user_id = %s AND finished_at IS NULL LIMIT 1 OFFSET %s"
USER_LOCK: Final = 0x72_75_6E_73
"""The first number of PostgreSQL's advisory locks of users; the second is a hash of the user."""
MARGIN: Final = 100
"""So far below the limit, transactions that do not see each other's runs could not exceed it together."""
MARGIN_OF_MANY: Final = 500
"""So far below the limit, transactions that add up to 64 runs each could not."""


def next_turn(user_id: str) -> int:
    """Return the turn for a run that its owner queues now."""
    expression, parameters = next_turn_of(user_id)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression}", parameters)
        (turn,) = cursor.fetchone()
        return int(turn)


def next_turn_of(user_id: str) -> Computed:
    """Return the same, for a statement that inserts the run."""
    return Computed(NEXT, [user_id, REACHED])


def keep_turn(runs: RunQuerySet) -> None:
    """Remember the highest turn of these runs, which are about to be deleted, if they have started."""
    # PostgreSQL would look for MAX among all runs, from the highest turn downwards.
    highest = max(runs.filter(started_at__isnull=False).values_list("turn", flat=True), default=None)
    if highest is not None:
        with connection.cursor() as cursor:
            cursor.execute(KEEP, [REACHED, str(highest)])


def refuse_if_full(user_id: str) -> None:
    """Raise LimitReached if the user has the maximum number of unfinished runs.

    Call it in the transaction that adds a run: near the limit, those of one user take turns.
    Cancelled runs that still wait for a worker to record it do not count. Without authentication
    there is no limit, since all users are the same.
    """
    if not settings.APFLOW.auth.is_on:
        return
    most = settings.APFLOW.limits.runs_per_user
    near = max(0, most - 1 - MARGIN)
    if near and not _has_more_than(near, user_id):
        return
    take_turns(USER_LOCK, user_id)
    unfinished = Run.objects.unfinished().filter(user_id=user_id)
    if not unfinished[most - 1 : most].exists():
        return
    is_cancelled = Exists(CancelRequest.objects.filter(run_id=OuterRef("id"), task_id=OuterRef("target_id")))
    if unfinished.exclude(is_cancelled)[most - 1 : most].exists():
        raise LimitReached(
            f"This user already has {most:,} unfinished runs (limits.runs_per_user). Retry when one of them has ended, or cancel some.",
            data={"retry_after_seconds": RETRY_SECONDS},
        )


def is_far_from_full(user_id: str) -> bool:
    """Return whether a transaction can add many runs of the user, and `refuse_if_full` need not be asked for each."""
    most: int = settings.APFLOW.limits.runs_per_user
    return not settings.APFLOW.auth.is_on or (
        most > MARGIN_OF_MANY and not _has_more_than(most - MARGIN_OF_MANY, user_id)
    )


_rests: Final[dict[str, Rest]] = {}
"""The rests of users for whom the check was slow. It is not made meanwhile: the limit may be passed by the runs of a second."""


def _has_more_than(count: int, user_id: str) -> bool:
    """Check with raw SQL: each run that is queued asks, and the ORM would be costly."""
    rest = _rests.get(user_id) or Rest()
    if not rest.is_over:
        return False
    with rest.after(), connection.cursor() as cursor:
        cursor.execute(MORE_THAN, [user_id, count])
        has_more = cursor.fetchone() is not None
    if has_more or rest.is_over:
        _rests.pop(user_id, None)
    else:
        _rests[user_id] = rest
    return has_more
