"""Questions of tasks: who may answer them, and how an answer reaches the task.

The worker does not wait for the answer: it suspends the run as soon as nothing else in it can
continue (`tasks.queue.suspension`). An answer is a row, like a cancellation. The worker of the run
finds it there; a suspended run is queued again.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from orjson import loads

from accounts.callers import Caller
from aipartnerupflow.executors import Reply
from apflow_site.db.connections import plan_by_values
from tasks.models import Assignee, Question, QuestionQuerySet
from tasks.queue import notify, suspension
from tasks.rules.budgets import STOP, asked_in, read_answer
from tasks.rules.exceptions import InvalidParams, RoleTooLow, StatusConflict
from tasks.rules.forms import filled_form
from tasks.rules.strict_json import Json, MalformedJson, decode
from tasks.rules.waits import Alarm, from_json
from tasks.services.files.references import refuse_foreign
from tasks.services.spending import budgets
from tasks.services.trees.queries import get_task
from tasks.status import OnExpiry, WaitKind
from tasks.storage.bulk import marks

MOST_SHOWN: Final = 1_000
OPEN: Final = (
    "SELECT q.id, q.run_id, q.task_id, q.text, q.options, q.schema, q.assignees, q.alarms, q.asked_at, q.expires_at, q.answered_at, q.answer, "
    "q.answered_by, q.comment, q.memo, q.kind, q.on_expiry, q.digest, q.turn, q.event AS awaited, e.event, e.payload, e.event_id, e.received_at, "
    "r.id AS child_id, r.root_id AS child_root_id, r.status AS child_status, r.failures, t.result, t.error, b.state AS used "
    "FROM tasks_question q LEFT JOIN tasks_sentevent e ON e.id = q.taken_id "
    "LEFT JOIN tasks_run r ON r.wait_id = q.id LEFT JOIN tasks_task t ON t.id = r.target_id LEFT JOIN tasks_runbudget b ON b.run_id = r.id "
    "WHERE q.closed_at IS NULL AND {which}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """A question, or another wait, as the engine sees it. `reply` is None until something ends it."""

    id: str
    task_id: str
    text: str
    options: Sequence[str] | None
    asked_at: datetime
    expires_at: datetime | None
    schema: Json | None = None
    assignees: Sequence[str] | None = None
    alarms: Sequence[Alarm] = ()
    memo: str = "null"
    """The text in JSON that the executor gets back with the answer."""
    reply: Reply | None = None
    kind: str = WaitKind.QUESTION
    on_expiry: str = OnExpiry.FAIL
    event: str | None = None
    match: Json | None = None
    since: datetime | None = None
    is_listening: bool = False
    """Whether the wait has looked for events before it and is open to new ones, its tree has been started, or it has its turn."""
    tree: Json | None = None
    """The tree that is to run."""
    used: Json | None = None
    """The state of the budget of the run that it waits for, if that is counted."""

    def is_over(self, now: datetime) -> bool:
        """Return whether its time is over. An answer or event in time counts, however late it is read."""
        if self.reply is not None:
            return self.kind == WaitKind.EVENT and self.reply.answer is None
        return self.expires_at is not None and self.expires_at <= now

    @property
    def due_at(self) -> datetime | None:
        """The time when the engine must look at it: its end, or its next alarm."""
        alarm_at = self.alarms[0].at if self.alarms and self.reply is None else None
        return min((at for at in (self.expires_at, alarm_at) if at is not None), default=None)

    @property
    def reply_in_time(self) -> Reply | None:
        """The reply for the executor or, after a wait for a time, the length of the wait."""
        if self.kind != WaitKind.TIME or self.expires_at is None:
            return self.reply
        seconds = (self.expires_at - self.asked_at).total_seconds()
        answer = {"waited_until": self.expires_at.isoformat(), "seconds": max(0.0, round(seconds, 3))}
        return Reply(answer=answer, by="", memo=loads(self.memo))

    @property
    def why_failed(self) -> str:
        """The error of the task when the time is over."""
        if self.kind == WaitKind.QUESTION:
            return f"Not answered in time: {self.text}"
        return f"Timed out while waiting {self.text}."


def answers_in(root_id: str, *, task_id: str | None = None, limit: int = 20) -> list[Question]:
    """Return the latest answers to questions of a tree, or of one of its tasks, in all its runs; the newest first.

    The caller has to check who may see the tree.
    """
    found = Question.objects.for_people().filter(run__root_id=root_id, answered_at__isnull=False)
    if task_id is not None:
        found = found.filter(task_id=task_id)
    return list(found.select_related("run").order_by("-answered_at", "-id")[:limit])


def open_questions(
    caller: Caller, *, run_ids: Collection[str] | None = None, task_id: str | None = None, limit: int = MOST_SHOWN
) -> list[Question]:
    """Return the caller's open questions, oldest first; of all runs, of these, or of one task."""
    found = Question.objects.for_caller(caller).waiting().select_related("run")
    if run_ids is not None:
        found = found.filter(run_id__in=run_ids)
    if task_id is not None:
        found = found.filter(task_id=task_id)
    return list(found.order_by("asked_at", "id")[:limit])


@transaction.atomic
def inbox_of(caller: Caller, *, limit: int = MOST_SHOWN) -> list[Question]:
    """Return the open questions of the caller's own runs, and those that the caller may answer as an assignee, oldest first.

    If they are too many, the caller's own come first: others can assign any number of them.
    """
    plan_by_values()
    own = open_questions(caller, limit=limit)
    if caller.sees_all:
        return own
    assigned = _assigned_by_others(caller).select_related("run").order_by("asked_at", "id")
    return sorted([*own, *assigned[: limit - len(own)]], key=lambda question: (question.asked_at, question.id))


def count_inbox(caller: Caller, *, limit: int) -> int:
    """Return how many questions `inbox_of` would have, up to the limit."""
    own = Question.objects.for_caller(caller).waiting().order_by("asked_at", "id")[:limit].count()
    return own if caller.sees_all else min(limit, own + _assigned_by_others(caller)[:limit].count())


def _assigned_by_others(caller: Caller) -> QuestionQuerySet:
    return Question.objects.assigned_to(caller).waiting().exclude(run__user_id=caller.user_id)


@transaction.atomic
def answer(*, caller: Caller, task_id: str, answer: Any, comment: str | None = None) -> Question:
    """Answer the open question of a task. The first answer counts.

    Raises the exceptions of `open_question_of`, or InvalidParams for an answer that is not one of its
    options or does not fit its form.
    """
    question = open_question_of(caller=caller, task_id=task_id)
    return record_answer(question, answer=answer, by=caller.user_id, comment=comment)


def open_question_of(*, caller: Caller, task_id: str) -> Question:
    """Return the open question of a task that the caller may answer.

    Raises TaskNotFound, StatusConflict if it has none, or RoleTooLow if only others may answer it. A task
    of another owner is not found without a question to the caller.
    """
    assigned = Question.objects.assigned_to(caller).waiting().filter(task_id=task_id).select_related("run").first()
    if assigned is not None:
        return assigned
    task = get_task(caller=caller, task_id=task_id)
    question = (
        Question.objects.waiting().filter(task_id=task.id, run__root_id=task.root_id).select_related("run").first()
    )
    if question is None:
        raise StatusConflict(
            f"Task '{task.id}' does not wait for an answer: it is {task.status} and has no open question.",
            data={"task_id": task.id, "status": task.status},
        )
    check_may_answer(caller, question)
    return question


def check_may_answer(caller: Caller, question: Question) -> None:
    """Raise RoleTooLow if only others may answer the question."""
    if not question.may_be_answered_by(caller):
        raise RoleTooLow(f"Only its assignees may answer this question: {', '.join(question.assignees or ())}.")


@transaction.atomic
def record_answer(question: Question, *, answer: Any, by: str, comment: str | None = None) -> Question:
    """Answer this question, which the caller has been allowed to do. Raises InvalidParams or StatusConflict."""
    answer = checked_answer(question, answer)
    first = Question.objects.for_people().unanswered().filter(id=question.id)
    if not first.update(answer=answer, answered_by=by, comment=comment, answered_at=Now()):
        raise StatusConflict(
            f"The question of task '{question.task_id}' has already been answered or has expired.",
            data={"task_id": question.task_id},
        )
    Assignee.objects.filter(question_id=question.id).delete()
    notify.send(notify.RUNS)
    question.refresh_from_db()
    also = budgets.take_answer(question)
    transaction.on_commit(partial(suspension.resume, [question.run_id, *also]), robust=True)
    return question


def checked_answer(question: Question, answer: Any) -> Any:
    """Return the answer as it is recorded: that of a form with its defaults. A text with the JSON of a form is as good.

    Raises InvalidParams.
    """
    if answer is None:
        raise InvalidParams([("answer", "must not be null")])
    if (about := asked_in(loads(question.memo))) is not None:
        try:
            limit = read_answer(*about, answer)
        except ValueError as error:
            raise InvalidParams([("answer", str(error))]) from None
        return STOP if limit is None else limit
    if question.options and answer not in question.options:
        raise InvalidParams([("answer", f"must be one of the options {', '.join(map(repr, question.options))}")])
    if question.schema is None:
        return answer
    if isinstance(answer, str):
        with suppress(MalformedJson):
            answer = decode(answer.encode(), nesting=settings.APFLOW.limits.nesting)
    filled, problems = filled_form(question.schema, answer)
    if problems:
        raise InvalidParams(problems)
    refuse_foreign(question.schema, filled, owner=question.run.user_id, place="answer")
    return filled


# --- for the engine ---


def open_of(run_ids: Collection[str]) -> defaultdict[str, list[OpenQuestion]]:
    """Map each run id to the questions and waits of its tasks, with their replies."""
    found: defaultdict[str, list[OpenQuestion]] = defaultdict(list)
    for run_id, question in _read(f"q.run_id IN ({marks(list(run_ids))})", *run_ids) if run_ids else ():
        found[run_id].append(question)
    return found


def open_question(question_id: str) -> OpenQuestion | None:
    """Return a question or wait with its reply. None: the task no longer waits for it."""
    return questions_by_id([question_id]).get(question_id)


def questions_by_id(question_ids: Sequence[str]) -> dict[str, OpenQuestion]:
    """Return questions and waits with their replies, without those that no task waits for any longer."""
    found = _read(f"q.id IN ({marks(question_ids)})", *question_ids) if question_ids else ()
    return {question.id: question for _, question in found}


def _read(which: str, *parameters: str) -> list[tuple[str, OpenQuestion]]:
    with connection.cursor() as cursor:
        cursor.execute(OPEN.format(which=which), parameters)
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [(row["run_id"], _question_of(row)) for row in rows]


def _question_of(row: Json) -> OpenQuestion:
    return OpenQuestion(
        id=row["id"],
        task_id=row["task_id"],
        text=row["text"],
        options=None if row["options"] is None else loads(row["options"]),
        schema=None if row["schema"] is None else loads(row["schema"]),
        assignees=None if row["assignees"] is None else loads(row["assignees"]),
        alarms=() if row["alarms"] is None else from_json(loads(row["alarms"])),
        asked_at=_utc(row["asked_at"]),
        expires_at=None if row["expires_at"] is None else _utc(row["expires_at"]),
        memo=row["memo"],
        reply=None if row["answered_at"] is None else _reply_in(row),
        kind=row["kind"],
        on_expiry=row["on_expiry"],
        event=row["awaited"],
        used=None if row["used"] is None else loads(row["used"]),
        is_listening=any(row[name] is not None for name in ("digest", "child_id", "turn")),
    )


def _reply_in(row: Json) -> Reply:
    """Only a change outside this server makes the answer null in the database; such a row must not block the worker
    from all others.
    """
    if row["kind"] == WaitKind.EVENT:
        return Reply(answer=_event_in(row), by="", memo=loads(row["memo"]))
    if row["child_id"] is not None:
        return Reply(answer=_end_in(row), by="", memo=loads(row["memo"]))
    if row["kind"] in (WaitKind.LIMIT, WaitKind.CALL):
        return Reply(answer=None, by="", memo=loads(row["memo"]))
    answer = None if row["answer"] is None else loads(row["answer"])
    return Reply(answer=answer, by=row["answered_by"], comment=row["comment"], memo=loads(row["memo"]))


def _event_in(row: Json) -> Json | None:
    """Return the event that the wait took. None: its time was over first."""
    if row["event_id"] is None:
        return None
    return {
        "event": row["event"],
        "payload": None if row["payload"] is None else loads(row["payload"]),
        "id": row["event_id"],
        "received_at": _utc(row["received_at"]).isoformat(),
    }


def _end_in(row: Json) -> Json:
    """Return the end of the tree for which the task waited. If its root has no error, it is that of the first task that failed."""
    failures = loads(row["failures"] or "[]")
    return {
        "status": row["child_status"],
        "result": None if row["result"] is None else loads(row["result"]),
        "error": row["error"] or (f"{failures[0]['name']}: {failures[0]['error']}" if failures else None),
        "task_id": row["child_root_id"],
        "run_id": row["child_id"],
    }


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # SQLite has no zones
