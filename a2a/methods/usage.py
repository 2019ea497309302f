"""The method that returns what model calls used."""

from dataclasses import asdict
from datetime import date
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from a2a.core.parsing import Params, Problem, Text
from a2a.methods.method import VIEWER, Response, Rest, method
from a2a.methods.responses import BudgetLimit
from a2a.methods.results import DataResult
from accounts.callers import Caller
from tasks.services.spending import usage

Day = Annotated[str, Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", extra_json_schema={"format": "date"})]
Group = Literal["day", "model", "executor", "flow", "user"]


class GetUsage(Params, frozen=True, kw_only=True):
    """usage.get"""

    since: Day | None = None
    """The first day, in UTC; by default 29 days before the last one."""
    until: Day | None = None
    """The last day; by default today."""
    by: list[Group] | Group = "day"
    """The groups that each row sums up; an empty list for only the total."""
    model: Text | None = None
    executor: Text | None = None
    flow: Text | None = None
    user_id: Text | None = None

    @property
    def groups(self) -> list[str]:
        return [self.by] if isinstance(self.by, str) else list(dict.fromkeys(self.by))

    @property
    def first(self) -> date | None:
        return None if self.since is None else date.fromisoformat(self.since)

    @property
    def last(self) -> date | None:
        return None if self.until is None else date.fromisoformat(self.until)

    def contradictions(self) -> list[Problem]:
        problems = [*super().contradictions(), *_no_day("since", self.since), *_no_day("until", self.until)]
        if not problems and self.first and self.last and self.first > self.last:
            problems.append(("since", "must not be after 'until'"))
        return problems


def _no_day(name: str, text: str | None) -> list[Problem]:
    try:
        date.fromisoformat(text or "2000-01-01")
    except ValueError:
        return [(name, f"'{text}' is no day of the calendar")]
    return []


class UsageRow(Response, frozen=True, kw_only=True):
    """Sums of model calls. Only the fields by which they are grouped are there; `model` is null if it is not known, `flow` for runs of no flow.

    `cost_usd` leaves out `unpriced_calls`, whose cost is unknown; null if that is all of them.
    """

    day: str | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    executor: str | UnsetType = UNSET
    flow: str | UnsetType | None = UNSET
    user: str | UnsetType = UNSET
    calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: float | None
    unpriced_calls: int


class Usage(Response, frozen=True, kw_only=True):
    """The usage of model calls from `since` to `until`, both included, in UTC.

    `today` has the limits that the operator has set for each user and day.
    """

    since: str
    until: str
    by: list[Literal["day", "model", "executor", "flow", "user"]]
    rows: list[UsageRow]
    total: UsageRow
    today: list[BudgetLimit]


@method("usage.get", role=VIEWER, answer=Usage, rest=[Rest("getUsage", "GET usage/")])
def get(caller: Caller, given: GetUsage) -> DataResult:
    """Return the tokens and the cost of model calls by day, model, executor, flow or user."""
    report = usage.usage(
        caller=caller,
        since=given.first,
        until=given.last,
        by=given.groups,
        model=given.model,
        executor=given.executor,
        flow=given.flow,
        user_id=given.user_id,
    )
    native = {
        "since": report.since.isoformat(),
        "until": report.until.isoformat(),
        "by": list(report.by),
        "rows": report.rows,
        "total": report.total,
        "today": [asdict(limit) | {"text": limit.text} for limit in report.today],
    }
    return DataResult(native=native)
