"""The times of schedules: those of a cron expression, an interval or a single moment.

Times of cron expressions are wall-clock times in a time zone. One that does not exist, because clocks go
forward, is the first moment after. In the hour that comes twice, when clocks go back, a fixed hour counts
once, and a wildcard each time, as in Debian's cron.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from itertools import islice, takewhile
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from tasks.rules.exceptions import InvalidParams

Problem = tuple[str, str]
KINDS: Final = ("cron", "every_seconds", "at")
NICKNAMES: Final = MappingProxyType(
    {
        "@hourly": "0 * * * *",
        "@daily": "0 0 * * *",
        "@weekly": "0 0 * * 0",
        "@monthly": "0 0 1 * *",
        "@yearly": "0 0 1 1 *",
    }
)
FIELDS: Final = 5
YEARS: Final = range(2000, 3000)
TICK: Final = timedelta(microseconds=1)
SECOND: Final = timedelta(seconds=1)
HOUR: Final = timedelta(hours=1)
NOT_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
"""Names that mean something else on each machine."""
LOOK_BACK: Final = timedelta(hours=3)
"""Longer than any change of clocks, near which a search backwards may miss times."""
UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The times of a schedule: one of `cron`, `every_seconds` (since `starts_at`) and `at`.

    All of them are from `starts_at` to `ends_at`, both included. `key` names the schedule: with `jitter_seconds`
    each run is late by a time that depends on nothing but the key and the slot.
    """

    cron: str | None = None
    every_seconds: int | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    jitter_seconds: int = 0
    key: str = ""

    def slots(self, after: datetime) -> Iterator[datetime]:
        """Yield the times after a moment, in UTC."""
        slot = self.next_slot(after)
        while slot is not None:
            yield slot
            slot = self.next_slot(slot)

    def next_slot(self, after: datetime) -> datetime | None:
        """Return the first time after a moment. None: there is none."""
        if self.starts_at is not None:
            after = max(after, self.starts_at - TICK)
        slot = self._next(after)
        return None if slot is None or (self.ends_at is not None and slot > self.ends_at) else slot

    def last_slot(self, moment: datetime) -> datetime | None:
        """Return the last time up to a moment. None: there is none."""
        if self.ends_at is not None:
            moment = min(moment, self.ends_at)
        # Begin at a moment before the last time, with few times between them.
        start: datetime | None = None
        if self.cron is not None:
            local = (moment + SECOND).astimezone(ZoneInfo(self.timezone))
            found = next(CronSim(expression_of(self.cron), local, reverse=True), None)
            start = None if found is None else found.astimezone(UTC) - LOOK_BACK
        elif self.every_seconds is not None:
            start = moment - timedelta(seconds=self.every_seconds)
        elif self.at is not None:
            start = self.at - TICK
        if start is None:
            return None
        return max(takewhile(lambda slot: slot <= moment, self.slots(start)), default=None)

    def due_at(self, slot: datetime) -> datetime:
        """Return when the run of a slot is due: at the slot, or later by its jitter, but not after the next slot."""
        if not self.jitter_seconds:
            return slot
        seconds = float(self.jitter_seconds)
        if (following := self.next_slot(slot)) is not None:
            seconds = min(seconds, (following - slot).total_seconds())
        digest = sha256(f"{self.key} {slot.isoformat()}".encode()).digest()
        return slot + timedelta(seconds=seconds * int.from_bytes(digest[:6]) / 2**48)

    def _next(self, after: datetime) -> datetime | None:
        if self.cron is not None:
            zone = ZoneInfo(self.timezone)
            slot = _first_after(self.cron, zone, start=after, after=after)
            if slot is None or not (_offset(slot, zone) - _offset(after, zone)) % HOUR:
                return slot
            # CronSim steps over times that a change of clocks by half an hour repeats.
            change = _change_between(after, slot, zone)
            return _first_after(self.cron, zone, start=change - SECOND, after=after)
        if self.every_seconds is not None and self.starts_at is not None:
            step = timedelta(seconds=self.every_seconds)
            return self.starts_at + ((after - self.starts_at) // step + 1) * step
        return self.at if self.at is not None and self.at > after else None


def problems(timing: Timing) -> list[Problem]:
    """Return what is wrong with the fields of a timing, by their names."""
    given = [name for name in KINDS if getattr(timing, name) is not None]
    found: list[Problem] = []
    if not given:
        found.append(("cron", "required, or every_seconds, or at"))
    elif len(given) > 1:
        found.append((given[1], f"cannot be combined with {given[0]}: send one of them"))
    found += [*_wrong_zone(timing.timezone), *_wrong_cron(timing.cron)]
    if timing.starts_at is not None and timing.ends_at is not None and timing.ends_at < timing.starts_at:
        found.append(("ends_at", "must not be before starts_at"))
    return found


def never_fires(timing: Timing, *, after: datetime) -> Problem | None:
    """Return the problem of a valid timing that has no time after that moment, or None."""
    if timing.next_slot(after) is not None:
        return None
    if timing.at is not None:
        return "at", "is in the past, or not between starts_at and ends_at: the schedule would never run"
    if timing.ends_at is not None:
        return "ends_at", "is before the first run: the schedule would never run"
    return "cron", f"'{timing.cron}' matches no day of any year: the schedule would never run"


def read_moment(field: str, text: str, *, timezone: str) -> datetime:
    """Return an ISO 8601 time in UTC. Without an offset it is a wall-clock time in the zone. Raises InvalidParams."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParams(
            [(field, f"'{text}' is not a time such as 2027-01-31T06:00 or 2027-01-31T06:00Z")]
        ) from None
    if read.year not in YEARS:
        raise InvalidParams([(field, f"must be in the years {YEARS.start} to {YEARS.stop - 1}")])
    return (read if read.tzinfo else existing(read, ZoneInfo(timezone))).astimezone(UTC)


def existing(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return a wall-clock time in its zone: the first of two; for one that does not exist, the first moment after."""
    while (found := wall.replace(tzinfo=zone)).astimezone(UTC).astimezone(zone).replace(tzinfo=None) != wall:
        wall = (wall + timedelta(minutes=1)).replace(second=0, microsecond=0)
    return found


def check_zone(timezone: str) -> None:
    """Raise InvalidParams for a time zone that is not known."""
    if found := _wrong_zone(timezone):
        raise InvalidParams(found)


def in_words(timing: Timing) -> str:
    """Describe valid times for people, such as "At 06:00 on Monday through Friday (Europe/Berlin)"."""
    if timing.cron is not None:
        return f"{CronSim(expression_of(timing.cron), datetime.now(UTC)).explain()} ({timing.timezone})"
    if timing.every_seconds is not None:
        words = duration_in_words(timing.every_seconds)
        return f"Every {words if ' and ' in words else words.removeprefix('1 ')}"
    local = (timing.at or datetime.now(UTC)).astimezone(ZoneInfo(timing.timezone))
    return f"Once, at {local:%H:%M} on {local.day} {local:%B %Y} ({timing.timezone})"


def duration_in_words(seconds: int) -> str:
    """Describe a duration, such as "1 hour and 30 minutes"."""
    parts = []
    for name, size in UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:,} {name}{'' if count == 1 else 's'}")
    return and_last(parts)


def and_last(words: Sequence[str]) -> str:
    """Join words: "one, two and three"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def expression_of(cron: str) -> str:
    """Return the five fields of an expression, also of a nickname such as @daily."""
    return NICKNAMES.get(cron.strip().lower(), cron)


# --- cron ---


def _first_after(cron: str, zone: ZoneInfo, *, start: datetime, after: datetime) -> datetime | None:
    """Near a change of clocks, CronSim may yield a time twice, or one before the moment where it starts."""
    for found in CronSim(expression_of(cron), start.astimezone(zone)):
        if (slot := found.astimezone(UTC)) > after:
            return slot
    return None


def _change_between(early: datetime, late: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment, to the second, when the clocks of the zone change."""
    early = early.replace(microsecond=0)
    while late - early > SECOND:
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if _offset(middle, zone) == _offset(early, zone):
            early = middle
        else:
            late = middle
    return late


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def first_slots(timing: Timing, *, after: datetime, count: int) -> list[datetime]:
    """Return the next times after a moment, up to so many."""
    return list(islice(timing.slots(after), count))


# --- problems ---


def _wrong_zone(timezone: str) -> list[Problem]:
    if timezone in _zones():
        return []
    close = get_close_matches(timezone[:100], _zones())
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else "Use a name such as 'Europe/Berlin' or 'UTC'."
    return [("timezone", f"'{timezone[:100]}' is not a known time zone. {hint}")]


def _wrong_cron(cron: str | None) -> Iterator[Problem]:
    if cron is None:
        return
    expression = expression_of(cron)
    if expression.startswith("@"):
        yield "cron", f"'{cron}' is none of {', '.join(NICKNAMES)}"
        return
    if len(expression.split()) != FIELDS:
        yield (
            "cron",
            f"must have {FIELDS} fields (minute, hour, day of month, month, day of week), such as '0 6 * * 1-5'",
        )
        return
    try:
        CronSim(expression, datetime.now(UTC)).explain()
    except CronSimError as error:
        reason = str(error)
        yield "cron", f"{reason[0].lower()}{reason[1:]} in '{cron}'"


def known_zones() -> list[str]:
    """Return the names of all time zones, in their order."""
    return sorted(_zones())


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones()) - NOT_ZONES
