"""The limits of one user for a day, all runs together, as a run of that user in this worker sees it.

Tokens and their cost are counted where model calls are recorded (`tasks.storage.usage`); tasks and seconds are counted
here, and each worker process stores its sums. The sums of other processes are read once a second.
"""

import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings

from aipartnerupflow.executors import Parked
from aipartnerupflow.executors.base import Wait
from apflow_site.db import pools
from tasks.queue.leases import Claim
from tasks.rules.budgets import TASKS, day_is_over, day_question, day_was_stopped, memo_of_day
from tasks.services.spending.budgets import APPROVERS, DAY_MEASURES, Limit, day_limits

FRESH_SECONDS: Final = 1.0
COUNTED_HERE: Final = frozenset(DAY_MEASURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUse:
    """The use of the runs of a user on a day (UTC) in one worker process."""

    user_id: str
    day: str
    process: str
    tasks: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class DayCounts:
    """The sums of this worker process, of the current day."""

    process: str
    _sums: dict[tuple[str, str], DayUse] = field(default_factory=dict)

    def of(self, user_id: str, day: str) -> DayUse:
        found = self._sums.get((user_id, day))
        return found or DayUse(user_id=user_id, day=day, process=self.process)

    def add(self, user_id: str, day: str, *, tasks: int, seconds: float) -> DayUse:
        """Return the sums with these."""
        if (user_id, day) not in self._sums:
            self._sums = {key: use for key, use in self._sums.items() if key[1] == day}
        before = self.of(user_id, day)
        use = replace(before, tasks=before.tasks + tasks, seconds=before.seconds + seconds)
        self._sums[user_id, day] = use
        return use


class DayBudget:
    """The limits of the day for the owner of a run. Without limits nothing is counted, and nothing is refused.

    `stopped_on`: the day on which an administrator has refused to raise a limit for this run.
    """

    def __init__(self, claim: Claim, *, user_id: str, counts: DayCounts, stopped_on: str | None) -> None:
        most = settings.APFLOW.limits
        self._claim = claim
        self._user_id = user_id
        self._counts = counts
        self.stopped_on = stopped_on
        counted = most.tasks_per_user_day or most.seconds_per_user_day
        self._is_counted = not claim.is_demo and bool(counted)
        self.is_limited = self._is_counted or (
            not claim.is_demo and bool(most.tokens_per_user_day or most.usd_per_user_day)
        )
        self._asks = most.user_day_exceeded == "ask"
        self._limits: list[Limit] = []
        self._read_at: float | None = None
        self._new_tasks = 0
        self._ticked_at = time.monotonic()

    @property
    def may_ask(self) -> bool:
        """Whether an administrator is asked when a limit is used up."""
        return self._asks and self.stopped_on != self._today()

    def begin_task(self) -> None:
        """Count a task that starts for the first time."""
        self._new_tasks += 1

    def tick(self) -> DayUse | None:
        """Add what has been used since the last call to the sums, and return them to be stored; None if nothing is counted."""
        if not self._is_counted:
            return None
        tasks, self._new_tasks = self._new_tasks, 0
        before, self._ticked_at = self._ticked_at, time.monotonic()
        return self._counts.add(self._user_id, self._today(), tasks=tasks, seconds=self._ticked_at - before)

    def forget(self) -> None:
        """Read what was spent, and what is allowed, again."""
        self._read_at = None

    async def used_up(self, *, is_new_task: bool) -> Limit | None:
        """Return the limit of which nothing is left; None if something is left of each.

        The limit of tasks refuses new tasks alone.
        """
        if not self.is_limited:
            return None
        if self._read_at is None or time.monotonic() - self._read_at > FRESH_SECONDS:
            but_for = self._counts.process
            self._limits = await pools.read(day_limits, self._user_id, but_for=but_for)
            self._read_at = time.monotonic()
        limits = (self._with_own(limit) for limit in self._limits if is_new_task or limit.measure != TASKS)
        return next((limit for limit in limits if limit.spent >= limit.allowed), None)

    def refusal(self, limit: Limit) -> str:
        """Return the error of a task that no longer fits."""
        of_limit = (limit.measure, limit.spent, limit.allowed)
        if self._asks and not self.may_ask:
            return day_was_stopped(self._user_id, *of_limit)
        return day_is_over(self._user_id, *of_limit)

    def question(self, limit: Limit) -> Parked:
        """Ask the administrators, until the next day begins: then the task continues without an answer."""
        text = day_question(self._user_id, limit.measure, limit.spent, limit.allowed)
        now = self._claim.now()
        parked = Parked(
            text,
            assignees=APPROVERS,
            memo=memo_of_day(limit.measure, limit.spent, day=self._today()),
            expires_after_seconds=(_next_day(now) - now).total_seconds(),
        )
        parked.wait = Wait(on_expiry="resume")
        return parked

    def stop(self) -> None:
        """Take the decision of an administrator not to raise the limit."""
        self.stopped_on = self._today()

    def _with_own(self, limit: Limit) -> Limit:
        if limit.measure not in COUNTED_HERE:
            return limit
        use = self._counts.of(self._user_id, self._today())
        own = use.tasks + self._new_tasks if limit.measure == TASKS else self._seconds_of(use)
        return replace(limit, spent=limit.spent + own)

    def _seconds_of(self, use: DayUse) -> float:
        return use.seconds + time.monotonic() - self._ticked_at

    def _today(self) -> str:
        return self._claim.now().date().isoformat()


def _next_day(now: datetime) -> datetime:
    return (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
