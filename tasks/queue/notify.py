"""Notifications: tell other processes at once that something was committed.

SQLite counts the commits of other connections (`PRAGMA data_version`). Reading the counter takes
microseconds, so a sleeping thread polls it often during traffic and seldom otherwise. PostgreSQL
notifies its listeners (NOTIFY, at commit). A notification is only a hint: a listener that gets one
reads the rows, and also reads them now and then without one.
"""

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any, Final, Literal

import psycopg
from django.conf import settings
from django.db import connection, transaction

from apflow_site.db.connections import IS_SQLITE

Topic = Literal["apflow_runs", "apflow_events"]
RUNS: Final = "apflow_runs"
"""For workers: a run waits, or a running one has a request (cancel, answer, webhook)."""
EVENTS: Final = "apflow_events"
"""For subscribers: events were written."""

HOT_SECONDS = 1.0
HOT_LOOK_SECONDS = 0.001
LISTEN_SECONDS = 0.5
COLD_LOOK_SECONDS = 0.02


def send(topic: Topic) -> None:
    """Notify when the current transaction commits. On SQLite the commit itself is the notification."""
    if IS_SQLITE:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [topic])
    if settings.APFLOW.redis.url is not None:
        transaction.on_commit(partial(_redis_notifier().publish, topic))


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
    """A thread that calls `on_ring` for each notification while a caller is `attentive`."""

    def __init__(self, topic: Topic, on_ring: Callable[[], object]) -> None:
        self._topic = topic
        self._on_ring = on_ring
        self._awake = threading.Event()
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


def listen(topic: Topic) -> Notifier:
    """Return a notifier that receives every notification from now on."""
    if IS_SQLITE:
        return SqliteNotifier(str(connection.settings_dict["NAME"]))
    own = PostgresNotifier(connection.get_connection_params(), topic)
    url = settings.APFLOW.redis.url
    return own if url is None else _redis_notifier().listen(own, url, topic)


def _redis_notifier() -> Any:
    """Import on first use: Redis's library takes a twelfth of each start, and few use Redis."""
    return import_module("tasks.queue.notify_redis")


class SqliteNotifier(Notifier):
    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._seen = self._commits()
        self._hot_until = 0.0

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while True:
            commits = self._commits()
            now = time.monotonic()
            if commits != self._seen:
                self._seen, self._hot_until = commits, now + HOT_SECONDS
                return True
            if now >= deadline:
                return False
            time.sleep(min(HOT_LOOK_SECONDS if now < self._hot_until else COLD_LOOK_SECONDS, deadline - now))

    def rest_until(self, awake: threading.Event) -> None:
        awake.wait()

    def close(self) -> None:
        self._connection.close()

    def _commits(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


class PostgresNotifier(Notifier):
    def __init__(self, parameters: dict[str, object], topic: Topic) -> None:
        self._parameters = {key: value for key, value in parameters.items() if key not in ("cursor_factory", "context")}
        self._topic = topic
        self._connection: psycopg.Connection | None = None
        with suppress(psycopg.OperationalError):  # the server is unavailable; `wait` retries
            self._listen()

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                if self._connection is None:
                    self._listen()
                    return True  # notifications in the meantime are lost: tell the caller to read
                return self._notified(max(0.0, deadline - time.monotonic()))
            except psycopg.OperationalError:
                self.close()
                if time.monotonic() >= deadline:
                    return False
                time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))

    def rest_until(self, awake: threading.Event) -> None:
        """Do nothing: listening is free, and not reading is harmful.

        Once the pipe to a listener that does not read is full, its backend hangs, PostgreSQL keeps
        every notification for it, and databases cannot be dropped.
        """

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _listen(self) -> None:
        self._connection = psycopg.connect(**self._parameters, autocommit=True)  # type: ignore[arg-type]
        self._connection.execute(f"LISTEN {self._topic}")

    def _notified(self, timeout_seconds: float) -> bool:
        assert self._connection is not None  # noqa: S101
        return any(True for _ in self._connection.notifies(timeout=timeout_seconds, stop_after=1))
