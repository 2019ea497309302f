"""Scores of runs: those that people and applications give, each of which replaces the one before it, and their export."""

import re
from datetime import UTC, datetime
from typing import Final

from django.db import transaction

from accounts.callers import Caller
from tasks.models import Run, Score, Task
from tasks.rules.exceptions import InvalidParams, LimitReached, RunNotFound, TaskNotFound
from tasks.telemetry import genai

NAME: Final = re.compile("[A-Za-z0-9_.-]{1,64}")
CATEGORY: Final = re.compile("[A-Za-z0-9_.+-]{1,50}")
MOST: Final = 100
"""The number of scores of a run."""
PERSON, END_USER, JUDGE = "person", "end_user", "judge"
Value = float | bool | str | None


@transaction.atomic
def set_score(
    *,
    caller: Caller,
    run_id: str,
    value: Value,
    task_id: str | None = None,
    name: str = "feedback",
    reason: str | None = None,
    source: str = END_USER,
) -> Score | None:
    """Score a run of the caller or one of its tasks: the score replaces the one that the same source gave it by this name; None removes that.

    Raises RunNotFound, TaskNotFound, LimitReached, or InvalidParams for a name or a category that is none.
    """
    if not NAME.fullmatch(name):
        raise InvalidParams([("name", "must have 1 to 64 letters, digits, '_', '-' and '.'")])
    if isinstance(value, str) and not CATEGORY.fullmatch(value):
        raise InvalidParams([("score", "must be a number, a boolean or a category: a word of at most 50 characters")])
    own = Run.objects.for_caller(caller)
    run = own.filter(id=run_id).select_for_update().first()  # scores of one run wait for each other
    if run is None:
        raise RunNotFound(run_id, close_matches=own.ids_like(run_id))
    if task_id is not None and not Task.objects.filter(id=task_id, root_id=run.root_id).exists():
        raise TaskNotFound(task_id)
    of_run = Score.objects.filter(run_id=run.id)
    before = of_run.filter(task_id=task_id or "", name=name, source=source)
    if value is None:
        before.delete()
        return None
    score = before.first() or Score(run_id=run.id, task_id=task_id or "", name=name, source=source)
    if score.pk is None and of_run.count() >= MOST:
        raise LimitReached(f"The run has {MOST} scores, which is the most. Remove one of them first.")
    score.value, score.reason, score.by, score.at = value, reason, caller.user_id, datetime.now(UTC)
    score.save()
    export(run, score)
    return score


def export(run: Run, score: Score) -> None:
    """Send the score to OpenTelemetry after the commit, in the trace of its run."""
    transaction.on_commit(
        lambda: genai.evaluated(run.id, run.trace, score.name, score.value, score.reason, task_id=score.task_id)
    )
