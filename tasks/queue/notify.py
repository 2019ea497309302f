"""Notifications: tell other processes at once that something was committed.

On SQLite a commit is a notification of every topic. PostgreSQL notifies the listeners of a topic
(NOTIFY, at commit). A notification is only a hint: a listener that gets one reads the rows, and also
reads them now and then without one.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction

from apflow_site.db.connections import IS_SQLITE
from tasks.queue.notifier import Notifier, Topic
from tasks.queue.notify_sqlite import SELDOM, SqliteNotifier

RUNS: Final = "apflow_runs"
"""For workers: a run waits, or a running one has a request (cancel, answer, webhook)."""
EVENTS: Final = "apflow_events"
"""For subscribers: events were written."""
SCHEDULES: Final = "apflow_schedules"
"""For the processes that fire schedules: one has changed, or is new."""

LISTEN_SECONDS = 5.0

_HELD: Final[ContextVar[set[Topic] | None]] = ContextVar("held_notifications", default=None)
"""Those of the block `once`."""


def send(topic: Topic) -> None:
    """Notify when the current transaction commits. On SQLite the commit itself is the notification."""
    if IS_SQLITE:
        return
    if (held := _HELD.get()) is not None:
        held.add(topic)
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [topic])
    if settings.APFLOW.redis.url is not None:
        transaction.on_commit(partial(_redis_notifier().publish, topic))


@contextmanager
def once() -> Iterator[None]:
    """Send each notification of the block, which is a part of one transaction, at its end and once; none after an error."""
    held: set[Topic] = set()
    token = _HELD.set(held)
    try:
        yield
    finally:
        _HELD.reset(token)
    for topic in sorted(held):
        send(topic)


class Listener:
    """A thread that calls `on_ring` for each notification while a caller is `attentive`, or `always`."""

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
            if notifier.wait(LISTEN_SECONDS):
                self._ring()

    def _ring(self) -> None:
        if self._awake.is_set():
            self._on_ring()


def listen(topic: Topic, *, is_rare: bool = False) -> Notifier:
    """Return a notifier that receives every notification from now on, on SQLite up to a second late if it `is_rare`."""
    if IS_SQLITE:
        return SqliteNotifier(str(connection.settings_dict["NAME"]), polls=SELDOM if is_rare else None)
    own: Notifier = _postgres_notifier().PostgresNotifier(connection.get_connection_params(), topic)
    url = settings.APFLOW.redis.url
    return own if url is None else _redis_notifier().listen(own, url, topic)


def _postgres_notifier() -> Any:
    """Import on first use: psycopg takes a tenth of each start, and a server on SQLite needs none."""
    return import_module("tasks.queue.notify_postgres")


def _redis_notifier() -> Any:
    """Import on first use: Redis's library takes a twelfth of each start, and few use Redis."""
    return import_module("tasks.queue.notify_redis")
