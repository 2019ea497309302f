"""Waits for a time, an event or a run: the questions of the engine about them, and the view of the owner of a task.

`event_waits` has the way in which a wait for an event takes one.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from accounts.callers import Caller
from tasks.models import Question, QuestionQuerySet, Run
from tasks.queue import notify, suspension
from tasks.services.waits.questions import OpenQuestion, questions_by_id
from tasks.status import WaitKind

END_FOR_RUN: Final = (
    "UPDATE tasks_question SET answered_at = %s WHERE id = %s AND closed_at IS NULL AND answered_at IS NULL"
)
"""The statement that ends the wait for a run when the run ends. `resume_after` belongs into the same transaction."""


TAKE_PLACES: Final = (
    "INSERT INTO tasks_openwaits (user_id, taken) VALUES (%s, %s) "
    "ON CONFLICT (user_id) DO UPDATE SET taken = tasks_openwaits.taken + %s RETURNING taken"
)
SET_TAKEN: Final = "UPDATE tasks_openwaits SET taken = %s WHERE user_id = %s"
NEVER_COUNTED: Final = 2**62


def open_wait(caller: Caller, *, task_id: str) -> Question | None:
    """Return what the task waits for, if that is a time, an event or a run."""
    return _waits(Question.objects.for_caller(caller).filter(task_id=task_id)).select_related("run").first()


def open_waits(caller: Caller, *, run_id: str, limit: int) -> list[Question]:
    """Return the waits of a run, the next to end first."""
    return list(_waits(Question.objects.for_caller(caller).filter(run_id=run_id)).order_by("expires_at", "id")[:limit])


def _waits(found: QuestionQuerySet) -> QuestionQuerySet:
    return found.exclude(kind=WaitKind.QUESTION).unanswered().in_open_runs()


# --- for the engine ---


def take_places(user_id: str, count: int) -> int:
    """Count waits of the user that are about to begin, and return how many of them may (`limits.waits_per_user`).

    Call it in the transaction that stores them: others of the user wait for its end. Waits that have ended
    are only found by counting again once the limit seems to be reached.
    """
    most = settings.APFLOW.limits.waits_per_user
    with connection.cursor() as cursor:
        cursor.execute(TAKE_PLACES, [user_id, NEVER_COUNTED, count])
        (taken,) = cursor.fetchone()
        if taken <= most:
            return count
        runs = Run.objects.unfinished().filter(user_id=user_id)
        now_open = Question.objects.filter(closed_at=None, run__in=runs).order_by().values("id")[:most].count()
        fitting = min(count, most - now_open)
        cursor.execute(SET_TAKEN, [now_open + fitting, user_id])
    return fitting


@transaction.atomic
def end(wait_ids: Sequence[str]) -> dict[str, OpenQuestion]:
    """End the waits, because their time is over, and return how each ended: an event that was taken meanwhile counts.

    Waits whose tasks no longer wait are left out.
    """
    Question.objects.filter(id__in=wait_ids, closed_at=None, answered_at=None).update(answered_at=Now())
    return questions_by_id(wait_ids)


def end_for_run(wait_id: str, at: datetime) -> None:
    """End the wait for a run, in the transaction that ends the run."""
    Question.objects.filter(id=wait_id, closed_at=None, answered_at=None).update(answered_at=at)
    resume_after([wait_id])


def resume_after(wait_ids: Sequence[str]) -> None:
    """Let the runs continue whose waits have ended, after the caller's transaction. If that fails, a sweep finds them."""
    notify.send(notify.RUNS)
    transaction.on_commit(partial(_resume, wait_ids), robust=True)


def _resume(wait_ids: Sequence[str]) -> None:
    suspension.resume(sorted(set(Question.objects.filter(id__in=wait_ids).values_list("run_id", flat=True))))
