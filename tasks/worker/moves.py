"""The first statement of a commit: it moves each run on by its new events, and ends those that end.

That locks the rows of the runs until the commit, and is the fence: a run that another worker has claimed since, or that
has ended, does not move.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from django.db import connection

from apflow_site.db.connections import IS_SQLITE
from tasks.storage.bulk import records
from tasks.worker.changes import Change, Fence, RunClosed

IS_SAME: Final = "IS" if IS_SQLITE else "IS NOT DISTINCT FROM"
RETURNED: Final = "RETURNING tasks_run.id, epoch, claim_token, last_seq"


def _is_held(run_id: str, epoch: str, token: str) -> str:
    return f"id = {run_id} AND epoch = {epoch} AND claim_token {IS_SAME} {token} AND finished_at IS NULL"


HELD: Final = _is_held("%s", "%s", "%s")
ADVANCE: Final = f"UPDATE tasks_run SET last_seq = last_seq + %s WHERE {HELD} {RETURNED}"  # noqa: S608  (constants of ours)
CLOSE: Final = (
    "UPDATE tasks_run SET last_seq = last_seq + %s, status = %s, finished_at = %s, lease_owner = NULL, lease_expires_at = NULL "  # noqa: S608
    f"WHERE {HELD} {RETURNED}"
)
MOVE: Final = ("run_id", "of_epoch", "of_token", "added", "ended_as", "ended_at")
MOVE_MANY: Final = f"""
WITH held AS MATERIALIZED (
    SELECT id, move.* FROM tasks_run
    JOIN json_to_recordset(%s::json) AS
        move(run_id varchar, of_epoch integer, of_token varchar, added integer, ended_as varchar, ended_at timestamptz)
    ON {_is_held("move.run_id", "move.of_epoch", "move.of_token")}
    ORDER BY id FOR UPDATE OF tasks_run
)
UPDATE tasks_run SET last_seq = last_seq + added, status = COALESCE(ended_as, status), finished_at = ended_at,
    lease_owner = CASE WHEN ended_as IS NULL THEN lease_owner END,
    lease_expires_at = CASE WHEN ended_as IS NULL THEN lease_expires_at END
FROM held WHERE tasks_run.id = held.id {RETURNED}
"""  # noqa: S608  (constants of ours)
"""The statement for PostgreSQL: in the order of the ids, so that two of them cannot wait for each other."""


def move_on(changes: Iterable[Change]) -> dict[Fence, int]:
    """Move the runs of the changes on. Returns the number of the last event before theirs, for each fence that holds."""
    added, ends = Counter[Fence](), dict[Fence, RunClosed]()
    for change in changes:
        if change.IS_FENCED:
            added[change.fence] += len(change.events)
        if isinstance(change, RunClosed):
            ends[change.fence] = change
    moved = _moved(added, ends) if len(added) == 1 or IS_SQLITE else _moved_together(added, ends)
    return {(run_id, epoch, token): newest - added[run_id, epoch, token] for run_id, epoch, token, newest in moved}


def _moved(added: "Counter[Fence]", ends: dict[Fence, RunClosed]) -> list[Any]:
    rows = list[Any]()
    with connection.cursor() as cursor:
        for fence, count in added.items():
            if (end := ends.get(fence)) is None:
                cursor.execute(ADVANCE, [count, *fence])
            else:
                cursor.execute(CLOSE, [count, end.status, end.at, *fence])
            rows += cursor.fetchall()
    return rows


def _moved_together(added: "Counter[Fence]", ends: dict[Fence, RunClosed]) -> list[Any]:
    if not added:
        return []
    ended = [(end.status, end.at) if (end := ends.get(fence)) else (None, None) for fence in added]
    moves = [(*fence, added[fence], *end) for fence, end in zip(added, ended, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(MOVE_MANY, [records(moves, MOVE)])
        return list(cursor.fetchall())
