"""Waits for a time or an event: what the engine asks about them, and what the owner of a task sees.

A wait for an event takes the first one that fits. The choice is a row, `Question.taken_id`, so that
it is made once, whatever dies. An event that came before the wait is looked for when the wait
begins, and again by each worker that takes up the run.
"""

from typing import Final

from django.db import transaction
from django.db.models.functions import Length, Now

from accounts.callers import Caller
from tasks.models import Question, QuestionQuerySet, Run, SentEvent
from tasks.rules.waits import fits
from tasks.services.questions import OpenQuestion, open_question
from tasks.status import WaitKind

MOST_EARLIER: Final = 1_000
"""How many earlier events of that name a wait looks at."""
EARLIER_CHARACTERS: Final = 2**22
"""How long their payloads may be together."""


def open_wait(caller: Caller, *, task_id: str) -> Question | None:
    """Return what the task waits for, if that is a time or an event."""
    return _waits(Question.objects.for_caller(caller).filter(task_id=task_id)).select_related("run").first()


def open_waits(caller: Caller, *, run_id: str, limit: int) -> list[Question]:
    """Return the waits of a run, the next to end first."""
    return list(_waits(Question.objects.for_caller(caller).filter(run_id=run_id)).order_by("expires_at", "id")[:limit])


def _waits(found: QuestionQuerySet) -> QuestionQuerySet:
    return found.exclude(kind=WaitKind.QUESTION).unanswered().in_open_runs()


# --- for the engine ---


def earlier_event(question_id: str) -> int | None:
    """Return the first event that fits the wait and came before it, or None.

    Another wait of the run has not taken it.
    """
    wait = Question.objects.select_related("run").get(id=question_id)
    match = wait.match or {}
    for event in SentEvent.objects.filter(id__in=_candidates(wait)).order_by("id"):
        if fits(match, event.payload):
            return event.id
    return None


def _candidates(wait: Question) -> list[int]:
    """Return the newest events of that name, as many as it may look at."""
    run: Run = wait.run
    taken = Question.objects.filter(run_id=run.id, taken_id__isnull=False).values("taken_id")
    events = SentEvent.objects.filter(
        user_id=wait.user_id, event=wait.event, wait_id=None, received_at__gte=wait.since or run.created_at
    ).exclude(id__in=taken)
    found, characters = list[int](), 0
    for event_id, length in events.order_by("-id").values_list("id", Length("payload"))[:MOST_EARLIER]:
        characters += length or 0
        if characters > EARLIER_CHARACTERS:
            break
        found.append(event_id)
    return found


@transaction.atomic
def settle(question_id: str, *, taken_id: int | None = None) -> OpenQuestion | None:
    """End the wait with this event or, without one, because its time is over. Return how it ended.

    An event that was taken meanwhile counts. None: the task no longer waits.
    """
    Question.objects.filter(id=question_id, closed_at=None, answered_at=None).update(
        answered_at=Now(), taken_id=taken_id
    )
    return open_question(question_id)
