"""The hub: one thread per process that reads each new event once, for all subscribers."""

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
from apflow_site.db.connections import refresh
from tasks.events.log import Event, LogReader, Row
from tasks.events.subscription import Room, Subscription
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

T = TypeVar("T")
Following = AbstractAsyncContextManager[Subscription]
"""While it is entered, the subscription misses nothing that is committed."""
Delivery = tuple[Subscription, str, list[Event], int]


class Hub:
    """Delivers new events to subscriptions. It sleeps while there are none."""

    def __init__(self) -> None:
        self._of_runs: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._of_callers: defaultdict[Caller, set[Subscription]] = defaultdict(set)
        self._room = Room()
        self._lock = threading.Lock()
        self._is_followed = threading.Event()
        self._is_listening = False
        self._is_closed = False
        threading.Thread(target=self._run, name="hub", daemon=True).start()

    def of_run(self, run_id: str) -> Following:
        """Return a subscription to the events of a run."""
        return self._following(self._of_runs, run_id)

    def of_caller(self, caller: Caller) -> Following:
        """Return a subscription to the events of all runs that the caller may see."""
        return self._following(self._of_callers, caller)

    @asynccontextmanager
    async def _following(
        self, subscriptions: defaultdict[T, set[Subscription]], topic: T
    ) -> AsyncIterator[Subscription]:
        subscription = Subscription(self._room)
        with self._lock:
            subscriptions[topic].add(subscription)
            self._is_followed.set()
            if self._is_closed:
                subscription.close()
            elif self._is_listening:
                subscription.open()
        try:
            await subscription.opened()
            yield subscription
        finally:
            subscription.close()
            with self._lock:
                subscriptions[topic].discard(subscription)
                if not subscriptions[topic]:
                    del subscriptions[topic]

    def close(self) -> None:
        """End all subscriptions, present and future: the process is stopping.

        Callable from any thread.
        """
        with self._lock:
            self._is_closed = True
            subscriptions = self._all_subscriptions()
        for subscription in subscriptions:
            _call(subscription.loop, subscription.close)

    def _all_subscriptions(self) -> list[Subscription]:
        return [
            subscription
            for subscriptions in [*self._of_runs.values(), *self._of_callers.values()]
            for subscription in subscriptions
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
                        self._is_listening = True
                        subscriptions = self._all_subscriptions()
                    for subscription in subscriptions:
                        _call(subscription.loop, subscription.open)
                    self._hand_out(log, notifier)

    def _hand_out(self, log: LogReader, notifier: Notifier) -> None:
        followed_at = time.monotonic()
        while time.monotonic() < followed_at + LINGER_SECONDS or not self._has_stopped():
            notifier.wait(LOOK_SECONDS)
            with self._lock:
                followers = len(self._all_subscriptions())
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
            if self._all_subscriptions():
                return False
            self._is_listening = False
            self._is_followed.clear()
            return True

    def _deliver(self, rows: Iterable[Row]) -> list[threading.Event]:
        """Hand the events to the loops of their subscribers. Returns what each loop sets when it has them."""
        deliveries: defaultdict[AbstractEventLoop, list[Delivery]] = defaultdict(list)
        for run_id, of_run in groupby(sorted(rows, key=attrgetter("run_id")), key=attrgetter("run_id")):
            news = list(of_run)
            with self._lock:
                subscriptions = set(self._of_runs.get(run_id, ()))
                for caller, of_caller in self._of_callers.items():
                    if caller.sees_all or caller.user_id == news[0].owner:  # the rule of `Run.objects.for_caller`
                        subscriptions |= of_caller
            events = [orjson.loads(row.payload) for row in news] if subscriptions else []
            size = sum(len(row.payload) for row in news)
            for subscription in subscriptions:
                deliveries[subscription.loop].append((subscription, run_id, events, size))
        taken = {loop: threading.Event() for loop in deliveries}
        for loop, batch in deliveries.items():
            _call(loop, partial(_put_all, batch, taken[loop]))
        return list(taken.values())


def _put_all(deliveries: Iterable[Delivery], taken: threading.Event) -> None:
    for subscription, run_id, events, size in deliveries:
        subscription.put(run_id, events, size=size)
    taken.set()


def _call(loop: AbstractEventLoop, function: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and its subscribers with it
        loop.call_soon_threadsafe(function)


@cache
def this_hub() -> Hub:
    """Return the hub of this process."""
    return Hub()
