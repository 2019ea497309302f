"""The tasks of one run that wait for answers, as the worker that has the run knows them."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aipartnerupflow.executors import Parked
from tasks.ids import new_id
from tasks.services.questions import OpenQuestion
from tasks.worker.outcomes import storable


class OpenQuestions:
    """`go_on` is called with the id of a task that rests, once its question is answered or has expired."""

    def __init__(self, asked: Iterable[OpenQuestion], *, go_on: Callable[[str], None]) -> None:
        self._asked = {each.task_id: each for each in asked}
        self._resting: dict[str, asyncio.TimerHandle | None] = {}
        self._is_paused = False
        self._go_on = go_on

    @property
    def is_any(self) -> bool:
        """Whether an answer may come."""
        return bool(self._asked)

    def question_of(self, task_id: str) -> OpenQuestion | None:
        """What the task asked last, and the reply if there is one."""
        return self._asked.get(task_id)

    def ask(self, task_id: str, parked: Parked) -> OpenQuestion:
        """Note what the task asks. From now on an answer is heard, so do it before anybody can know of the question."""
        seconds = parked.expires_after_seconds
        asked = self._asked[task_id] = OpenQuestion(
            id=new_id(),
            task_id=task_id,
            text=storable(parked.question),
            options=None if parked.options is None else [storable(option) for option in parked.options],
            expires_at=None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds),
            memo=parked.memo,
        )
        return asked

    def rest(self, task_id: str) -> None:
        """The task does nothing until it may go on, which may be at once."""
        expires_at = self._asked[task_id].expires_at
        timer = None
        if expires_at is not None:
            seconds = max(0.0, (expires_at - datetime.now(UTC)).total_seconds())
            timer = asyncio.get_running_loop().call_later(seconds, self._look_again, task_id)
        self._resting[task_id] = timer
        self._stir(task_id)

    def hear(self, asked: OpenQuestion) -> None:
        """There is an answer. Hearing it twice is hearing it once."""
        known = self._asked.get(asked.task_id)
        if known is not None and known.id == asked.id and known.reply is None:
            self._asked[asked.task_id] = replace(known, reply=asked.reply)
            self._stir(asked.task_id)

    def forget(self, task_id: str) -> None:
        """The task has ended."""
        self._asked.pop(task_id, None)
        self._wake(task_id)

    def pause(self) -> None:
        """Nobody goes on until `resume`."""
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        for task_id in list(self._resting):
            self._stir(task_id)

    def close(self) -> None:
        """Nobody goes on any more."""
        for task_id in list(self._resting):
            self._wake(task_id)

    def _look_again(self, task_id: str) -> None:
        """The loop's clock is not the calendar: what is not over yet rests on."""
        self._wake(task_id)
        self.rest(task_id)

    def _stir(self, task_id: str) -> None:
        asked = self._asked[task_id]
        if task_id in self._resting and not self._is_paused and (asked.reply is not None or asked.is_expired):
            self._wake(task_id)
            self._go_on(task_id)

    def _wake(self, task_id: str) -> None:
        if (timer := self._resting.pop(task_id, None)) is not None:
            timer.cancel()
