"""A subscriber's bounded buffer of undelivered events; overflow is read again from the rows."""

import asyncio
import threading
from collections.abc import Callable
from typing import Final, Protocol

from apflow_site.db import pools
from tasks.events.log import Event, read_page

MAX_WAITING: Final = 1_000
"""The maximum number of buffered events; a slow subscriber reads later ones from the rows."""
MAX_WAITING_BYTES: Final = 2**20
"""The size of the buffer. A single larger event fits into an empty one."""
PROCESS_BYTES: Final = 128 * 2**20
"""The size of all buffers of a process."""
MAX_KNOWN: Final = 10_000
"""The number of runs of which a subscription remembers the position."""
MAX_MISSED: Final = 10_000
"""A subscription that has missed events of more runs than this is closed."""


class Room:
    """The bytes in all buffers of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, size: int) -> bool:
        """Take so many bytes. False: there is no room."""
        with self._lock:
            if self._taken + size > PROCESS_BYTES:
                return False
            self._taken += size
            return True

    def give_back(self, size: int) -> None:
        with self._lock:
            self._taken -= size


def everything(event: Event) -> bool:
    return True


class Follower(Protocol):
    """A receiver of the hub's events. It belongs to its event loop."""

    loop: asyncio.AbstractEventLoop

    async def opened(self) -> None:
        """Wait for `open` or `close`."""

    def open(self) -> None:
        """Note that no event that is committed from now on can be missed."""

    def close(self) -> None:
        """Note that no more events come."""

    def put(self, run_id: str, events: list[Event], *, size: int = 0) -> None:
        """Take some events of a run, in order; all of them have `size` bytes."""


class EndOfRun:
    """A wait for the end of one run. `status` ends with the run's status, or with None if no more events come."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.status: asyncio.Future[str | None] = self.loop.create_future()
        self._opened = asyncio.Event()

    async def opened(self) -> None:
        """Wait until an end that is committed from now on cannot be missed."""
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._end(None)
        self._opened.set()

    def put(self, run_id: str, events: list[Event], *, size: int = 0) -> None:
        if events[-1]["type"] == "final":
            self._end(events[-1]["status"])

    def _end(self, status: str | None) -> None:
        if not self.status.done():
            self.status.set_result(status)


class Subscription:
    """Belongs to its subscriber's event loop and must be used only there.

    It returns the events of each run in order, without gaps or duplicates. When the buffer is full
    it remembers only the run and the number of the first missed event, and reads the rows when the
    subscriber asks for more: a slow subscriber costs time of its own, and no memory.
    """

    def __init__(self, room: Room | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.wants: Callable[[Event], bool] = everything
        self._waiting: list[Event] = []
        self._waiting_bytes = 0
        self._room = room or Room()
        self._missed: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        self.is_over = False

    async def opened(self) -> None:
        """Wait until no event that is committed from now on can be missed."""
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        """End the subscription: `next` returns no more events."""
        self.is_over = True
        self._empty()
        self._opened.set()
        self._news.set()

    def put(self, run_id: str, events: list[Event], *, size: int = 0) -> None:
        """Buffer some events of a run, in order; all of them have `size` bytes."""
        wanted = self._wanted(events)
        if not wanted or run_id in self._missed or self.is_over:
            return
        fits = self._waiting_bytes + size <= MAX_WAITING_BYTES and len(self._waiting) < MAX_WAITING
        is_alone = len(wanted) == 1 and not self._waiting and MAX_WAITING > 0
        if (fits or is_alone) and self._room.take(size):
            self._waiting += wanted
            self._waiting_bytes += size
        elif len(self._missed) < MAX_MISSED:
            self._missed[run_id] = wanted[0]["seq"]
        else:
            self.close()
        self._news.set()

    def _empty(self) -> list[Event]:
        """Take all events out of the buffer."""
        waiting, self._waiting = self._waiting, []
        self._room.give_back(self._waiting_bytes)
        self._waiting_bytes = 0
        return waiting

    def rewind(self, run_id: str, *, after: int | None = None) -> None:
        """Deliver the run's events after number `after` again; None: from the first undelivered
        one.
        """
        seq = self._expected.get(run_id, 1) if after is None else after + 1
        self._expected[run_id] = seq
        self._miss(run_id, seq)

    def reached(self, run_id: str) -> int:
        """Return the number of the last event of the run that was delivered."""
        return self._expected.get(run_id, 1) - 1

    def is_due(self, event: Event) -> bool:
        """Return whether a delivered event is still current. After a rewind it is delivered again."""
        return bool(event["seq"] < self._expected.get(event["run_id"], event["seq"] + 1))

    async def next(self) -> list[Event]:
        """Wait for the next events and return them. An empty list: the subscription has ended."""
        while not self.is_over:
            await self._news.wait()
            events = [event for event in self._empty() if self._is_next(event)]
            if self._missed:
                run_id, seq = self._missed.popitem()
                # New events of this run are buffered again from here on; those that the rows already
                # contain are not repeated.
                page, are_all = await pools.read(read_page, run_id=run_id, after=seq - 1)
                if page and not are_all:
                    self._miss(run_id, page[-1]["seq"] + 1)
                if page:
                    self._reach(page[-1])
                events += self._wanted(page)
            if not (self._waiting or self._missed or self.is_over):
                self._news.clear()
            if events:
                return events
        return []

    def _wanted(self, events: list[Event]) -> list[Event]:
        return events if self.wants is everything else [event for event in events if self.wants(event)]

    def _miss(self, run_id: str, seq: int) -> None:
        self._missed[run_id] = seq
        self._waiting = [
            event for event in self._waiting if event["run_id"] != run_id
        ]  # still counted, until it is empty
        self._news.set()

    def _is_next(self, event: Event) -> bool:
        """Return whether the event is due: not yet delivered, and not after a gap, which the rows fill."""
        run_id, seq = event["run_id"], event["seq"]
        if seq != self._expected.get(run_id, seq):
            if seq > self._expected[run_id] and run_id not in self._missed:
                self._missed[run_id] = self._expected[run_id]
                self._news.set()
            return False
        self._reach(event)
        return True

    def _reach(self, event: Event) -> None:
        self._expected.pop(event["run_id"], None)  # moves the most recent run to the end
        self._expected[event["run_id"]] = event["seq"] + 1
        if len(self._expected) > MAX_KNOWN:
            del self._expected[next(iter(self._expected))]
