"""Notifications: tell other processes at once that something was committed.

SQLite counts the commits of other connections (`PRAGMA data_version`). A sleeping thread polls the
counter, often after a commit, and more seldom the longer there was none. PostgreSQL notifies its
listeners (NOTIFY, at commit). A notification is only a hint: a listener that gets one reads the
rows, and also reads them now and then without one.
"""

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any, Final, Literal

from django.conf import settings
from django.db import connection, transaction

from apflow_site.db.connections import IS_SQLITE

Topic = Literal["apflow_runs", "apflow_events", "apflow_schedules"]
RUNS: Final = "apflow_runs"
"""For workers: a run waits, or a running one has a request (cancel, answer, webhook)."""
EVENTS: Final = "apflow_events"
"""For subscribers: events were written."""
SCHEDULES: Final = "apflow_schedules"
"""For the processes that fire schedules: one has changed, or is new."""

LISTEN_SECONDS = 0.5
LOOK_SECONDS: Final = (0.001, 0.02)
"""The shortest and the longest pause between two looks at the counter of SQLite."""
SHARE_OF_QUIET: Final = 1 / 20
"""The pause between them as a part of the time since the last commit. A commit is noticed late by so much at most."""


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


class Notifier(ABC):
    """One listener with its own connection. Use it from one thread, and close it at the end."""

    @abstractmethod
    def wait(self, timeout_seconds: float) -> bool:
        """Block until a notification arrives; False after the timeout, or if the database is
        unavailable.
        """

    @abstractmethod
    def rest_until(self, awake: threading.Event) -> None:
        """Pause listening, if that saves work, until `awake` is set."""

    @abstractmethod
    def close(self) -> None: ...


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
        while True:
            notifier.rest_until(self._awake)
            if notifier.wait(LISTEN_SECONDS) and self._awake.is_set():
                self._on_ring()


def listen(topic: Topic, *, look_seconds: tuple[float, float] = LOOK_SECONDS) -> Notifier:
    """Return a notifier that receives every notification from now on. `look_seconds` is for SQLite only."""
    if IS_SQLITE:
        return SqliteNotifier(str(connection.settings_dict["NAME"]), look_seconds=look_seconds)
    own: Notifier = _postgres_notifier().PostgresNotifier(connection.get_connection_params(), topic)
    url = settings.APFLOW.redis.url
    return own if url is None else _redis_notifier().listen(own, url, topic)


def _postgres_notifier() -> Any:
    """Import on first use: psycopg takes a tenth of each start, and a server on SQLite needs none."""
    return import_module("tasks.queue.notify_postgres")


def _redis_notifier() -> Any:
    """Import on first use: Redis's library takes a twelfth of each start, and few use Redis."""
    return import_module("tasks.queue.notify_redis")


class SqliteNotifier(Notifier):
    def __init__(self, path: str, *, look_seconds: tuple[float, float] = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._seen = self._commits()
        self._quiet_since = float("-inf")

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while True:
            commits = self._commits()
            now = time.monotonic()
            if commits != self._seen:
                self._seen, self._quiet_since = commits, now
                return True
            if now >= deadline:
                return False
            time.sleep(min(pause_after(now - self._quiet_since, self._look_seconds), deadline - now))

    def rest_until(self, awake: threading.Event) -> None:
        awake.wait()

    def close(self) -> None:
        self._connection.close()

    def _commits(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def pause_after(quiet_seconds: float, look_seconds: tuple[float, float] = LOOK_SECONDS) -> float:
    """How long to wait before the next look at the counter of SQLite."""
    shortest, longest = look_seconds
    return min(max(shortest, quiet_seconds * SHARE_OF_QUIET), longest)
