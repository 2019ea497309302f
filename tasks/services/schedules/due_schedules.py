"""Schedules that are due, and their runs that wait for an earlier one: asked after each commit on SQLite."""

from datetime import datetime, timedelta
from typing import Final

from apflow_site.db.prepared import Prepared
from tasks.models import Firing, Schedule
from tasks.queue import clock

FIRST: Final[Prepared[tuple[datetime | None]]] = Prepared(
    lambda: Schedule.objects.filter(next_run_at__isnull=False).order_by("next_run_at").values_list("next_run_at")[:1]
)
QUEUED: Final[Prepared[tuple[int]]] = Prepared(lambda: Firing.objects.queued().values_list("id")[:1])


def seconds_until_due(now: datetime) -> float | None:
    """Return in how many seconds from then the next schedule is due; None without any."""
    first = _first()
    return None if first is None else max(0.0, (first - now).total_seconds())


def is_any_due(now: datetime) -> bool:
    """Return whether a schedule is due by then."""
    first = _first()
    return first is not None and first <= now


def overdue(seconds: float) -> int:
    """Count the schedules that have been due for so long."""
    return Schedule.objects.filter(next_run_at__lt=clock.database_time() - timedelta(seconds=seconds)).count()


def is_any_queued() -> bool:
    """Return whether a run waits for an earlier one of its schedule."""
    return QUEUED.first() is not None


def _first() -> datetime | None:
    row = FIRST.first()
    return None if row is None else row[0]
