"""The runs of flows: the newest ones of each, how often they succeed, and how long they take."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from django.db.models import QuerySet

from tasks.models import Flow, Run
from tasks.status import Status

AT_ONCE: Final = 100
"""Flows in one query: SQLite takes at most 500 parts."""
PART: Final = """SELECT * FROM (SELECT * FROM tasks_run WHERE flow_id = %s AND flow_id IS NOT NULL
ORDER BY created_at DESC, id DESC LIMIT %s) AS newest"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOfRun:
    """The flow of which a run was made, and the version. `name` is None if the flow has been deleted."""

    name: str | None
    version: int
    user_id: str


def flow_of(run: Run | None) -> FlowOfRun | None:
    """Return the flow of a run; None if it was made of none. A flow belongs to the owner of its runs."""
    if run is None or run.flow_id is None or run.flow_version is None:
        return None
    name = Flow.objects.filter(id=run.flow_id).values_list("name", flat=True).first()
    return FlowOfRun(name=name, version=run.flow_version, user_id=run.user_id)


def runs_of(flow_id: str) -> QuerySet[Run]:
    """Return the runs of a flow, newest first, in the order of their index."""
    return Run.objects.filter(flow_id=flow_id).order_by("-created_at", "-id")


def newest_runs(flow_ids: Sequence[str], *, each: int) -> Mapping[str, list[Run]]:
    """Map each flow that has run to its newest runs, newest first: at most `each`."""
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for start in range(0, len(flow_ids), AT_ONCE):
        chunk = flow_ids[start : start + AT_ONCE]
        params = [value for flow_id in chunk for value in (flow_id, each)]
        for run in Run.objects.raw(" UNION ALL ".join([PART] * len(chunk)), params):
            found[str(run.flow_id)].append(run)
    for runs in found.values():
        runs.sort(key=lambda run: (run.created_at, run.id), reverse=True)
    return found


def seconds_of(run: Run) -> float | None:
    """Return how long a run took from its start to its end; None if it did not start or has not ended."""
    if run.started_at is None or run.finished_at is None:
        return None
    return max(0.0, (run.finished_at - run.started_at).total_seconds())


def success_rate(runs: Sequence[Run]) -> float | None:
    """Return which part of the runs that have ended completed; None if none has ended. Cancelled ones do not count."""
    ended = [run.status == Status.COMPLETED for run in runs if run.status in (Status.COMPLETED, Status.FAILED)]
    return sum(ended) / len(ended) if ended else None


def median_cost(runs: Sequence[Run]) -> float | None:
    """Return the median cost in US dollars of the runs that completed and called models of known price."""
    usages = [run.token_usage or {} for run in runs if run.status == Status.COMPLETED]
    found = [usage["cost_usd"] for usage in usages if usage.get("cost_usd") is not None]
    return median(found) if found else None


def median_seconds(runs: Sequence[Run]) -> float | None:
    """Return the median duration of the runs that completed; None if none did."""
    found = [seconds for run in runs if run.status == Status.COMPLETED and (seconds := seconds_of(run)) is not None]
    return median(found) if found else None
