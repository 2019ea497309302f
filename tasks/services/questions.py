"""Questions of tasks: who may answer them, and how an answer reaches the task.

The worker does not wait for the answer: it suspends the run as soon as nothing else in it can
continue (`tasks.queue.suspension`). An answer is a row, like a cancellation. The worker of the run
finds it there; a suspended run is queued again.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson
from django.db import connection, transaction
from django.db.models.functions import Now

from accounts.callers import Caller
from aipartnerupflow.executors import Reply
from tasks.models import Question
from tasks.queue import notify, suspension
from tasks.rules.exceptions import InvalidParams, StatusConflict
from tasks.services.queries import get_task
from tasks.storage.bulk import marks

MOST_SHOWN: Final = 1_000
OPEN: Final = (
    "SELECT id, run_id, task_id, text, options, expires_at, answered_at, answer, answered_by, comment, memo "
    "FROM tasks_question WHERE closed_at IS NULL AND run_id IN ({marks})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """A question as the engine sees it. `reply` is None until there is an answer."""

    id: str
    task_id: str
    text: str
    options: Sequence[str] | None
    expires_at: datetime | None
    memo: str = "null"
    """What the executor wants back with the answer, as JSON text."""
    reply: Reply | None = None

    @property
    def is_expired(self) -> bool:
        """Whether the question has expired. An answer in time counts, however late it is read."""
        return self.reply is None and self.expires_at is not None and self.expires_at <= datetime.now(UTC)


def open_questions(
    caller: Caller, *, run_ids: Collection[str] | None = None, task_id: str | None = None
) -> list[Question]:
    """Return the caller's open questions, oldest first; of all runs, of these, or of one task."""
    found = Question.objects.for_caller(caller).waiting().select_related("run")
    if run_ids is not None:
        found = found.filter(run_id__in=run_ids)
    if task_id is not None:
        found = found.filter(task_id=task_id)
    return list(found.order_by("asked_at", "id")[:MOST_SHOWN])


@transaction.atomic
def answer(*, caller: Caller, task_id: str, answer: Any, comment: str | None = None) -> Question:
    """Answer the open question of a task. The first answer counts.

    Raises TaskNotFound, StatusConflict if the task has no open question, or InvalidParams for an
    answer that is not one of its options.
    """
    task = get_task(caller=caller, task_id=task_id)
    question = Question.objects.waiting().filter(task_id=task.id, run__root_id=task.root_id).first()
    if question is None:
        raise StatusConflict(
            f"Task '{task.id}' does not wait for an answer: it is {task.status} and has no open question.",
            data={"task_id": task.id, "status": task.status},
        )
    return record_answer(question, answer=answer, by=caller.user_id, comment=comment)


@transaction.atomic
def record_answer(question: Question, *, answer: Any, by: str, comment: str | None = None) -> Question:
    """Answer this question. Raises the same exceptions as `answer`, except TaskNotFound."""
    if fault := fault_of(question, answer):
        raise InvalidParams([("answer", fault)])
    first = Question.objects.unanswered().filter(id=question.id)
    if not first.update(answer=answer, answered_by=by, comment=comment, answered_at=Now()):
        raise StatusConflict(
            f"The question of task '{question.task_id}' has already been answered or has expired.",
            data={"task_id": question.task_id},
        )
    notify.send(notify.RUNS)
    transaction.on_commit(partial(suspension.resume, [question.run_id]), robust=True)
    question.refresh_from_db()
    return question


def fault_of(question: Question, answer: Any) -> str | None:
    """Return why this cannot be the answer, as the rest of a sentence; None if it can."""
    if answer is None:
        return "must not be null"
    if question.options and answer not in question.options:
        return f"must be one of the options {', '.join(map(repr, question.options))}"
    return None


# --- for the engine ---


def open_of(run_ids: Collection[str]) -> defaultdict[str, list[OpenQuestion]]:
    """Map each run id to the questions that its tasks still need, with their replies."""
    found: defaultdict[str, list[OpenQuestion]] = defaultdict(list)
    if not run_ids:
        return found
    with connection.cursor() as cursor:
        cursor.execute(OPEN.format(marks=marks(list(run_ids))), list(run_ids))
        for row in cursor.fetchall():
            found[row[1]].append(_question_of(row))
    return found


def _question_of(row: tuple[Any, ...]) -> OpenQuestion:
    question_id, _, task_id, text, options, expires_at, answered_at, answer, by, comment, memo = row
    if expires_at is not None and expires_at.tzinfo is None:  # SQLite has no zones
        expires_at = expires_at.replace(tzinfo=UTC)
    reply = None
    if answered_at is not None:
        # Only a change outside this server makes it null in the database; such a row must not block
        # the worker from all others.
        reply = Reply(
            answer=None if answer is None else orjson.loads(answer), by=by, comment=comment, memo=orjson.loads(memo)
        )
    return OpenQuestion(
        id=question_id,
        task_id=task_id,
        text=text,
        options=orjson.loads(options) if options else None,
        expires_at=expires_at,
        memo=memo,
        reply=reply,
    )
