"""Alarms of a question: the moments at which it reminds of itself, or gets further assignees."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tasks.rules.strict_json import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One of them. `assignees` are those that it adds; none for a reminder."""

    at: datetime
    assignees: Sequence[str] = ()


def alarms_of(
    asked_at: datetime,
    *,
    remind_after_seconds: Sequence[float],
    escalate_after_seconds: float | None,
    to: Sequence[str],
) -> list[Alarm]:
    """Return the alarms in the order of their times."""
    alarms = [Alarm(at=asked_at + timedelta(seconds=seconds)) for seconds in remind_after_seconds]
    if escalate_after_seconds is not None:
        alarms.append(Alarm(at=asked_at + timedelta(seconds=escalate_after_seconds), assignees=to))
    return sorted(alarms, key=lambda alarm: alarm.at)


def as_json(alarms: Sequence[Alarm]) -> list[Json]:
    return [{"at": alarm.at.isoformat(), "assignees": list(alarm.assignees)} for alarm in alarms]


def from_json(alarms: Sequence[Any]) -> list[Alarm]:
    return [Alarm(at=datetime.fromisoformat(each["at"]), assignees=each["assignees"]) for each in alarms]
