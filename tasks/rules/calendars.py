"""Calendars in the iCalendar format (RFC 5545) of times at which tasks run."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

from icalendar import Calendar, Event

from tasks.rules.schedules import Timing
from tasks.rules.task_schedules import shown

MAKER: Final = "-//aipartnerupflow//Schedules//EN"
LASTS: Final = timedelta(minutes=30)
LISTED: Final = 50
"""The number of times of an event that no rule of the format describes."""
DAY_NAMES: Final = ("SU", "MO", "TU", "WE", "TH", "FR", "SA", "SU")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A task that runs next at a time."""

    task_id: str
    name: str
    kind: str
    timing: Timing
    next_run_at: datetime


def calendar_of(entries: Iterable[Entry], *, name: str, base_url: str | None) -> str:
    """Return the calendar as text. With `base_url` each event has the address of its task."""
    calendar = Calendar()
    for field, value in (("prodid", MAKER), ("version", "2.0"), ("method", "PUBLISH"), ("x-wr-calname", name)):
        calendar.add(field, value)
    for entry in entries:
        kind, expression = shown(entry.timing, entry.kind)
        start = entry.next_run_at.astimezone(UTC)
        event = Event()
        event.add("uid", f"{quote(entry.task_id)}-{start:%Y%m%dT%H%M%SZ}@aipartnerupflow")
        event.add("dtstamp", datetime.now(UTC))
        event.add("dtstart", start)
        event.add("dtend", start + LASTS)
        event.add("summary", entry.name)
        event.add("description", f"Task {entry.task_id}, {kind} {expression}")
        event.add("categories", ["APFlow", kind.upper()])
        if base_url is not None:
            event.add("url", f"{base_url.rstrip('/')}/tasks/{quote(entry.task_id, safe='')}")
        if rule := _rule(entry.timing, kind, expression):
            event.add("rrule", rule)
        elif kind == "cron" and (times := list(islice(entry.timing.slots(entry.next_run_at), LISTED))):
            event.add("rdate", times)
        calendar.add_component(event)
    text: str = calendar.to_ical().decode()
    return text


def _rule(timing: Timing, kind: str, expression: str) -> dict[str, Any]:
    """Return the rule of a type that repeats evenly; empty for the others."""
    days = expression.split(" ")[0].split(",")
    rules: dict[str, dict[str, Any]] = {
        "interval": {"freq": "SECONDLY", "interval": timing.every_seconds},
        "daily": {"freq": "DAILY"},
    }
    if kind == "weekly":
        rules[kind] = {"freq": "WEEKLY", "byday": [DAY_NAMES[int(day)] for day in days]}
    if kind == "monthly":
        rules[kind] = {"freq": "MONTHLY", "bymonthday": [int(day) for day in days]}
    rule = rules.get(kind, {})
    return rule | {"until": timing.ends_at} if rule and timing.ends_at is not None else rule
