"""The budget of a run in the worker that has it: counts what is used, and refuses what no longer fits.

This is the one place that decides: tasks ask before they start, and model calls before they are made. With
`on_exceeded: "ask"` the first task that no longer fits asks the owner, and the others wait for that answer.

A run whose tree a task of another run has started has what was left of that one's budget as a second limit (`rest`). Its
use is counted there when it is over, in the commit that closes the wait for it: so once.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from aipartnerupflow.executors import ExecutorError, Json, Parked
from tasks.executors.llm.client import Models, ignore
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.queue.leases import Claim, process_name
from tasks.rules.budgets import (
    STOP,
    TASKS,
    Spent,
    asked_in,
    asks,
    budget_of,
    day_asked_in,
    memo_of,
    question,
    read_answer,
    refusal,
    rest_used_up,
    stopped,
    used_up,
)
from tasks.rules.token_usage import spending_of
from tasks.services.waits.questions import OpenQuestion
from tasks.status import WaitKind
from tasks.worker.day_budget import DayBudget, DayCounts

NO_STATE: Final = "{}"


class HeldBack(Exception):
    """The task cannot continue yet: its own wait is not over, or the owner has not answered the question of another task about the budget."""


class RunBudget:
    """The budget of one run. Without limits nothing is counted, and nothing is refused.

    `on_settled` is called when the question about it is answered, or no longer asked.
    """

    def __init__(
        self,
        claim: Claim,
        root_params: Mapping[str, Any],
        *,
        user_id: str = "",
        day_counts: DayCounts | None = None,
        questions: Iterable[OpenQuestion] = (),
        on_settled: Callable[[], object] = lambda: None,
    ) -> None:
        """Continue with what the run had used when another worker had it."""
        state = orjson.loads(claim.budget or NO_STATE)
        self._limits = {} if claim.is_demo else budget_of(root_params)
        self._raised: dict[str, float] = state.get("raised", {})
        self._rest: dict[str, float] = {} if claim.is_demo else state.get("rest", {})
        self._is_stopped: bool = state.get("is_stopped", False)
        self._asks = asks(root_params)
        self._asking = next((each.task_id for each in questions if self.is_about(each)), None)
        self._halted: dict[str, bool] = {}
        """The tasks of which a call was refused, and whether the limit of tasks counts for their next attempt."""
        self._inner: dict[str, Spent] = {}
        """The use of the trees for which tasks have waited, until the waits are closed."""
        counts = day_counts or DayCounts(process_name())
        self.day = DayBudget(claim, user_id=user_id, counts=counts, stopped_on=state.get("stopped_on"))
        self._on_settled = on_settled
        self._spent = Spent.read(state)
        self._seconds_before = self._spent.seconds
        self._began = time.monotonic()

    @property
    def is_limited(self) -> bool:
        return bool(self._limits or self._rest)

    @property
    def is_asking(self) -> bool:
        """Whether a question about it is open."""
        return self._asking is not None

    def is_about(self, question: OpenQuestion) -> bool:
        """Return whether the question is about this budget or the limits of the day, and not the executor's own."""
        if question.kind != WaitKind.QUESTION:
            return False
        memo = orjson.loads(question.memo)
        return day_asked_in(memo) is not None or (self.is_limited and asked_in(memo) is not None)

    def refusal(self, *, is_new_task: bool = False) -> str | None:
        """Return why nothing more may start; None if it may. The limit of tasks refuses new tasks alone: one that has
        started may still call models, and try again.
        """
        used = self._used_up(self._rest, is_new_task=is_new_task)
        if used is not None:
            return rest_used_up(*used)
        used = self._used_up(self._limits | self._raised, is_new_task=is_new_task)
        if used is None:
            return None
        measure, limits, spent = used
        return (
            stopped(measure, spent.of(measure), limits[measure])
            if self._is_stopped
            else refusal(measure, limits, spent)
        )

    async def refusal_of_day(self, *, is_new_task: bool = False) -> str | None:
        """Return why the owner may start nothing more today; None if they may."""
        limit = await self.day.used_up(is_new_task=is_new_task)
        return None if limit is None else self.day.refusal(limit)

    async def check(self, task_id: str, *, is_new_task: bool) -> str | None:
        """Return why the task, or its next attempt, may not start; None if it may.

        If the owner is to decide, raises Parked with the question or, while it is open, HeldBack.
        """
        is_new_task = self._halted.pop(task_id, False) or is_new_task
        if (limit := await self.day.used_up(is_new_task=is_new_task)) is not None:
            if self.day.may_ask:
                self._begin_to_ask(task_id)
                raise self.day.question(limit)
            return self.day.refusal(limit)
        why = self.refusal(is_new_task=is_new_task)
        if why is not None:
            self._ask(task_id, is_new_task=is_new_task)
        return why

    def check_again(self, task_id: str) -> bool:
        """Return whether a call of the task was refused, and people are to decide."""
        return task_id in self._halted and ((self._asks and not self._is_stopped) or self.day.may_ask)

    def _ask(self, task_id: str, *, is_new_task: bool) -> None:
        used = self._used_up(self._limits | self._raised, is_new_task=is_new_task)
        if used is None or not self._asks or self._is_stopped or self._used_up(self._rest, is_new_task=is_new_task):
            return
        self._begin_to_ask(task_id)
        measure, limits, spent = used
        amount = spent.of(measure)
        raise Parked(question(measure, amount, limits[measure]), memo=memo_of(measure, amount))

    def _begin_to_ask(self, task_id: str) -> None:
        """Raise HeldBack if another task asks."""
        if self._asking not in (None, task_id):
            raise HeldBack
        self._asking = task_id

    def settle(self, asked: OpenQuestion) -> None:
        """Take the answer to the question."""
        memo = orjson.loads(asked.memo)
        if day_asked_in(memo) is not None:
            self._settle_day(asked)
            return
        about = asked_in(memo)
        if about is not None and asked.reply is not None:
            try:
                limit = read_answer(*about, asked.reply.answer)
            except ValueError:  # the row was changed outside this server
                limit = None
            self._is_stopped = limit is None
            if limit is not None:
                self._raised[about[0]] = limit

    def _settle_day(self, asked: OpenQuestion) -> None:
        """Apply the answer, with which the new limit is stored. Without an answer, another day has begun."""
        self.day.forget()
        if asked.reply is not None and asked.reply.answer == STOP:
            self.day.stop()

    def release(self) -> None:
        """Let the tasks continue that wait for an answer to the question, which is no longer open."""
        self._asking = None
        self._on_settled()

    def _used_up(
        self, limits: Mapping[str, float], *, is_new_task: bool
    ) -> tuple[str, Mapping[str, float], Spent] | None:
        spent = self._now()
        for each in self._inner.values():
            spent = spent.plus(each)
        measure = used_up({name: most for name, most in limits.items() if is_new_task or name != TASKS}, spent)
        return None if measure is None else (measure, limits, spent)

    def begin_task(self) -> None:
        """Count a task that starts for the first time."""
        self._spent = replace(self._spent, tasks=self._spent.tasks + 1)
        self.day.begin_task()

    def spend(self, usage: Json) -> None:
        """Count what a model call used."""
        self._spent = self._spent.with_call(spending_of(usage))
        self.day.forget()  # what the owner has spent today has changed too

    def left(self) -> dict[str, float]:
        """Return what is left by measure, for the run of a tree that a task starts."""
        spent = self._now()
        own = {measure: limit - spent.of(measure) for measure, limit in (self._limits | self._raised).items()}
        rest = {measure: limit - spent.of(measure) for measure, limit in self._rest.items()}
        return {measure: min(amounts.get(measure, math.inf) for amounts in (own, rest)) for measure in own | rest}

    def begin_to_count(self, task_id: str, used: Json, *, has_failed: bool) -> None:
        """Count what the tree has used for which the task has waited. If it failed for want of the rest, people may decide."""
        spent = Spent.read(used)
        self._inner[task_id] = spent
        if has_failed and used_up(used.get("rest", {}), spent):
            self._halted[task_id] = True

    def closed(self, task_id: str) -> str | None:
        """Return the state that is to be stored with the end of the task's wait; None if that changes nothing."""
        if (inner := self._inner.pop(task_id, None)) is None:
            return None
        self._spent = self._spent.plus(inner)
        return self.state()

    def state(self) -> str:
        """Return what is to be stored, as JSON."""
        decided: Json = {"raised": self._raised, "is_stopped": self._is_stopped} if self._asks else {}
        if self._rest:
            decided["rest"] = self._rest
        if self.day.stopped_on is not None:
            decided["stopped_on"] = self.day.stopped_on
        return orjson.dumps(self._now().stored() | decided).decode()

    def halt(self, task_id: str) -> None:
        """Note that a call of the task was refused."""
        self._halted[task_id] = False

    def limited(self, models: Models, task_id: str) -> Models:
        """Return the models, which a call of the task reaches only as long as something is left."""
        return _WithinBudget(models, self, task_id) if self.is_limited or self.day.is_limited else models

    def _now(self) -> Spent:
        return replace(self._spent, seconds=round(self._seconds_before + time.monotonic() - self._began, 3))


class _WithinBudget:
    """Models that are called only as long as something is left of the budget."""

    def __init__(self, models: Models, budget: RunBudget, task_id: str) -> None:
        self._models = models
        self._budget = budget
        self._task_id = task_id

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        if (why := await self._budget.refusal_of_day()) is not None:
            self._budget.halt(self._task_id)
            raise ExecutorError(why, permanent=True)
        if (why := self._budget.refusal()) is not None:
            self._budget.halt(self._task_id)
            raise ExecutorError(why, permanent=True)
        return await self._models.ask(prompt, spent=spent, heard=heard, thought=thought)

    async def check(self, prompt: Prompt) -> None:
        await self._models.check(prompt)
