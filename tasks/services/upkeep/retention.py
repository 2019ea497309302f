"""Retention: deletes trees whose last run ended long ago (`retention`), without `params.keep`. Off by default.

Each tree is deleted in a transaction of its own, so that other writers get their turn in between.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import BooleanField, Exists, F, Func, OuterRef, QuerySet, Value
from django.db.models.functions import Coalesce

from accounts.callers import Caller, Role
from tasks.events import sweeps
from tasks.models import Run, Schedule, Task
from tasks.rules.exceptions import CannotDelete, TaskNotFound
from tasks.services.trees.editing import remove_task
from tasks.status import Status

TREES: Final = 20
"""The number of trees with the same status that one call deletes."""
RETENTION: Final = Caller(user_id="retention", role=Role.ADMIN)


def prune_trees() -> int:
    """Delete some of the trees that need not be kept any longer. Returns how many."""
    now = datetime.now(UTC)
    return sum(prune(status, before=now - timedelta(days=days)) for status, days in _kept_days().items())


def prune(status: Status, *, before: datetime) -> int:
    """Delete some of the trees that ended like this before that time. Returns how many."""
    sweep = f"{status}_trees"
    since = sweeps.reached(sweep)
    expired = _expired(status, before).filter(finished_at__gte=since).order_by("finished_at")
    first = list(expired.only("root_id", "finished_at")[:TREES])
    sweeps.note(sweep, first[0].finished_at or before if first else before, since=since)
    return sum(_delete(run, status, before=before) for run in first)


def _kept_days() -> Mapping[Status, int]:
    """Return the number of days to keep trees, by the status of their last run. Trees without an entry are kept."""
    retention = settings.APFLOW.retention
    days = {
        Status.COMPLETED: retention.completed_days,
        Status.FAILED: retention.failed_days,
        Status.CANCELLED: retention.cancelled_days,
    }
    return {status: number for status, number in days.items() if number}


def _expired(status: Status, before: datetime) -> "QuerySet[Run]":
    """Return the last runs of trees, if they ended like this before that time.

    A database without statistics would search the index of the status, which nearly all runs share: COALESCE keeps it
    from that.
    """
    later = Run.objects.filter(root_id=OuterRef("root_id"), number__gt=OuterRef("number"))
    ended = Run.objects.alias(ended_as=Coalesce("status", Value(""))).filter(ended_as=status, finished_at__lt=before)
    found = ended.exclude(root_id=F("id"))
    kept = Task.objects.filter(id=OuterRef("root_id"), params__contains='"keep"').filter(IsKept())
    scheduled = Schedule.objects.filter(task_id=OuterRef("root_id"))
    return found.filter(~Exists(later), ~Exists(kept), ~Exists(scheduled))


class IsKept(Func):
    """Whether `params.keep` of a task is true, in SQL. Both databases parse the text, so use it for few rows."""

    output_field = BooleanField()

    def __init__(self) -> None:
        super().__init__(F("params"))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="json_extract(%(expressions)s, '$.keep') = 1", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s)::json ->> 'keep' = 'true'", **context)


@transaction.atomic
def _delete(run: Run, status: Status, *, before: datetime) -> bool:
    """Delete the tree of its last run, unless it has started again meanwhile."""
    Task.objects.hold_tree(run.root_id)
    if not _expired(status, before).filter(id=run.id).exists():
        return False
    try:
        remove_task(caller=RETENTION, task_id=run.root_id, force=True)
    except (CannotDelete, TaskNotFound):
        return False
    return True
