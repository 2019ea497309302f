"""Retention: deletes trees whose last run ended long ago (`retention`), without `params.keep`. Off by default.

Each tree is deleted in a transaction of its own, so that other writers get their turn in between.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import BooleanField, Exists, F, Func, OuterRef, Q, QuerySet

from accounts.callers import Caller, Role
from tasks.models import Run, Task
from tasks.rules.exceptions import CannotDelete, TaskNotFound
from tasks.services.editing import delete_task
from tasks.status import Status

TREES: Final = 20
"""The number of trees that one call deletes."""
RETENTION: Final = Caller(user_id="retention", role=Role.ADMIN)


def prune_trees() -> int:
    """Delete some of the trees that need not be kept any longer. Returns how many."""
    if not _kept_days():
        return 0
    return sum(_delete(root_id) for root_id in list(_expired().values_list("root_id", flat=True)[:TREES]))


def _kept_days() -> Mapping[Status, int]:
    """For how many days to keep the trees by the status of their last run; those without an entry are kept."""
    retention = settings.APFLOW.retention
    days = {
        Status.COMPLETED: retention.completed_days,
        Status.FAILED: retention.failed_days,
        Status.CANCELLED: retention.cancelled_days,
    }
    return {status: number for status, number in days.items() if number}


def _expired() -> "QuerySet[Run]":
    """The last runs of trees, if they ended long enough ago, the oldest first."""
    now = datetime.now(UTC)
    limits = {status: now - timedelta(days=days) for status, days in _kept_days().items()}
    is_old = Q(*(Q(status=status, finished_at__lt=limit) for status, limit in limits.items()), _connector=Q.OR)
    later = Run.objects.filter(root_id=OuterRef("root_id"), number__gt=OuterRef("number"))
    # The latest limit alone is what the index by time can use.
    found = Run.objects.filter(is_old, finished_at__lt=max(limits.values())).exclude(root_id=F("id"))
    kept = Task.objects.filter(id=OuterRef("root_id"), params__contains='"keep"').filter(IsKept())
    return found.filter(~Exists(later), ~Exists(kept)).order_by("finished_at")


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
def _delete(root_id: str) -> bool:
    """Delete the tree unless it has started again meanwhile."""
    Task.objects.hold_tree(root_id)
    if not _expired().filter(root_id=root_id).exists():
        return False
    try:
        delete_task(caller=RETENTION, task_id=root_id, force=True)
    except (CannotDelete, TaskNotFound):
        return False
    return True
