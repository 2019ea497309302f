"""The amounts of its budget that a run has spent, for display."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.models import Run, RunBudget, Task
from tasks.rules.budgets import Spent, budget_of, described


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
