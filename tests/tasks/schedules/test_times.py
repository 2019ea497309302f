"""The times of schedules: wall-clock times in a zone, intervals, moments, and what is refused."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.exceptions import InvalidParams
from tasks.rules.schedules import Timing, first_slots, in_words, never_fires, problems, read_moment
from tests.tasks.schedules.clocks import TABLE

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(("zone", "cron", "after", "expected"), TABLE)
def test_changes_of_clocks(zone: str, cron: str, after: str, expected: tuple[str, ...]) -> None:
    timing = Timing(cron=cron, timezone=zone)
    assert first_slots(timing, after=utc(after), count=len(expected)) == [utc(each) for each in expected]


@pytest.mark.parametrize(("zone", "cron", "after", "expected"), TABLE)
def test_the_last_time_before_each_of_them(zone: str, cron: str, after: str, expected: tuple[str, ...]) -> None:
    timing = Timing(cron=cron, timezone=zone)
    for slot, following in pairwise(expected):
        assert timing.last_slot(utc(slot)) == utc(slot)
        assert timing.last_slot(utc(following) - timedelta(seconds=1)) == utc(slot)


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu"]
)
MOMENTS = st.datetimes(min_value=datetime(2025, 1, 1), max_value=datetime(2027, 12, 31), timezones=st.just(UTC))
MINUTES = st.sampled_from(["0", "30", "*/15", "7,37", "59", "*"])
HOURS = st.sampled_from(["*", "2", "1-4", "*/6", "0", "23", "*/5"])
DAYS = st.sampled_from([("*", "*", "*"), ("1", "*", "*"), ("*", "*", "1-5"), ("L", "*", "*"), ("*", "3,10", "SUN")])


def fields(parts: tuple[str, str, tuple[str, str, str]]) -> str:
    minute, hour, days = parts
    return " ".join((minute, hour, *days))


CRONS = st.tuples(MINUTES, HOURS, DAYS).map(fields)


@given(CRONS, ZONES, MOMENTS)
def test_times_increase_and_none_is_lost_by_where_one_starts(cron: str, zone: str, after: datetime) -> None:
    timing = Timing(cron=cron, timezone=zone)
    slots = list(islice(timing.slots(after), 30))
    assert slots == sorted(set(slots))
    assert slots[0] > after
    for slot, following in pairwise(slots):
        middle = slot + (following - slot) / 2
        assert timing.next_slot(middle) == following
        assert timing.last_slot(middle) == slot


@given(CRONS, ZONES, MOMENTS)
def test_each_time_is_what_the_expression_says_or_right_after_a_gap(cron: str, zone: str, after: datetime) -> None:
    minute = cron.split()[0]
    for slot in first_slots(Timing(cron=cron, timezone=zone), after=after, count=10):
        local = slot.astimezone(ZoneInfo(zone))
        before = (slot - MINUTE).astimezone(ZoneInfo(zone))
        is_after_gap = local.utcoffset() != before.utcoffset()
        assert is_after_gap or minute in ("*", "*/15", "7,37") or local.minute == int(minute)


def test_an_interval_counts_elapsed_time_from_its_start() -> None:
    """Also where clocks change: it is no wall-clock time."""
    timing = Timing(every_seconds=86_400, starts_at=utc("2026-10-24T00:30"), timezone="Europe/Berlin")
    assert first_slots(timing, after=utc("2026-10-23T00:00"), count=3) == [
        utc("2026-10-24T00:30"),
        utc("2026-10-25T00:30"),
        utc("2026-10-26T00:30"),
    ]
    assert timing.last_slot(utc("2026-10-25T00:29")) == utc("2026-10-24T00:30")
    assert timing.last_slot(utc("2026-10-24T00:29")) is None


def test_a_schedule_ends_with_its_last_time() -> None:
    timing = Timing(cron="@daily", starts_at=utc("2026-11-30T00:00"), ends_at=utc("2026-12-01T00:00"))
    assert list(timing.slots(NOW)) == [utc("2026-11-30T00:00"), utc("2026-12-01T00:00")]
    assert timing.last_slot(utc("2027-01-01T00:00")) == utc("2026-12-01T00:00")


def test_a_single_moment_comes_once() -> None:
    timing = Timing(at=utc("2026-12-01T06:00"))
    assert list(timing.slots(NOW)) == [utc("2026-12-01T06:00")]
    assert timing.next_slot(utc("2026-12-01T06:00")) is None


@given(st.integers(1, 100_000), st.text(max_size=20), MOMENTS)
def test_jitter_is_the_same_each_time_and_ends_before_the_next_time(seconds: int, key: str, after: datetime) -> None:
    timing = Timing(cron="*/5 * * * *", jitter_seconds=seconds, key=key)
    slot, following = first_slots(timing, after=after, count=2)
    due_at = timing.due_at(slot)
    assert timing.due_at(slot) == due_at
    assert slot <= due_at < min(slot + timedelta(seconds=seconds), following)


def test_jitter_spreads() -> None:
    late = {
        Timing(cron="@hourly", jitter_seconds=600, key=str(key)).due_at(utc("2026-11-26T13:00")) for key in range(100)
    }
    assert len(late) == 100
    assert max(late) - min(late) > timedelta(seconds=500)


@pytest.mark.parametrize(
    ("timing", "field", "reason"),
    [
        ({}, "cron", "required, or every_seconds, or at"),
        ({"cron": "@daily", "every_seconds": 5, "starts_at": NOW}, "every_seconds", "cannot be combined with cron"),
        ({"cron": "@daily", "at": NOW}, "at", "cannot be combined with cron"),
        ({"cron": "0 6 * *"}, "cron", "must have 5 fields"),
        ({"cron": "0 0 6 * * *"}, "cron", "must have 5 fields"),
        ({"cron": "@midnight"}, "cron", "is none of @hourly"),
        ({"cron": "61 6 * * *"}, "cron", "bad minute"),
        ({"cron": "0 0 30 2 *"}, "cron", "bad day-of-month"),
        ({"cron": "0 0 * * 5L/2"}, "cron", "bad day-of-week"),
        ({"cron": "@daily", "timezone": "Europe/Berln"}, "timezone", "Did you mean 'Europe/Berlin'"),
        ({"cron": "@daily", "timezone": "../../etc/passwd"}, "timezone", "is not a known time zone"),
        ({"cron": "@daily", "timezone": "localtime"}, "timezone", "is not a known time zone"),
        ({"cron": "@daily", "starts_at": NOW, "ends_at": NOW - MINUTE}, "ends_at", "must not be before starts_at"),
    ],
)
def test_what_is_refused(timing: dict[str, Any], field: str, reason: str) -> None:
    found = dict(problems(Timing(**timing)))
    assert reason in found[field]


@pytest.mark.parametrize(
    ("timing", "field"),
    [
        ({"at": NOW}, "at"),
        ({"cron": "0 0 29 2 *", "ends_at": utc("2027-12-31T00:00")}, "ends_at"),
        ({"cron": "0 0 */30 2 *"}, None),
        ({"cron": "0 0 31 2 1"}, None),
    ],
)
def test_a_schedule_that_would_never_run_is_refused(timing: dict[str, Any], field: str | None) -> None:
    """Where days of the month and of the week are both given, either is enough."""
    assert problems(Timing(**timing)) == []
    found = never_fires(Timing(**timing), after=NOW)
    assert (found and found[0]) == field


@given(
    st.text(st.characters(max_codepoint=0x2FF), max_size=40) | st.from_regex(r"[0-9*/,\-L#W ]{5,20}", fullmatch=True)
)
def test_any_text_is_an_expression_or_refused(cron: str) -> None:
    timing = Timing(cron=cron, timezone="Europe/Berlin")
    if not problems(timing):
        timing.next_slot(NOW)
        assert in_words(timing)


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-12-01T06:00", "Europe/Berlin", "2026-12-01T05:00"),
        ("2026-12-01T06:00Z", "Europe/Berlin", "2026-12-01T06:00"),
        ("2026-12-01T06:00-05:00", "Europe/Berlin", "2026-12-01T11:00"),
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:00"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30"),
        ("2026-12-01", "America/New_York", "2026-12-01T05:00"),
    ],
)
def test_a_moment_without_an_offset_is_of_the_zone(text: str, zone: str, moment: str) -> None:
    assert read_moment("at", text, timezone=zone) == utc(moment)


@pytest.mark.parametrize("text", ["", "soon", "1999-12-31T00:00", "9999-12-31T23:59:59-23:59", "2026-13-01"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(InvalidParams, match="at: "):
        read_moment("at", text, timezone="UTC")


@pytest.mark.parametrize(
    ("timing", "words"),
    [
        ({"cron": "0 6 * * 1-5", "timezone": "Europe/Berlin"}, "At 06:00 on Monday through Friday (Europe/Berlin)"),
        ({"cron": "@hourly"}, "At the start of every hour (UTC)"),
        ({"every_seconds": 60}, "Every minute"),
        ({"every_seconds": 5400}, "Every 1 hour and 30 minutes"),
        ({"every_seconds": 7}, "Every 7 seconds"),
        (
            {"at": utc("2026-12-01T05:00"), "timezone": "Europe/Berlin"},
            "Once, at 06:00 on 1 December 2026 (Europe/Berlin)",
        ),
    ],
)
def test_times_in_words(timing: dict[str, Any], words: str) -> None:
    assert in_words(Timing(**timing)) == words
