"""The usage page: what model calls used, as a chart by day and as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.http import HttpRequest

from accounts.callers import Caller
from tasks.dashboard.pages import Context, has_owners, read_page
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json
from tasks.services.spending.usage import Report, usage
from tasks.services.trees.cached_results import list_cached

SPANS: Final = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
"""The choices of the page: days up to today."""
NO_FLOW: Final = "no flow"
HEIGHT: Final = 100.0
"""The height of the chart, in units of its own."""
LEAST: Final = 1.0
"""The height of the bar of a day with few tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A day of the chart. `x` and `height` are in units of the chart, whose days are one unit wide."""

    day: date
    tokens: int
    cost_usd: float | None
    x: float
    height: float

    @property
    def y(self) -> float:
        return HEIGHT - self.height


@read_page("dashboard/usage.html")
def overview(request: HttpRequest, caller: Caller) -> Context:
    """`GET /ui/usage/`: the caller's usage; for administrators, that of all users or of one."""
    span, user_id = request.GET.get("days", "30"), request.GET.get("user", "").strip()
    if span not in SPANS:
        raise InvalidParams([("days", f"must be one of {', '.join(SPANS)}")])
    until = datetime.now(UTC).date()
    chosen: Mapping[str, Any] = {
        "caller": caller,
        "since": until - timedelta(days=int(span) - 1),
        "until": until,
        "user_id": user_id or None,
    }
    by_day = usage(**chosen)
    models, executors = usage(**chosen, by=["model"]), usage(**chosen, by=["executor"])
    tables: list[tuple[str, str, Sequence[Json]]] = [
        ("Models", "model", _largest_first(models)),
        ("Executors", "executor", _largest_first(executors)),
    ]
    flows = usage(**chosen, by=["flow"])
    if any(row["flow"] for row in flows.rows):
        tables.append(("Flows", "flow", [row | {"flow": row["flow"] or NO_FLOW} for row in _largest_first(flows)]))
    if caller.sees_all and has_owners():
        tables.append(("Users", "user", _largest_first(usage(**chosen, by=["user"]))))
    tables.append(("Days", "day", by_day.rows[::-1]))
    named = [(title, [(row[name] or "unknown", row) for row in rows]) for title, name, rows in tables]
    return {
        "place": "usage",
        "spans": SPANS,
        "report": by_day,
        "bars": bars_of(by_day),
        "most": max((row["total_tokens"] for row in by_day.rows), default=0),
        "tables": named,
        "cached": sum(each.results for each in list_cached(caller)),
        "span": span,
        "user": user_id,
    }


def bars_of(report: Report) -> list[Bar]:
    """Return a bar for each day of the report, also for those without calls."""
    rows = {row["day"]: row for row in report.rows}
    most = max((row["total_tokens"] for row in report.rows), default=0)
    days = [report.since + timedelta(days=number) for number in range((report.until - report.since).days + 1)]
    bars = []
    for x, day in enumerate(days):
        row = rows.get(day.isoformat(), {"total_tokens": 0, "cost_usd": None})
        tokens = row["total_tokens"]
        height = max(LEAST, round(HEIGHT * tokens / most, 2)) if tokens else 0.0
        bars.append(Bar(day=day, tokens=tokens, cost_usd=row["cost_usd"], x=x + 0.1, height=height))
    return bars


def _largest_first(report: Report) -> list[Json]:
    return sorted(report.rows, key=lambda row: (row["cost_usd"] or 0.0, row["total_tokens"]), reverse=True)
