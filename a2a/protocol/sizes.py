"""The sizes of the Tasks of runs, before they are loaded."""

from collections.abc import Sequence

from django.db.models import QuerySet, Sum

from a2a.models import Message
from tasks.models import Run, Task, TaskEvent
from tasks.storage.loads import ROW_BYTES, size_of

KINDS_OF_LOG = ("task_completed", "task_failed", "final")
"""The events from which the Task of a superseded run is built."""


def log_of(run: Run) -> QuerySet[TaskEvent]:
    """Return the events that tell what the tasks of the tree were at the end of this run."""
    earlier = Run.objects.filter(root_id=run.root_id, number__lte=run.number)
    return TaskEvent.objects.filter(run_id__in=earlier.values("id"), type__in=KINDS_OF_LOG)


def sizes_of(runs: Sequence[Run], *, superseded: frozenset[str], with_artifacts: bool) -> dict[str, int]:
    """Run id → the bytes that its Task loads: messages, and results if `with_artifacts`. In the order of `runs`."""
    said = dict(
        Message.objects.filter(run__in=runs).order_by().values_list("run_id").annotate(size=Sum(size_of("body")))
    )
    current = {run.root_id for run in runs if run.id not in superseded} if with_artifacts else ()
    trees = dict(
        Task.objects.filter(root_id__in=current)
        .order_by()
        .values_list("root_id")
        .annotate(size=Sum(size_of("result", "error")))
    )
    return {
        run.id: ROW_BYTES
        + (said.get(run.id) or 0)
        + (_size_of_log(run) if run.id in superseded else trees.get(run.root_id, 0))
        for run in runs
    }


def _size_of_log(run: Run) -> int:
    size: int | None = log_of(run).aggregate(size=Sum(size_of("payload")))["size"]
    return size or 0
