"""Schedules as fields of a task, as clients of apflow 0.18 write and read them. All their times are in UTC.

| `schedule_type` | `schedule_expression` |
| --- | --- |
| once | an ISO 8601 time |
| interval | seconds, as text |
| cron | five fields |
| daily | `HH:MM` |
| weekly | `1,3,5 09:00`; 1 is Monday, 7 is Sunday |
| monthly | `1,15 09:00`; a month that lacks the day is left out |
"""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from tasks.rules.exceptions import InvalidParams
from tasks.rules.schedules import Timing

TYPE, EXPRESSION, ENABLED, STARTS, ENDS, MOST = WRITTEN = (
    "schedule_type",
    "schedule_expression",
    "schedule_enabled",
    "schedule_start_at",
    "schedule_end_at",
    "max_runs",
)
"""The fields that callers set."""
COUNTED: Final = ("next_run_at", "last_run_at", "run_count")
"""The fields that only the server sets."""
TYPES: Final = ("once", "interval", "cron", "daily", "weekly", "monthly")
NAMES: Final = MappingProxyType(
    {
        "cron": EXPRESSION,
        "every_seconds": EXPRESSION,
        "at": EXPRESSION,
        "timezone": EXPRESSION,
        "starts_at": STARTS,
        "ends_at": ENDS,
    }
)
"""Field of a schedule → its name here."""
CLOCK: Final = r"(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)"
DAYS: Final = re.compile(rf"(?P<days>\d{{1,2}}(?:,\d{{1,2}}){{0,30}}) {CLOCK}", re.ASCII)
TIME: Final = re.compile(CLOCK, re.ASCII)
LIST: Final = re.compile(r"\d{1,2}(,\d{1,2})*", re.ASCII)
MOST_NUMBER: Final = 2**31 - 1
LONGEST_TEXT: Final = 255


def problems(given: Mapping[str, Any], *, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the kinds of the values. Their names begin with `where`."""
    for name in (TYPE, EXPRESSION, STARTS, ENDS):
        if not isinstance(given.get(name) or "", str) or len(given.get(name) or "") > LONGEST_TEXT:
            yield f"{where}{name}", f"must be a string of at most {LONGEST_TEXT} characters"
    if not isinstance(given.get(ENABLED) or False, bool):
        yield f"{where}{ENABLED}", "must be true or false"
    most = given.get(MOST)
    if most is not None and (type(most) is not int or not 1 <= most <= MOST_NUMBER):
        yield f"{where}{MOST}", f"must be an integer from 1 to {MOST_NUMBER:,}"


def says_nothing(value: object) -> bool:
    """Return whether a field with this value is as good as absent."""
    return value is None or value is False or value == ""


def timing_of(kind: str, expression: str) -> dict[str, Any]:
    """Return `cron`, `every_seconds` or `at` of a schedule. Raises InvalidParams for an unknown type or form."""
    if kind not in TYPES:
        raise InvalidParams([(TYPE, f"must be one of {', '.join(TYPES)}, not '{kind[:100]}'")])
    return READERS[kind](expression.strip())


def in_their_names(error: InvalidParams, *, where: str = "") -> InvalidParams:
    """Return these problems of a schedule with the names that its fields have in a task, after `where`."""
    return InvalidParams([(where + NAMES.get(path, path), reason) for path, reason in error.problems])


def shown(timing: Timing, kind: str) -> tuple[str, str]:
    """Return type and expression of a timing that was written as this type and may have been changed since."""
    if timing.at is not None:
        return "once", timing.at.isoformat()
    if timing.every_seconds is not None:
        return "interval", str(timing.every_seconds)
    cron = timing.cron or ""
    return next(((kind, found) for found in _as_clock(cron, kind)), ("cron", cron))


def _as_clock(cron: str, kind: str) -> Iterator[str]:
    """Yield the expression of a daily, weekly or monthly type, if the cron has that form."""
    minute, hour, day, month, weekday = (cron.split() + [""] * 5)[:5]
    if not (minute.isdecimal() and hour.isdecimal() and month == "*"):
        return
    clock = f"{int(hour):02}:{int(minute):02}"
    if kind == "daily" and day == weekday == "*":
        yield clock
    elif kind == "weekly" and day == "*" and LIST.fullmatch(weekday):
        yield f"{','.join(each.replace('0', '7') for each in weekday.split(','))} {clock}"
    elif kind == "monthly" and weekday == "*" and LIST.fullmatch(day):
        yield f"{day} {clock}"


def _interval(text: str) -> dict[str, Any]:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:20]) <= MOST_NUMBER):
        raise _wrong("interval", "a whole number of seconds from 1", "3600")
    return {"every_seconds": int(text)}


def _daily(text: str) -> dict[str, Any]:
    found = TIME.fullmatch(text)
    if found is None:
        raise _wrong("daily", "a time of day", "09:00")
    return {"cron": f"{int(found['minute'])} {int(found['hour'])} * * *"}


def _weekly(text: str) -> dict[str, Any]:
    minute, hour, days = _days(text, most=7, kind="weekly", wanted="days from 1 (Monday) to 7 (Sunday), and a time")
    return {"cron": f"{minute} {hour} * * {','.join(str(day % 7) for day in days)}"}


def _monthly(text: str) -> dict[str, Any]:
    minute, hour, days = _days(text, most=31, kind="monthly", wanted="days from 1 to 31, and a time")
    return {"cron": f"{minute} {hour} {','.join(map(str, days))} * *"}


def _days(text: str, *, most: int, kind: str, wanted: str) -> tuple[int, int, list[int]]:
    found = DAYS.fullmatch(text)
    days = [int(day) for day in found["days"].split(",")] if found else []
    if found is None or not all(1 <= day <= most for day in days):
        raise _wrong(kind, wanted, "1,3,5 09:00")
    return int(found["minute"]), int(found["hour"]), days


def _wrong(kind: str, wanted: str, example: str) -> InvalidParams:
    return InvalidParams([(EXPRESSION, f"of the type {kind} must be {wanted}, such as '{example}'")])


READERS: Mapping[str, Callable[[str], dict[str, Any]]] = MappingProxyType(
    {
        "once": lambda text: {"at": text},
        "interval": _interval,
        "cron": lambda text: {"cron": text},
        "daily": _daily,
        "weekly": _weekly,
        "monthly": _monthly,
    }
)
