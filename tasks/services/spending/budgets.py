"""The limits of what a run, and what a user in a day (UTC), may spend, and what they have spent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from django.conf import settings
from django.db.models import Sum
from django.db.models.functions import Now

from accounts.callers import ROLE_PREFIX, Role
from tasks.models import DayAllowance, DayCount, Question, Run, RunBudget, Task, Usage
from tasks.rules.budgets import (
    COST_USD,
    SECONDS,
    STOP,
    TASKS,
    TOKENS,
    Spent,
    budget_of,
    day_asked_in,
    described,
    memo_prefix,
)

DAY_MEASURES: Final = (TASKS, SECONDS)
"""The measures that workers count in `DayCount`."""
APPROVERS: Final = (f"{ROLE_PREFIX}{Role.ADMIN}",)
"""The assignees of a question to raise a limit."""
MOST_AT_ONCE: Final = 1_000
"""The number of questions that one answer answers; the others ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One limit of a budget and what was spent of it; `text` says both."""

    measure: str
    spent: float
    allowed: float

    @property
    def shown(self) -> float:
        """The end of the bar: what was spent, but not beyond the limit."""
        return min(self.spent, self.allowed)

    @property
    def nearly(self) -> float:
        """The amount from which on the bar warns."""
        return 0.8 * self.allowed

    @property
    def text(self) -> str:
        return described(self.measure, self.spent, self.allowed)


def limits_of(run: Run | None, root_params: Mapping[str, Any] | None) -> list[Limit]:
    """Return the limits of the budget with what the run has spent; of a tree that never ran, nothing is spent.

    An answer of the owner may have raised a limit.
    """
    allowed = budget_of(root_params)
    if not allowed:
        return []
    kept = RunBudget.objects.filter(run_id=run.id).first() if run else None
    state = kept.state if kept else {}
    spent = Spent.read(state)
    return [
        Limit(measure=measure, spent=spent.of(measure), allowed=limit)
        for measure, limit in (allowed | state.get("raised", {})).items()
    ]


def limits_of_tree(root_id: str) -> list[Limit]:
    """Return the limits of a tree with what its latest run has spent."""
    params = Task.objects.filter(id=root_id).values_list("params", flat=True).first()
    if not budget_of(params):
        return []
    return limits_of(Run.objects.filter(root_id=root_id).order_by("-number").first(), params)


def day_limits(user_id: str, *, but_for: str | None = None) -> list[Limit]:
    """Return the limits of each user and day, with what the user has spent today, but for a worker process `but_for`."""
    most = settings.APFLOW.limits
    settled = {
        TOKENS: most.tokens_per_user_day,
        COST_USD: most.usd_per_user_day,
        TASKS: most.tasks_per_user_day,
        SECONDS: most.seconds_per_user_day,
    }
    allowed = {measure: float(limit) for measure, limit in settled.items() if limit}
    if not allowed:
        return []
    day = datetime.now(UTC).date()
    raised = DayAllowance.objects.filter(user_id=user_id, day=day).values_list("measure", "allowed")
    allowed |= {measure: limit for measure, limit in raised if limit > allowed.get(measure, limit)}
    sums: dict[str, float | None] = {}
    if TOKENS in allowed or COST_USD in allowed:
        of_day = Usage.objects.filter(user_id=user_id, day=day)
        sums |= of_day.aggregate(tokens=Sum("total_tokens"), cost_nanos=Sum("cost_nanos"))
    if TASKS in allowed or SECONDS in allowed:
        counts = DayCount.objects.filter(user_id=user_id, day=day)
        counts = counts if but_for is None else counts.exclude(process=but_for)
        sums |= counts.aggregate(tasks=Sum("tasks"), seconds=Sum("seconds"))
    spent = Spent(
        tokens=int(sums.get("tokens") or 0),
        cost_nanos=int(sums.get("cost_nanos") or 0),
        tasks=int(sums.get("tasks") or 0),
        seconds=float(sums.get("seconds") or 0.0),
    )
    return [Limit(measure=measure, spent=spent.of(measure), allowed=limit) for measure, limit in allowed.items()]


def take_answer(question: Question) -> list[str]:
    """Take the answer to a question about the limit of a day, in its transaction: it is also that of other runs of the user.

    Returns the runs that may continue, but for that of the question.
    """
    about = day_asked_in(orjson.loads(question.memo))
    if about is None:
        return []
    measure, day = about
    user_id = Run.objects.values_list("user_id", flat=True).get(id=question.run_id)
    if question.answer != STOP:
        DayAllowance.objects.update_or_create(
            user_id=user_id, day=day, measure=measure, defaults={"allowed": float(question.answer)}
        )
    same = Question.objects.for_people().unanswered().in_open_runs().filter(run__user_id=user_id)
    same = same.filter(memo__startswith=memo_prefix(measure, day=day)).exclude(id=question.id)
    found = dict(same.values_list("id", "run_id")[:MOST_AT_ONCE])
    Question.objects.unanswered().filter(id__in=found).update(
        answer=question.answer, answered_by=question.answered_by, comment=question.comment, answered_at=Now()
    )
    return sorted(set(found.values()))
