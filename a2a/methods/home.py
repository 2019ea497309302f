"""The method that returns what happened since the last visit, as the first page of the dashboard shows it."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from a2a.core.parsing import Params
from a2a.methods.method import VIEWER, Response, Rest, method
from a2a.methods.results import DataResult
from accounts.callers import Caller
from tasks.services.upkeep import home
from tasks.services.waits.questions import count_inbox

MOST_COUNTED: Final = 1_000


class GetHome(Params, frozen=True, kw_only=True):
    """home.get"""

    since: Annotated[str, Meta(min_length=1, max_length=64)] = home.LAST_VISIT
    """`visit` for the last visit, `1h`, `24h`, `7d`, or a time in ISO 8601, at most 30 days ago."""


class EndedRuns(Response, frozen=True, kw_only=True):
    """Sums of the runs that ended in a time; `cost_usd` is the known part of their cost."""

    runs: int
    completed: int
    failed: int
    total_tokens: int
    cost_usd: float


class FlowShare(Response, frozen=True, kw_only=True):
    """The failed runs of one flow of `user_id`. `name` is empty for runs of no flow, null for a deleted flow."""

    name: str | None
    user_id: str
    runs: int


class FailureGroup(Response, frozen=True, kw_only=True):
    """Failed runs with one error.

    `error` is that of the newest of them, and `pattern` what all have in common: ids, numbers, times, paths and URLs are
    replaced. `state`: `failing` if the latest run of one of the flows failed so, `over` if a run of each has completed
    since, else empty. `is_new`: it did not occur in the 30 days before.
    """

    key: str
    error: str
    pattern: str
    runs: int
    flows: list[FlowShare]
    first_at: str
    last_at: str
    newest_run_id: str
    state: Literal["failing", "over", ""]
    is_new: bool


class Trouble(Response, frozen=True, kw_only=True):
    """A run (`task_id` is its root) that is stuck, or a schedule that is late, missed times, or is paused for a reason.

    `at`: of the last event, the time that is due, the last time that was missed, or when it was paused.
    """

    kind: Literal["stuck", "late", "missed", "paused"]
    name: str
    at: str | None
    reason: str
    count: int
    task_id: str | None
    schedule_id: str | None


class Load(Response, frozen=True, kw_only=True):
    """The worker processes that are alive, with their places, and the caller's runs that run or wait for a worker."""

    workers: int
    places: int
    running: int
    queued: int
    queued_since: str | None


class Home(Response, frozen=True, kw_only=True):
    """Events from `since` until now; `week_before` are the same hours seven days before.

    `failures` are the largest of so many groups (`causes`). `questions` is how many wait for an answer of the caller.
    """

    since: str
    until: str
    totals: EndedRuns
    week_before: EndedRuns
    causes: int
    failures: list[FailureGroup]
    troubles: list[Trouble]
    questions: int
    load: Load


@method("home.get", role=VIEWER, answer=Home, rest=[Rest("getHome", "GET home/")])
def get(caller: Caller, given: GetHome) -> DataResult:
    """Return what failed since the last visit, by cause, what is late or stuck, and what the runs cost."""
    found = home.home(caller=caller, since=given.since)
    native = {
        "since": found.since.isoformat(),
        "until": found.until.isoformat(),
        "totals": asdict(found.totals),
        "week_before": asdict(found.week_before),
        "causes": found.reasons,
        "failures": [_renamed(asdict(group), newest_id="newest_run_id") for group in found.groups],
        "troubles": [_renamed(asdict(trouble), root_id="task_id") for trouble in found.troubles],
        "questions": count_inbox(caller, limit=MOST_COUNTED),
        "load": _renamed(asdict(found.pulse)),
    }
    return DataResult(native=native)


def _renamed(row: dict[str, Any], **names: str) -> dict[str, Any]:
    """Return the row with these names of fields, and times in ISO 8601."""
    return {
        names.get(name, name): value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }
