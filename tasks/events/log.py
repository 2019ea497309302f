"""The event log: read the events of all runs from a position, or of one run."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import orjson
from django.db import connection

Event = dict[str, Any]

PAGE: Final = 500
FIRST: Final = 20
"""How many events of a page are read first, to learn how large they are."""
PAGE_CHARACTERS: Final = 8 * 2**20
"""No more events are read for a page that has so many characters."""
WINDOW: Final = 1_000
"""When a reader starts, gaps among this many of the newest ids may belong to uncommitted events."""
HOLE_SECONDS: Final = 30.0
"""An id that is missing for longer than any of our transactions lasts was rolled back."""
MAX_HOLES: Final = 100

OF_RUN: Final = "SELECT payload FROM tasks_taskevent WHERE run_id = %s AND seq > %s ORDER BY seq LIMIT %s"
NEWEST: Final = "SELECT coalesce(max(id), 0) FROM tasks_taskevent"
IDS: Final = "SELECT id FROM tasks_taskevent WHERE id > %s AND id <= %s ORDER BY id"
NEWS: Final = (
    "SELECT e.id, e.run_id, r.user_id, e.payload FROM tasks_taskevent e JOIN tasks_run r ON r.id = e.run_id "
    "WHERE e.id > %s{holes} ORDER BY e.id LIMIT %s"
)


class Row(NamedTuple):
    """An event of any run: `payload` is its JSON, `owner` the id of the run's owner."""

    id: int
    run_id: str
    owner: str
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

    An event contains a whole result, so a page is limited by its size too.
    """
    page: list[Event] = []
    characters = 0
    wanted = FIRST
    while len(page) < PAGE and characters < PAGE_CHARACTERS:
        asked = min(wanted, PAGE - len(page))
        with connection.cursor() as cursor:
            cursor.execute(OF_RUN, [run_id, page[-1]["seq"] if page else after, asked])
            payloads = [payload for (payload,) in cursor.fetchall()]
        page += map(orjson.loads, payloads)
        characters += sum(map(len, payloads))
        if len(payloads) < asked:
            return page, True
        wanted = PAGE if characters * PAGE < PAGE_CHARACTERS * FIRST else FIRST
    return page, False


class LogReader:
    """A position in the log of all runs; `news` returns the events committed since the last call.

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

    def news(self, *, limit: int) -> list[Row]:
        """Return up to `limit` new events. If there are `limit` of them, there may be more."""
        now = time.monotonic()
        self._holes = [hole for hole in self._holes if hole.until > now][-MAX_HOLES:]
        numbers = [number for hole in self._holes for number in (hole.first, hole.last)]
        statement = NEWS.format(holes=" OR e.id BETWEEN %s AND %s" * len(self._holes))
        with connection.cursor() as cursor:
            cursor.execute(statement, [self._newest, *numbers, limit])
            rows = [Row(*row) for row in cursor.fetchall()]
        if rows:
            self._move([row.id for row in rows])
        return rows

    def _move(self, found: Sequence[int]) -> None:
        newest = max(self._newest, found[-1])
        filled = [piece for hole in self._holes for piece in _pieces(hole, found)]
        self._holes = filled + _holes_in(self._newest + 1, newest, found)
        self._newest = newest


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
