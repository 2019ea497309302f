"""Schedules by a clock of the database that tests set."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.callers import Caller
from tasks.models import Firing, Run, Schedule
from tasks.queue import clock
from tasks.services import schedules
from tasks.services.schedules import firings
from tests.tasks.trees import ALICE

Json = dict[str, Any]
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
TREE = [{"id": "a", "name": "a", "schemas": {"method": "echo_executor"}}]


class Clock:
    """The database's clock. It stands until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def passes(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def to(self, text: str) -> None:
        """Set it to a time of the day of NOON, such as 12:05."""
        hour, minute, *second = map(int, text.split(":"))
        self.now = NOON.replace(hour=hour, minute=minute, second=second[0] if second else 0)


@pytest.fixture
def clock_at_noon(monkeypatch: pytest.MonkeyPatch, test_executors: None) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(clock, "database_time", lambda: made.now)
    yield made


def make(*, caller: Caller = ALICE, is_paused: bool = False, **fields: Any) -> Schedule:
    timing = {} if fields.keys() & {"cron", "every_seconds", "at"} else {"cron": "*/5 * * * *"}
    subject = {} if fields.keys() & {"task_id", "flow"} else {"tasks": TREE}
    return schedules.create_schedule(caller=caller, fields={**subject, **timing, **fields}, is_paused=is_paused)


def sweep() -> int:
    """Fire until nothing is due."""
    fired = 0
    while some := firings.fire_due():
        fired += some
    return fired


def done(schedule: Schedule) -> list[tuple[str, str]]:
    """What was done at each time, such as ("12:05", "started")."""
    found = Firing.objects.filter(schedule_id=schedule.id).order_by("scheduled_for")
    return [(f"{firing.scheduled_for:%H:%M}", firing.outcome) for firing in found]


def reasons(schedule: Schedule) -> list[str | None]:
    found = Firing.objects.filter(schedule_id=schedule.id).order_by("scheduled_for")
    return list(found.values_list("reason", flat=True))


def end_runs(status: str = "completed") -> None:
    """As if workers had ended all runs."""
    Run.objects.filter(finished_at=None).update(status=status, finished_at=datetime.now(UTC))
