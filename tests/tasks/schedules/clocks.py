"""What schedules do when clocks change: a table that was worked out by hand from the rules of three zones.

Each row: the zone, the expression, a moment in UTC, and the times after it in UTC.
"""

from typing import Final

#: Europe/Berlin: 2026-03-29 02:00 +1 becomes 03:00 +2 (01:00 UTC); 2026-10-25 03:00 +2 becomes 02:00 +1 (01:00 UTC).
#: America/New_York: 2026-03-08 02:00 -5 becomes 03:00 -4 (07:00 UTC); 2026-11-01 02:00 -4 becomes 01:00 -5 (06:00 UTC).
#: Australia/Lord_Howe, by half an hour: 2026-10-04 02:00 +10:30 becomes 02:30 +11 (2026-10-03 15:30 UTC);
#: 2026-04-05 02:00 +11 becomes 01:30 +10:30 (2026-04-04 15:00 UTC).
TABLE: Final = (
    # A fixed time that does not exist: the first moment after.
    ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00", ("2026-03-29T01:00", "2026-03-30T00:30")),
    ("America/New_York", "30 2 * * *", "2026-03-07T12:00", ("2026-03-08T07:00", "2026-03-09T06:30")),
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-02T18:00", ("2026-10-03T15:30", "2026-10-04T15:15")),
    # Two of them on one day are one.
    ("Europe/Berlin", "0,30 2 * * *", "2026-03-28T12:00", ("2026-03-29T01:00", "2026-03-30T00:00")),
    ("Europe/Berlin", "0 2,3 * * *", "2026-03-28T12:00", ("2026-03-29T01:00", "2026-03-30T00:00")),
    # A wildcard skips what does not exist.
    ("Europe/Berlin", "0 * * * *", "2026-03-28T23:30", ("2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00")),
    ("America/New_York", "30 * * * *", "2026-03-08T06:00", ("2026-03-08T06:30", "2026-03-08T07:30")),
    ("Australia/Lord_Howe", "0 * * * *", "2026-10-03T14:00", ("2026-10-03T14:30", "2026-10-03T16:00")),
    ("Europe/Berlin", "*/30 2 * * *", "2026-03-28T12:00", ("2026-03-30T00:00", "2026-03-30T00:30")),
    # A fixed time that comes twice: once, at its first.
    ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00", ("2026-10-25T00:30", "2026-10-26T01:30")),
    ("America/New_York", "30 1 * * *", "2026-10-31T12:00", ("2026-11-01T05:30", "2026-11-02T06:30")),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-03T18:00", ("2026-04-04T14:45", "2026-04-05T15:15")),
    # Also when the first has passed, and the clock shows the second.
    ("Europe/Berlin", "30 2 * * *", "2026-10-25T01:10", ("2026-10-26T01:30",)),
    ("America/New_York", "30 1 * * *", "2026-11-01T06:10", ("2026-11-02T06:30",)),
    # A wildcard runs each time.
    ("Europe/Berlin", "0 * * * *", "2026-10-24T23:30", ("2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00")),
    (
        "America/New_York",
        "15 * * * *",
        "2026-11-01T05:00",
        ("2026-11-01T05:15", "2026-11-01T06:15", "2026-11-01T07:15"),
    ),
    (
        "Australia/Lord_Howe",
        "45 * * * *",
        "2026-04-04T14:00",
        ("2026-04-04T14:45", "2026-04-04T15:15", "2026-04-04T16:15"),
    ),
    (
        "Europe/Berlin",
        "*/30 2 * * *",
        "2026-10-24T12:00",
        ("2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-26T01:00"),
    ),
    # Away from the change, the wall clock decides.
    ("Europe/Berlin", "0 6 * * 1-5", "2026-03-27T04:00", ("2026-03-27T05:00", "2026-03-30T04:00")),
    ("Europe/Berlin", "@daily", "2026-10-24T12:00", ("2026-10-24T22:00", "2026-10-25T23:00")),
    ("America/New_York", "@hourly", "2026-03-08T06:30", ("2026-03-08T07:00", "2026-03-08T08:00")),
    ("UTC", "30 2 * * *", "2026-03-28T12:00", ("2026-03-29T02:30", "2026-03-30T02:30")),
)
