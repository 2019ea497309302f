"""The number of tasks with each status in the trees of a list."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from django.db.models import Count, OuterRef, QuerySet, Subquery

from aipartnerupflow.growth import NOT_RUN
from apflow_site.db.prepared import Prepared
from tasks.models import Task
from tasks.services.trees.queries import TaskRow
from tasks.status import Status

MOST_COUNTED: Final = 20_000
"""The number of tasks that one page counts."""


def counts_of_roots(tasks: Sequence[TaskRow]) -> dict[str, dict[str, int]]:
    """Return the number of tasks with each status, and of those that were not run, in the trees of those of the tasks that are roots.

    If the trees of a page have more than MOST_COUNTED tasks together, the first ones are counted.
    """
    root_ids = [task.id for task in tasks if task.is_root]
    counts: defaultdict[str, dict[str, int]] = defaultdict(lambda: {status.value: 0 for status in Status})
    if root_ids:
        ids = {f"id{number}": root_id for number, root_id in enumerate(root_ids)}
        sizes = dict(_sizes.rows(len(root_ids), **ids))
        upto = accumulate(sizes.get(root_id, 0) + 1 for root_id in root_ids)
        few = [root_id for root_id, total in zip(root_ids, upto, strict=True) if total <= MOST_COUNTED]
        counted = Task.objects.filter(root_id__in=few, part=None).order_by().values_list("root_id", "status")
        for root_id, status, number, unrun in counted.annotate(Count("id"), Count("cause_id")):
            counts[root_id] |= {status: number} | ({NOT_RUN: unrun} if unrun else {})
    return dict(counts)


@Prepared
def _sizes(count: int) -> QuerySet[Task, tuple[str, int]]:
    """Return the highest position in each tree, from the index of its tasks."""
    last = Task.objects.filter(root_id=OuterRef("id"), part=None).order_by("-position").values("position")[:1]
    roots = Task.objects.filter(id__in=[f"id{number}" for number in range(count)]).order_by()
    return roots.values_list("id", Subquery(last))
