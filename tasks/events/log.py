"""The event log: read the events of all runs from a position, or of one run."""

import time
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, Final, NamedTuple

import orjson
from django.db import connection

from tasks.storage.loads import sized

Event = dict[str, Any]

PAGE: Final = 500
PAGE_BYTES: Final = 256 * 1024
"""A page of one run has no further event after so many bytes. A slow follower keeps one in memory."""
NEWS_BYTES: Final = 4 * 2**20
"""The limit for events of all runs, which are delivered at once."""
WINDOW: Final = 1_000
"""When a reader starts, gaps among this many of the newest ids may belong to uncommitted events."""
HOLE_SECONDS: Final = 30.0
"""An id that is missing for longer than any of our transactions lasts was rolled back."""
MAX_HOLES: Final = 100

SIZES_OF_RUN: Final = sized(
    "SELECT octet_length(payload) FROM tasks_taskevent WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s"
)
OF_RUN: Final = "SELECT payload FROM tasks_taskevent WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s"
NEWEST: Final = "SELECT coalesce(max(id), 0) FROM tasks_taskevent"
IDS: Final = "SELECT id FROM tasks_taskevent WHERE id > %s AND id <= %s ORDER BY id"
OWNER: Final = "(SELECT user_id FROM tasks_run WHERE id = e.run_id)"
"""Not a join, for which PostgreSQL may read all runs: the plan is made while there are few."""
NEWS: Final = sized(
    "WITH news AS (SELECT e.id, octet_length(e.payload) AS size, sum(octet_length(e.payload)) OVER (ORDER BY e.id) AS upto "  # noqa: S608
    f"FROM tasks_taskevent e WHERE (e.id > %s{{holes}}) AND {OWNER} IS NOT NULL ORDER BY e.id LIMIT %s) "
    f"SELECT e.id, e.run_id, {OWNER}, e.type, e.payload, news.upto FROM news JOIN tasks_taskevent e ON e.id = news.id "
    "WHERE news.upto - news.size < %s ORDER BY e.id"
)


class Row(NamedTuple):
    """An event of any run, of a `type`: `payload` is its JSON, `owner` the id of the run's owner."""

    id: int
    run_id: str
    owner: str
    type: str
    payload: str


class Hole(NamedTuple):
    """A range of ids without events, which may still appear until `until` (monotonic clock)."""

    first: int
    last: int
    until: float


def read(*, run_id: str, after: int = 0, limit: int = PAGE) -> list[Event]:
    """Return the run's events after number `after`, in order, at most `limit`."""
    with connection.cursor() as cursor:
        cursor.execute(OF_RUN, [run_id, after, limit])
        return [orjson.loads(payload) for (payload,) in cursor.fetchall()]


def read_page(*, run_id: str, after: int = 0) -> tuple[list[Event], bool]:
    """Return the next events after number `after`, and whether these are all.

    An event contains a whole result, so a page is limited by its size too; it has at least one event.
    """
    with connection.cursor() as cursor:
        cursor.execute(SIZES_OF_RUN, [run_id, after, PAGE])
        sizes = [size for (size,) in cursor.fetchall()]
    before = [0, *accumulate(sizes)][: len(sizes)]
    count = sum(each < PAGE_BYTES for each in before)
    page = read(run_id=run_id, after=after, limit=count) if count else []
    return page, count == len(sizes) < PAGE


class LogReader:
    """A position in the log of all runs; `news` returns the events committed since the last call.

    `has_more`: it returned only the first of them.

    Ids are assigned in order, but PostgreSQL may commit them in any order. A missing id is
    therefore queried again for a while. The events of one run still arrive in order: their writer
    locks the run's row.
    """

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(NEWEST)
            (self._newest,) = cursor.fetchone()
            first = max(1, self._newest - WINDOW + 1)
            cursor.execute(IDS, [first - 1, self._newest])
            found = [number for (number,) in cursor.fetchall()]
        self._holes = _holes_in(first, self._newest, found)
        self.has_more = False

    def news(self, *, limit: int) -> list[Row]:
        """Return new events: at most `limit`, and no further ones after NEWS_BYTES."""
        now = time.monotonic()
        self._holes = [hole for hole in self._holes if hole.until > now][-MAX_HOLES:]
        numbers = [number for hole in self._holes for number in (hole.first, hole.last)]
        statement = NEWS.format(holes=" OR e.id BETWEEN %s AND %s" * len(self._holes))
        with connection.cursor() as cursor:
            cursor.execute(statement, [self._newest, *numbers, limit, NEWS_BYTES])
            found = cursor.fetchall()
        rows = [Row(*row[:-1]) for row in found]
        self.has_more = len(rows) == limit or (bool(rows) and found[-1][-1] >= NEWS_BYTES)
        if rows:
            ids = [row.id for row in rows]
            newest = max(self._newest, ids[-1])
            filled = [piece for hole in self._holes for piece in _pieces(hole, ids)]
            self._holes = filled + _holes_in(self._newest + 1, newest, ids)
            self._newest = newest
        return rows


def _holes_in(first: int, last: int, found: Iterable[int]) -> list[Hole]:
    return list(_pieces(Hole(first, last, time.monotonic() + HOLE_SECONDS), found))


def _pieces(hole: Hole, found: Iterable[int]) -> Iterator[Hole]:
    """Yield what remains of a hole after removing the ids found, which are in order."""
    first = hole.first
    for number in found:
        if hole.first <= number <= hole.last:
            if number > first:
                yield Hole(first, number - 1, hole.until)
            first = number + 1
    if first <= hole.last:
        yield Hole(first, hole.last, hole.until)
