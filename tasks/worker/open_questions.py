"""The open questions and other waits of one run, in the memory of the worker that has the run."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from aipartnerupflow.executors import Parked
from tasks.ids import new_id
from tasks.rules.waits import Alarm, alarms_of
from tasks.services.waits.questions import OpenQuestion
from tasks.worker.outcomes import storable

SOON: Final = timedelta(seconds=2)


class OpenQuestions:
    """Calls `resume_task` with the id of a waiting task when its question is answered or expires.

    `now` returns the database's time.
    """

    def __init__(
        self, questions: Iterable[OpenQuestion], *, resume_task: Callable[[str], None], now: Callable[[], datetime]
    ) -> None:
        self._now = now
        self._questions = {question.task_id: question for question in questions}
        self._waiting: dict[str, asyncio.TimerHandle | None] = {}
        self._is_paused = False
        self._resume_task = resume_task
        self._replies: dict[str, asyncio.Future[None]] = {}

    @property
    def is_any(self) -> bool:
        """Whether a question is open."""
        return bool(self._questions)

    @property
    def is_due_soon(self) -> bool:
        """Whether a wait ends so soon that the worker needs not let go of the run."""
        until = self._now() + SOON
        return any(each.due_at is not None and each.due_at <= until for each in self._questions.values())

    def is_over(self, question: OpenQuestion) -> bool:
        """Return whether the time of the question is over."""
        return question.is_over(self._now())

    def question_of(self, task_id: str) -> OpenQuestion | None:
        """Return the task's open question, with the reply if there is one."""
        return self._questions.get(task_id)

    def ask(self, task_id: str, parked: Parked) -> OpenQuestion:
        """Register the question of a task.

        Call it before the question is visible, so that no answer is missed.
        """
        wait, seconds, now = parked.wait, parked.expires_after_seconds, self._now()
        question = self._questions[task_id] = OpenQuestion(
            id=new_id(),
            task_id=task_id,
            text=storable(parked.question),
            options=None if parked.options is None else [storable(option) for option in parked.options],
            schema=parked.schema,
            assignees=None if parked.assignees is None else [storable(name) for name in parked.assignees],
            asked_at=now,
            expires_at=wait.expires_at if seconds is None else now + timedelta(seconds=seconds),
            alarms=_alarms_of(parked, now),
            memo=parked.memo,
            kind=wait.kind,
            on_expiry=wait.on_expiry,
            event=None if wait.event is None else storable(wait.event),
            match=wait.match,
            tree=wait.tree,
            since=None if wait.retain_seconds is None else now - timedelta(seconds=wait.retain_seconds),
        )
        return question

    def wait(self, task_id: str) -> None:
        """Let the task wait until its question is answered or expires, which may be at once."""
        due_at = self._questions[task_id].due_at
        timer = None
        if due_at is not None:
            seconds = max(0.0, (due_at - self._now()).total_seconds())
            timer = asyncio.get_running_loop().call_later(seconds, self._check_again, task_id)
        self._waiting[task_id] = timer
        self._resume_if_due(task_id)

    def answer(self, question: OpenQuestion) -> None:
        """Record the reply of a question. A repeated one is ignored."""
        known = self._questions.get(question.task_id)
        if known is not None and known.id == question.id and known.reply is None:
            self._questions[question.task_id] = replace(
                known, reply=question.reply, is_listening=question.is_listening, used=question.used
            )
            if (reply := self._replies.pop(question.task_id, None)) is not None and not reply.done():
                reply.set_result(None)
            self._resume_if_due(question.task_id)

    async def replied(self, task_id: str) -> None:
        """Return when the question of a task has its reply which waits where it is."""
        if self._questions[task_id].reply is None:
            reply = self._replies[task_id] = asyncio.get_running_loop().create_future()
            await reply

    def due_alarm(self, question: OpenQuestion) -> Alarm | None:
        """Return the next alarm of the question if its time has come."""
        alarm = next(iter(question.alarms), None)
        return alarm if alarm is not None and alarm.at <= self._now() else None

    def rang(self, question: OpenQuestion, *, assignees: Sequence[str] | None) -> OpenQuestion:
        """Drop the first alarm of the question, which then has these assignees. An answer that came meanwhile stays."""
        known = self._questions[question.task_id]
        rest = self._questions[question.task_id] = replace(known, alarms=known.alarms[1:], assignees=assignees)
        return rest

    def forget(self, task_id: str) -> None:
        """Remove the question of a task that has ended."""
        self._questions.pop(task_id, None)
        self._stop_waiting(task_id)

    def pause(self) -> None:
        """Resume no task until `resume` is called."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        for task_id in list(self._waiting):
            self._resume_if_due(task_id)

    def close(self) -> None:
        """Resume no task any more."""
        for task_id in list(self._waiting):
            self._stop_waiting(task_id)

    def _check_again(self, task_id: str) -> None:
        """Check whether the question has expired, or an alarm is due.

        The loop's clock differs from the calendar, so it may not have.
        """
        self._stop_waiting(task_id)
        self.wait(task_id)

    def _resume_if_due(self, task_id: str) -> None:
        question = self._questions[task_id]
        is_due = question.reply is not None or self.is_over(question) or self.due_alarm(question) is not None
        if task_id in self._waiting and not self._is_paused and is_due:
            self._stop_waiting(task_id)
            self._resume_task(task_id)

    def _stop_waiting(self, task_id: str) -> None:
        if (timer := self._waiting.pop(task_id, None)) is not None:
            timer.cancel()


def _alarms_of(parked: Parked, now: datetime) -> list[Alarm]:
    escalation = parked.escalation
    return alarms_of(
        now,
        remind_after_seconds=parked.remind_after_seconds,
        escalate_after_seconds=None if escalation is None else escalation.after_seconds,
        to=() if escalation is None else [storable(name) for name in escalation.assignees],
    )
