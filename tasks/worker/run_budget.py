"""The budget of a run in the worker that has it: counts what is used, and refuses what no longer fits.

This is the one place that decides: tasks ask before they start, and model calls before they are made.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.llm.client import MODELS, Models
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.queue.leases import Claim
from tasks.rules.budgets import Spent, budget_of, refusal, used_up
from tasks.rules.token_usage import spending_of

NO_STATE: Final = "{}"


class RunBudget:
    """The budget of one run. Without limits nothing is counted, and nothing is refused."""

    def __init__(self, claim: Claim, root_params: Mapping[str, Any]) -> None:
        """Continue with what the run had used when another worker had it."""
        self._limits = {} if claim.is_demo else budget_of(root_params)
        self._spent = Spent.read(orjson.loads(claim.budget or NO_STATE))
        self._seconds_before = self._spent.seconds
        self._began = time.monotonic()

    @property
    def is_limited(self) -> bool:
        return bool(self._limits)

    def refusal(self) -> str | None:
        """Return why nothing more may start; None if it may."""
        spent = self._now()
        measure = used_up(self._limits, spent)
        return None if measure is None else refusal(measure, self._limits, spent)

    def begin_task(self) -> None:
        """Count a task that starts for the first time."""
        self._spent = replace(self._spent, tasks=self._spent.tasks + 1)

    def spend(self, usage: Json) -> None:
        """Count what a model call used."""
        self._spent = self._spent.with_call(spending_of(usage))

    def state(self) -> str:
        """Return what is to be stored, as JSON."""
        return orjson.dumps(self._now().stored()).decode()

    def watch_models(self) -> None:
        """Ask before each model call of the task whose job calls this, wherever it runs."""
        models = MODELS.get()
        if self.is_limited and not (isinstance(models, _WithinBudget) and models.budget is self):
            MODELS.set(_WithinBudget(models, self))

    def _now(self) -> Spent:
        return replace(self._spent, seconds=round(self._seconds_before + time.monotonic() - self._began, 3))


class _WithinBudget:
    """Models that are called only as long as something is left of the budget."""

    def __init__(self, models: Models, budget: RunBudget) -> None:
        self.budget = budget
        self._models = models

    async def ask(self, prompt: Prompt, *, spent: Callable[[Json], None], heard: Callable[[str], None]) -> Completion:
        if (why := self.budget.refusal()) is not None:
            raise ExecutorError(why, permanent=True)
        return await self._models.ask(prompt, spent=spent, heard=heard)

    async def check(self, prompt: Prompt) -> None:
        await self._models.check(prompt)
