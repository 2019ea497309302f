"""Notifications: tell other processes at once that something was committed.

On SQLite a commit is a notification of every topic. On PostgreSQL a thread of the process sends it
after the commit: by Redis, if there is one and it answers, and otherwise by NOTIFY. A notification is
only a hint: a listener that gets one reads the rows, and also reads them every few seconds without
one.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from apflow_site.db.connections import IS_SQLITE
from tasks.queue.notifier import Notifier, Topic
from tasks.queue.notify_sqlite import SELDOM, SqliteNotifier

RUNS: Final = "apflow_runs"
"""The channel for workers: a run waits, or a running one has a request (cancel, answer, webhook)."""
EVENTS: Final = "apflow_events"
"""The channel for subscribers: events were written."""
SCHEDULES: Final = "apflow_schedules"
"""The channel for the processes that fire schedules: one has changed, or is new."""

LISTEN_SECONDS = 5.0
"""The seconds after which a listener reads the rows without a notification: one is lost with a process that ends before it sends it."""
FLUSH_SECONDS: Final = 2.0
"""The seconds that the end of a process waits for its last notifications."""


def send(topic: Topic) -> None:
    """Notify once the current transaction has committed. On SQLite the commit itself is the notification."""
    if not IS_SQLITE:
        transaction.on_commit(partial(_sender(os.getpid()).send, topic))


class Sender:
    """Sends notifications on a thread of its own. Signals that wait meanwhile are sent together, each topic once.

    A NOTIFY in the transaction of the data would hold a lock of the whole server until the commit is
    flushed to the disk, so that no two of these commits are flushed together.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Topic | threading.Event] = SimpleQueue()
        url = settings.APFLOW.redis.url
        self._redis = _redis_notifier().Publisher(url) if url is not None else None
        self._postgres = _postgres_notifier().Publisher(connection.get_connection_params())
        threading.Thread(target=self._send_forever, name="notify", daemon=True).start()
        Finalize(None, self.flush, exitpriority=0)  # at the end of this process

    def send(self, topic: Topic) -> None:
        """Send soon. Returns at once."""
        self._waiting.put(topic)

    def flush(self) -> None:
        """Wait until what was to be sent is sent, for a while."""
        is_sent = threading.Event()
        self._waiting.put(is_sent)
        is_sent.wait(FLUSH_SECONDS)

    def _send_forever(self) -> None:
        while True:
            taken = {self._waiting.get()}
            with suppress(Empty):
                while True:
                    taken.add(self._waiting.get_nowait())
            topics = sorted(each for each in taken if isinstance(each, str))
            if topics and not (self._redis and self._redis.publish(topics)):
                self._postgres.publish(topics)
            for each in taken:
                if isinstance(each, threading.Event):
                    each.set()


@cache
def _sender(process_id: int) -> Sender:
    """One for each process: a forked process does not inherit the thread."""
    return Sender()


class Listener:
    """A thread that calls `on_ring` for each notification, and every LISTEN_SECONDS, while a caller is `attentive` or `always`."""

    def __init__(self, topic: Topic, on_ring: Callable[[], object], *, always: bool = False) -> None:
        self._topic = topic
        self._on_ring = on_ring
        self._awake = threading.Event()
        if always:
            self._awake.set()
        threading.Thread(target=self._listen, name="notifications", daemon=True).start()

    @contextmanager
    def attentive(self) -> Iterator[None]:
        self._awake.set()
        try:
            yield
        finally:
            self._awake.clear()

    def _listen(self) -> None:
        notifier = listen(self._topic)
        self._ring()  # what was sent before is lost
        while True:
            notifier.rest_until(self._awake)
            notifier.wait(LISTEN_SECONDS)
            self._ring()

    def _ring(self) -> None:
        if self._awake.is_set():
            self._on_ring()


def listen(topic: Topic, *, is_rare: bool = False) -> Notifier:
    """Return a notifier that receives every notification from now on, on SQLite up to a second late if it `is_rare`."""
    if IS_SQLITE:
        return SqliteNotifier(str(connection.settings_dict["NAME"]), polls=SELDOM if is_rare else None)
    own: Callable[[], Notifier] = partial(
        _postgres_notifier().PostgresNotifier, connection.get_connection_params(), topic
    )
    url = settings.APFLOW.redis.url
    return own() if url is None else _redis_notifier().RedisNotifier(own, url, topic)


def _postgres_notifier() -> Any:
    """Import on first use: psycopg takes a tenth of each start, and a server on SQLite needs none."""
    return import_module("tasks.queue.notify_postgres")


def _redis_notifier() -> Any:
    """Import on first use: Redis's library takes a twelfth of each start, and few use Redis."""
    return import_module("tasks.queue.notify_redis")
