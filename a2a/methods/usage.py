"""The method that returns what model calls used."""

from dataclasses import asdict

from a2a.methods import params
from a2a.methods.results import DataResult
from accounts.callers import Caller
from tasks.services.spending import usage


def get(caller: Caller, given: params.GetUsage) -> DataResult:
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
