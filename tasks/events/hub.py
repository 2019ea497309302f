"""The hub: one thread per process that reads each new event once, for all subscribers."""

import math
import threading
import time
from asyncio import AbstractEventLoop
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from functools import cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Final, TypeVar

import orjson
from django.db import DatabaseError

from accounts.callers import Caller
from apflow_site.db.connections import refresh
from tasks.events.log import Event, LogReader, Row
from tasks.events.subscription import EndOfRun, Follower, Room, Subscription
from tasks.queue import notify
from tasks.queue.notify import Notifier

PAGE: Final = 2_000
"""The maximum number of events per read."""
LOOK_SECONDS: Final = 5.0
"""The seconds after which the hub reads the log without a notification, in case one was lost."""
LINGER_SECONDS: Final = 5.0
"""The seconds that the hub stays awake for the next subscriber: many subscribe briefly, one after the
other.
"""
AWAY_SECONDS: Final = 0.2
"""The seconds that the hub waits when the database is unavailable."""
REST_SECONDS: Final = 20e-6
"""The hub's pause between two reads, per subscriber: events that arrive meanwhile are read
together.
"""

MOST_ENDS: Final = 1_000
"""The maximum number of finished runs whose status is cached, for requests that start to wait after the end."""

T = TypeVar("T")
F = TypeVar("F", bound=Follower)
Following = AbstractAsyncContextManager[Subscription]
"""While it is entered, the subscription misses nothing that is committed."""
Delivery = tuple[Follower, str, list[Event], int]


class Hub:
    """Delivers new events to subscriptions. It sleeps while there are none."""

    def __init__(self) -> None:
        self._of_runs: defaultdict[str, set[Follower]] = defaultdict(set)
        self._of_callers: defaultdict[Caller, set[Follower]] = defaultdict(set)
        self._ended: dict[str, tuple[str, float]] = {}
        """The status of runs that have ended, and when this was delivered."""
        self._knows_since = math.inf
        """The time after which each end that was committed is in `_ended`, or will be delivered."""
        self._room = Room()
        self._lock = threading.Lock()
        self._is_followed = threading.Event()
        self._is_listening = False
        self._is_closed = False
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    def of_run(self, run_id: str) -> Following:
        """Return a subscription to the events of a run."""
        return self._following(self._of_runs, run_id, Subscription(self._room))

    def of_caller(self, caller: Caller) -> Following:
        """Return a subscription to the events of all runs that the caller may see."""
        return self._following(self._of_callers, caller, Subscription(self._room))

    async def end_of(self, run_id: str, *, since: float, look: Callable[[], Awaitable[str | None]]) -> str | None:
        """Wait for the end of a run that had not ended at `since`, on the monotonic clock. Returns its status.

        If this hub does not know of all ends since then, it calls `look`, which reads the status of the
        run if that has ended. None: the process is stopping.
        """
        end = EndOfRun()
        async with self._following(self._of_runs, run_id, end):
            with self._lock:
                ended, _ = self._ended.get(run_id, (None, 0.0))
                is_known = since > self._knows_since
            if ended is None and not is_known:
                ended = await look()
            return ended or await end.status

    @asynccontextmanager
    async def _following(self, followers: defaultdict[T, set[Follower]], topic: T, follower: F) -> AsyncIterator[F]:
        with self._lock:
            followers[topic].add(follower)
            self._is_followed.set()
            if self._is_closed:
                follower.close()
            elif self._is_listening:
                follower.open()
        try:
            await follower.opened()
            yield follower
        finally:
            follower.close()
            with self._lock:
                followers[topic].discard(follower)
                if not followers[topic]:
                    del followers[topic]

    def close(self) -> None:
        """End all subscriptions, present and future: the process is stopping.

        Callable from any thread.
        """
        with self._lock:
            self._is_closed = True
            followers = self._all_followers()
        for follower in followers:
            _call(follower.loop, follower.close)

    def _all_followers(self) -> list[Follower]:
        return [
            follower for followers in [*self._of_runs.values(), *self._of_callers.values()] for follower in followers
        ]

    # --- on the hub's own thread ---

    def _run(self) -> None:
        while True:
            self._is_followed.wait()
            # Listen only while reading what arrives: see `PostgresNotifier`.
            with closing(notify.listen(notify.EVENTS)) as notifier:
                try:
                    refresh()
                    log = LogReader()
                except DatabaseError:
                    time.sleep(AWAY_SECONDS)  # subscribers keep waiting
                else:
                    with self._lock:
                        self._is_listening, self._knows_since = True, time.monotonic()
                        followers = self._all_followers()
                    for follower in followers:
                        _call(follower.loop, follower.open)
                    self._hand_out(log, notifier)

    def _hand_out(self, log: LogReader, notifier: Notifier) -> None:
        followed_at = time.monotonic()
        while time.monotonic() < followed_at + LINGER_SECONDS or not self._has_stopped():
            notifier.wait(LOOK_SECONDS)
            with self._lock:
                followers = len(self._all_followers())
                if not followers:  # this news is read with the next one: the end of a run may be in it
                    self._knows_since = time.monotonic()
            if followers:
                followed_at = time.monotonic()
                self._read_log(log)
                time.sleep(REST_SECONDS * followers)

    def _read_log(self, log: LogReader) -> None:
        try:
            refresh()
            taken = self._deliver(log.news(limit=PAGE))
            while log.has_more:
                for each in taken:  # a busy event loop must not get pages faster than it takes them
                    each.wait(LOOK_SECONDS)
                taken = self._deliver(log.news(limit=PAGE))
        except DatabaseError:
            time.sleep(AWAY_SECONDS)  # the next read continues at the same position

    def _has_stopped(self) -> bool:
        """Stop listening if there are no subscribers. Returns whether it stopped."""
        with self._lock:
            if self._all_followers():
                return False
            self._is_listening, self._knows_since = False, math.inf
            self._ended.clear()
            self._is_followed.clear()
            return True

    def _deliver(self, rows: Iterable[Row]) -> list[threading.Event]:
        """Hand the events to the loops of their subscribers. Returns what each loop sets when it has them."""
        deliveries: defaultdict[AbstractEventLoop, list[Delivery]] = defaultdict(list)
        for run_id, of_run in groupby(sorted(rows, key=attrgetter("run_id")), key=attrgetter("run_id")):
            news = list(of_run)
            status = orjson.loads(news[-1].payload)["status"] if news[-1].type == "final" else None
            with self._lock:
                if status is not None:
                    self._ended[run_id] = status, time.monotonic()
                    if len(self._ended) > MOST_ENDS:
                        _, self._knows_since = self._ended.pop(next(iter(self._ended)))
                followers = set(self._of_runs.get(run_id, ()))
                for caller, of_caller in self._of_callers.items():
                    if caller.sees_all or caller.user_id == news[0].owner:  # the rule of `Run.objects.for_caller`
                        followers |= of_caller
            events = [orjson.loads(row.payload) for row in news] if followers else []
            size = sum(len(row.payload) for row in news)
            for follower in followers:
                deliveries[follower.loop].append((follower, run_id, events, size))
        taken = {loop: threading.Event() for loop in deliveries}
        for loop, batch in deliveries.items():
            _call(loop, partial(_put_all, batch, taken[loop]))
        return list(taken.values())


def _put_all(deliveries: Iterable[Delivery], taken: threading.Event) -> None:
    for follower, run_id, events, size in deliveries:
        follower.put(run_id, events, size=size)
    taken.set()


def _call(loop: AbstractEventLoop, function: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and its subscribers with it
        loop.call_soon_threadsafe(function)


@cache
def this_hub() -> Hub:
    """Return the hub of this process."""
    return Hub()
