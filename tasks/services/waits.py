"""Waits for a time, an event or a run: what the engine asks about them, and what the owner of a task sees.

A wait for an event takes the first one that fits. The choice is a row, `Question.taken_id`, so that
it is made once, even if a process dies. A new wait first looks for events that came before it. Only then it
is open to new ones: until then it has no `digest`, by which they find it. Between the last look and
that moment no event of this name is stored, so that none is missed and none overtakes another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from django.db import transaction
from django.db.models.functions import Length, Now

from accounts.callers import Caller
from apflow_site.db import turns
from tasks.models import Question, QuestionQuerySet, Run, SentEvent
from tasks.queue import notify, suspension
from tasks.rules.waits import digest_of, fits, shape_of
from tasks.services.questions import OpenQuestion, open_question
from tasks.status import WaitKind

MOST_EARLIER: Final = 1_000
"""How many earlier events of that name a wait looks at."""
EARLIER_CHARACTERS: Final = 2**20
"""How long their payloads may be together."""
LOCK: Final = 0x61706666
END_FOR_RUN: Final = (
    "UPDATE tasks_question SET answered_at = %s WHERE id = %s AND closed_at IS NULL AND answered_at IS NULL"
)
"""What the end of a run does to the wait for it. `resume_after` belongs into the same transaction."""


def open_wait(caller: Caller, *, task_id: str) -> Question | None:
    """Return what the task waits for, if that is a time, an event or a run."""
    return _waits(Question.objects.for_caller(caller).filter(task_id=task_id)).select_related("run").first()


def open_waits(caller: Caller, *, run_id: str, limit: int) -> list[Question]:
    """Return the waits of a run, the next to end first."""
    return list(_waits(Question.objects.for_caller(caller).filter(run_id=run_id)).order_by("expires_at", "id")[:limit])


def _waits(found: QuestionQuerySet) -> QuestionQuerySet:
    return found.exclude(kind=WaitKind.QUESTION).unanswered().in_open_runs()


# --- for the engine ---


def count_open(user_id: str, *, most: int) -> int:
    """Return how many tasks of the user wait for an answer, a time, an event or a run, but not more than `most`."""
    runs = Run.objects.unfinished().filter(user_id=user_id)
    return Question.objects.filter(closed_at=None, run__in=runs).order_by().values("id")[:most].count()


@dataclass(frozen=True, slots=True)
class Look:
    """What a wait has seen of the events before it: the first that fits, if any, and the last of all."""

    found_id: int | None
    last_id: int


def look_back(question_id: str) -> Look:
    """Look for the first event that fits the wait and came before it, and that no other wait of the run has taken."""
    return _look(Question.objects.select_related("run").get(id=question_id), after=0)


def _look(wait: Question, *, after: int) -> Look:
    seen = _candidates(wait, after)
    for event in SentEvent.objects.filter(id__in=seen).order_by("id"):
        if fits(wait.match or {}, event.payload):
            return Look(event.id, event.id)
    return Look(None, max(seen, default=after))


def _candidates(wait: Question, after: int) -> list[int]:
    """Return the newest events of that name, as many as it may look at."""
    run: Run = wait.run
    taken = Question.objects.filter(run_id=run.id, taken_id__isnull=False).values("taken_id")
    events = SentEvent.objects.filter(
        user_id=wait.user_id,
        event=wait.event,
        wait_id=None,
        received_at__gte=wait.since or run.created_at,
        id__gt=after,
    ).exclude(id__in=taken)
    found, characters = list[int](), 0
    for event_id, length in events.order_by("-id").values_list("id", Length("payload"))[:MOST_EARLIER]:
        characters += length or 0
        if characters > EARLIER_CHARACTERS:
            break
        found.append(event_id)
    return found


@transaction.atomic
def take_or_open(question_id: str, look: Look) -> OpenQuestion | None:
    """Let the wait take the event that it has found or, without one, be found by those that come. None: the task no longer waits."""
    wait = Question.objects.select_related("run").get(id=question_id)
    if look.found_id is None:
        take_turns(str(wait.user_id), str(wait.event))
        look = _look(wait, after=look.last_id)
    if look.found_id is not None:
        return _end(question_id, taken_id=look.found_id)
    match = wait.match or {}
    Question.objects.filter(id=question_id).update(shape=shape_of(match), digest=digest_of(match))
    return open_question(question_id)


def take_turns(user_id: str, event: str) -> None:
    """Wait for other transactions with events of this user and name."""
    turns.take_turns(LOCK, f"{user_id}\n{event}")


@transaction.atomic
def end(question_id: str) -> OpenQuestion | None:
    """End the wait, because its time is over, and return how it ended: an event that was taken meanwhile counts.

    None: the task no longer waits.
    """
    return _end(question_id, taken_id=None)


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


def _end(question_id: str, *, taken_id: int | None) -> OpenQuestion | None:
    still_open = Question.objects.filter(id=question_id, closed_at=None, answered_at=None)
    still_open.update(answered_at=Now(), taken_id=taken_id)
    return open_question(question_id)
