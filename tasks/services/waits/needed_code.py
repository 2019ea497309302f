"""The code of workflows for which runs wait: those with a version that the worker did not have which took them up last."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Count, Max
from django.db.models.functions import Now

from tasks.models import Run, WorkerProcess
from tasks.queue import leases, suspension

MOST_KINDS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededCode:
    """The code that a workflow needs to continue. `version` is None if any will do, and `difference` what a replay by other code has met."""

    task_id: str
    workflow: str
    version: str | None
    since: datetime
    difference: str | None
    has_worker: bool
    """Whether a live worker has it: then the run continues when that worker has a place."""

    @property
    def text(self) -> str:
        """The code as people read it."""
        return f"version {self.version} of {self.workflow}" if self.version else self.workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededByRuns:
    """Code for which many runs wait. The tree of `root_id` is one of theirs."""

    codes: Sequence[NeededCode]
    runs: int
    root_id: str

    @property
    def text(self) -> str:
        return " and ".join(dict.fromkeys(code.text for code in self.codes))

    @property
    def has_worker(self) -> bool:
        return all(code.has_worker for code in self.codes)


def needed_by(run: Run | None) -> list[NeededCode]:
    """Return what the workflows of the run need; nothing if it does not wait for code."""
    if run is None or run.needs is None or run.needed_for is None or run.lease_owner != leases.SUSPENDED:
        return []
    alive = WorkerProcess.objects.filter(
        beat_at__gte=Now() - timedelta(seconds=leases.ALIVE_SECONDS), places__gt=0, workflows__isnull=False
    )
    offered = [each or {} for each in alive.values_list("workflows", flat=True)]
    found = []
    for task_id, need in run.needed_for["tasks"].items():
        workflow, _, version = need["need"].partition("@")
        found.append(
            NeededCode(
                task_id=task_id,
                workflow=workflow,
                version=version or None,
                since=datetime.fromisoformat(run.needed_for["since"]),
                difference=need.get("difference"),
                has_worker=any(each.get(workflow) == (version or each.get(workflow, "")) for each in offered),
            )
        )
    return found


def needed_by_runs() -> list[NeededByRuns]:
    """Return what the runs of the whole installation need."""
    kinds = suspension.needing().values_list("needs").annotate(runs=Count("id"), newest=Max("id"))
    counts = {newest: runs for _, runs, newest in kinds.order_by("needs")[:MOST_KINDS]}
    one_of_each = Run.objects.in_bulk(list(counts))
    return [
        NeededByRuns(codes=codes, runs=counts[run.id], root_id=run.root_id)
        for run in one_of_each.values()
        if (codes := needed_by(run))
    ]
