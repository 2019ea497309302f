"""The hub: one thread for each process that hears of new events, reads each once, and hands it to all who follow."""

import threading
import time
from asyncio import AbstractEventLoop
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from functools import cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Final, TypeVar

import orjson
from django.db import DatabaseError

from accounts.callers import Caller
from apflow_db.connections import refresh
from tasks.events.log import Event, LogReader, Row
from tasks.events.subscription import Subscription
from tasks.queue import notify

PAGE: Final = 2_000
"""Events that are read at once."""
LOOK_SECONDS: Final = 5.0
"""The hub looks at the log this often without being told, in case a ring was lost."""
LINGER_SECONDS: Final = 5.0
"""It stays awake so long for the next follower: many follow for a moment, one after the other."""
AWAY_SECONDS: Final = 0.2
"""So long it waits when the database is away."""
REST_SECONDS: Final = 20e-6
"""For each follower the hub rests so long between two looks: what comes meanwhile is read at once."""

T = TypeVar("T")
Following = AbstractAsyncContextManager[Subscription]
"""While it is entered the inbox misses nothing that is committed."""
Delivery = tuple[Subscription, str, list[Event]]


class Hub:
    """It sleeps while nobody follows anything."""

    def __init__(self) -> None:
        self._of_runs: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._of_callers: defaultdict[Caller, set[Subscription]] = defaultdict(set)
        self._lock = threading.Lock()
        self._is_followed = threading.Event()
        self._is_listening = False
        self._is_closed = False
        threading.Thread(target=self._live, name="hub", daemon=True).start()

    def of_run(self, run_id: str) -> Following:
        """An inbox for the events of a run."""
        return self._following(self._of_runs, run_id)

    def of_caller(self, caller: Caller) -> Following:
        """An inbox for the events of all runs that the caller may see."""
        return self._following(self._of_callers, caller)

    @asynccontextmanager
    async def _following(self, inboxes: defaultdict[T, set[Subscription]], topic: T) -> AsyncIterator[Subscription]:
        inbox = Subscription()
        with self._lock:
            inboxes[topic].add(inbox)
            self._is_followed.set()
            if self._is_closed:
                inbox.close()
            elif self._is_listening:
                inbox.open()
        try:
            await inbox.opened()
            yield inbox
        finally:
            with self._lock:
                inboxes[topic].discard(inbox)
                if not inboxes[topic]:
                    del inboxes[topic]

    def close(self) -> None:
        """All that follow, now or later, come to their end: the process is told to stop. From any thread."""
        with self._lock:
            self._is_closed = True
            inboxes = self._everybody()
        for inbox in inboxes:
            _call(inbox.loop, inbox.close)

    def _everybody(self) -> list[Subscription]:
        return [inbox for inboxes in [*self._of_runs.values(), *self._of_callers.values()] for inbox in inboxes]

    # --- on the hub's own thread ---

    def _live(self) -> None:
        while True:
            self._is_followed.wait()
            # Only who reads what it hears may listen: see `PostgresNotifier.rest_until`.
            with closing(notify.listen(notify.EVENTS)) as bell:
                try:
                    refresh()
                    log = LogReader()
                except DatabaseError:
                    time.sleep(AWAY_SECONDS)  # those who want to follow wait
                else:
                    self._let_in()
                    self._hand_out(log, bell)

    def _let_in(self) -> None:
        with self._lock:
            self._is_listening = True
            inboxes = self._everybody()
        for inbox in inboxes:
            _call(inbox.loop, inbox.open)

    def _hand_out(self, log: LogReader, bell: notify.Notifier) -> None:
        followed_at = time.monotonic()
        while time.monotonic() < followed_at + LINGER_SECONDS or not self._falls_asleep():
            bell.wait(LOOK_SECONDS)
            if followers := self._count():
                followed_at = time.monotonic()
                self._look(log)
                time.sleep(REST_SECONDS * followers)

    def _look(self, log: LogReader) -> None:
        try:
            refresh()
            while len(rows := log.news(limit=PAGE)) == PAGE:
                self._deliver(rows)
            self._deliver(rows)
        except DatabaseError:
            time.sleep(AWAY_SECONDS)  # next time the log is read on from the same place

    def _count(self) -> int:
        with self._lock:
            return len(self._everybody())

    def _falls_asleep(self) -> bool:
        """Unless somebody follows."""
        with self._lock:
            if self._everybody():
                return False
            self._is_listening = False
            self._is_followed.clear()
            return True

    def _deliver(self, rows: Iterable[Row]) -> None:
        deliveries: defaultdict[AbstractEventLoop, list[Delivery]] = defaultdict(list)
        for run_id, of_run in groupby(sorted(rows, key=attrgetter("run_id")), key=attrgetter("run_id")):
            news = list(of_run)
            inboxes = self._audience(run_id, news[0].owner)
            events = [orjson.loads(row.payload) for row in news] if inboxes else []
            for inbox in inboxes:
                deliveries[inbox.loop].append((inbox, run_id, events))
        for loop, theirs in deliveries.items():
            _call(loop, partial(_put_all, theirs))

    def _audience(self, run_id: str, owner: str) -> set[Subscription]:
        with self._lock:
            inboxes = set(self._of_runs.get(run_id, ()))
            for caller, theirs in self._of_callers.items():
                if caller.sees_all or caller.user_id == owner:  # as `Run.objects.for_caller` says of rows
                    inboxes |= theirs
        return inboxes


def _put_all(deliveries: Iterable[Delivery]) -> None:
    for inbox, run_id, events in deliveries:
        inbox.put(run_id, events)


def _call(loop: AbstractEventLoop, function: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and whoever followed on it
        loop.call_soon_threadsafe(function)


@cache
def this_hub() -> Hub:
    """The hub of this process."""
    return Hub()
