"""The inbox of a follower: what has happened in the runs that it follows and that it has not taken yet."""

import asyncio
from collections.abc import Callable
from typing import Final

from apflow_db import pools
from tasks.events.log import PAGE, Event, read

MAX_WAITING: Final = 1_000
"""So many events wait for a slow follower; those after them it has to read from the rows."""
MAX_KNOWN: Final = 10_000
"""Of so many runs a follower remembers how far it has come."""
MAX_MISSED: Final = 10_000
"""A follower that has missed events of so many runs is not worth waiting for."""


def everything(event: Event) -> bool:
    return True


class Subscription:
    """It belongs to its follower's loop, and is touched there only.

    Of each run it hands out the events in order, without gap or duplicate. Of what does not fit it remembers the run and the number, and
    reads the rows when its follower comes: a slow follower costs itself time, and nobody memory.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.wants: Callable[[Event], bool] = everything
        self._waiting: list[Event] = []
        self._missed: dict[str, int] = {}
        self._expected: dict[str, int] = {}
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        self.is_over = False

    async def opened(self) -> None:
        """Return when nothing that is committed from now on can be missed."""
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        """There will be no more: `next` ends."""
        self.is_over = True
        self._opened.set()
        self._news.set()

    def put(self, run_id: str, events: list[Event]) -> None:
        """Some events of a run, in order."""
        wanted = events if self.wants is everything else [event for event in events if self.wants(event)]
        if not wanted or run_id in self._missed:
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting += wanted
        elif len(self._missed) < MAX_MISSED:
            self._missed[run_id] = wanted[0]["seq"]
        else:
            self.close()
        self._news.set()

    def rewind(self, run_id: str, *, after: int | None = None) -> None:
        """Hand out the events of the run from the one after this number on; None: from the first that was not handed out."""
        seq = self._expected.get(run_id, 1) if after is None else after + 1
        self._expected[run_id] = seq
        self._miss(run_id, seq)

    def reached(self, run_id: str) -> int:
        """The number up to which the run was handed out."""
        return self._expected.get(run_id, 1) - 1

    def is_due(self, event: Event) -> bool:
        """Whether an event that was handed out still counts. After a rewind it comes again."""
        return bool(event["seq"] < self._expected.get(event["run_id"], event["seq"] + 1))

    async def next(self) -> list[Event]:
        """The next events, as soon as there are some. Empty: there will be no more."""
        while not self.is_over:
            await self._news.wait()
            events = self._from_waiting()
            if self._missed:
                events += await self._from_rows()
            if not (self._waiting or self._missed or self.is_over):
                self._news.clear()
            if events:
                return events
        return []

    def _from_waiting(self) -> list[Event]:
        waiting, self._waiting = self._waiting, []
        return [event for event in waiting if self._is_next(event)]

    async def _from_rows(self) -> list[Event]:
        run_id, seq = self._missed.popitem()
        # From here on the hub's news of this run wait again; what the rows have of them already is not handed out twice.
        page = await pools.read(read, run_id=run_id, after=seq - 1)
        if len(page) == PAGE:
            self._miss(run_id, page[-1]["seq"] + 1)
        for event in page:
            self._reach(event)
        return [event for event in page if self.wants(event)]

    def _miss(self, run_id: str, seq: int) -> None:
        self._missed[run_id] = seq
        self._waiting = [event for event in self._waiting if event["run_id"] != run_id]
        self._news.set()

    def _is_next(self, event: Event) -> bool:
        """False for one that was handed out, and for one after a gap, which the rows fill."""
        run_id, seq = event["run_id"], event["seq"]
        if seq != self._expected.get(run_id, seq):
            if seq > self._expected[run_id] and run_id not in self._missed:
                self._missed[run_id] = self._expected[run_id]
                self._news.set()
            return False
        self._reach(event)
        return True

    def _reach(self, event: Event) -> None:
        self._expected.pop(event["run_id"], None)  # what was reached last stands last
        self._expected[event["run_id"]] = event["seq"] + 1
        if len(self._expected) > MAX_KNOWN:
            del self._expected[next(iter(self._expected))]
