"""Notifications: tell other processes at once that something was committed.

On SQLite a commit is a notification of every topic. On PostgreSQL a thread of the process sends it
after the commit: by Redis, if there is one and it answers, and otherwise by NOTIFY. A notification is
only a hint: a listener that gets one reads the rows, and also reads them every few seconds without
one.

SQLite counts the commits of other connections (`PRAGMA data_version`). A thread looks at the counter when the kernel
reports a write to the log of the database, often until it has seen the commit, and then a few times for another one that
was written meanwhile. Where the kernel reports none, the thread polls the counter, often after a commit, and more seldom
the longer there was none.
"""

import ctypes
import math
import os
import select
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib import import_module
from multiprocessing.util import Finalize
from typing import Any, Final, Literal, NamedTuple

from django.conf import settings
from django.db import connection, transaction

from apflow_site.db.connections import IS_SQLITE

Topic = Literal["apflow_runs", "apflow_events", "apflow_schedules"]
MODIFIED: Final = 0x2  # IN_MODIFY
MOST_BYTES: Final = 1 << 16
LEAST_WATCH_SECONDS: Final = 0.001
"""The kernel's waits are no shorter."""
DEAF_SECONDS: Final = 5.0
"""No flush takes so long: a commit that appears later after the last write that was heard was itself not heard."""
RUNS: Final = "apflow_runs"
"""The channel for workers: a run waits, or a running one has a request (cancel, answer, webhook)."""
EVENTS: Final = "apflow_events"
"""The channel for subscribers: events were written."""
SCHEDULES: Final = "apflow_schedules"
"""The channel for the processes that fire schedules: one has changed, or is new."""
LISTEN_SECONDS = 5.0
"""The seconds after which a listener reads the rows without a notification: one is lost with a process that ends before it sends it."""
TOGETHER_SECONDS: Final = 0.002
"""The pause of a process after what it has sent: what comes meanwhile is sent together."""
LATER_SECONDS: Final = 0.01
"""The seconds that a notification may wait for others if no request waits for it: those of a chain's steps are sent together."""
FLUSH_SECONDS: Final = 2.0
"""The seconds that the end of a process waits for its last notifications."""


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


class FileWatch:
    """Use it from one thread, and close it at the end."""

    def __init__(self, path: str) -> None:
        """Raise OSError if there is no such file or no inotify, or if this user has no instance of it left."""
        self._events = _call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _call("inotify_add_watch", self._events, os.fsencode(path), MODIFIED)
        except OSError:
            self.close()
            raise
        self._ready = select.poll()
        self._ready.register(self._events, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Block until the file is written to. Returns at once if it was since the last call, and False after the time."""
        if not self._ready.poll(math.ceil(seconds * 1000)):
            return False
        with suppress(BlockingIOError):
            while os.read(self._events, MOST_BYTES):
                pass
        return True

    def close(self) -> None:
        os.close(self._events)


def _call(name: str, *args: int | bytes) -> int:
    """Call a function of the C library. Raises OSError."""
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None:
        raise OSError(f"This system has no {name}")
    result = function(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Looks(NamedTuple):
    """The pauses between two looks of a listener at the counter: they grow with the time since it heard of the database."""

    shortest_seconds: float
    longest_seconds: float
    share_of_quiet: float
    """The pause in proportion to that time. A commit that was not heard is noticed late by so much at most."""

    def pause(self, quiet_seconds: float) -> float:
        """Return the seconds until the next look."""
        return min(max(self.shortest_seconds, quiet_seconds * self.share_of_quiet), self.longest_seconds)


POLLED: Final = Looks(0.001, 0.02, 1 / 20)
WATCHED: Final = Looks(0.0002, 2.0, 1 / 4)
"""A commit appears a little after the write that is heard, when it has been flushed."""
SEEN: Final = Looks(0.0002, 2.0, 9)
"""The pauses after a commit has appeared. The kernel may report nothing of another one that was written before that, but that is rare."""
SELDOM: Final = Looks(1.0, 1.0, 0)
"""The pauses for rare events: each commit of any kind wakes a listener."""


class SqliteNotifier(Notifier):
    """Looks at the counter as `polls` says, or as soon as a commit is heard if that is None."""

    def __init__(self, path: str, *, polls: Looks | None = None) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._seen = self._commits()
        self._heard_at = float("-inf")
        self._looks = polls or POLLED
        self._watch: FileWatch | None = None
        if polls is None:
            with suppress(OSError):  # then it polls
                self._watch = FileWatch(f"{path}-wal")
                self._looks = WATCHED

    @property
    def is_watching(self) -> bool:
        """Whether the kernel reports commits."""
        return self._watch is not None

    def wait(self, timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while not self._has_news():
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                return False
            seconds = min(self._looks.pause(time.monotonic() - self._heard_at), seconds)
            if self._watch is None or seconds < LEAST_WATCH_SECONDS:
                time.sleep(seconds)
            elif self._watch.wait(seconds):
                self._hear()
        return True

    def rest_until(self, awake: threading.Event) -> None:
        awake.wait()

    def close(self) -> None:
        self._stop_watching()
        self._connection.close()

    def _has_news(self) -> bool:
        seen, self._seen = self._seen, self._commits()
        if seen == self._seen:
            return False
        now = time.monotonic()
        if self._watch is None:
            self._heard_at = now
        elif self._watch.wait(0):
            self._hear()
        elif now - self._heard_at > DEAF_SECONDS:
            self._stop_watching()  # some file systems tell nothing, and the log may have been replaced
        else:
            self._looks = SEEN
        return True

    def _commits(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _hear(self) -> None:
        self._heard_at, self._looks = time.monotonic(), WATCHED

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch, self._looks = None, POLLED


def send(topic: Topic, *, can_wait: bool = False) -> None:
    """Notify once the current transaction has committed. On SQLite the commit itself is the notification.

    One that `can_wait` is sent up to LATER_SECONDS later, together with others.
    """
    if not IS_SQLITE:
        transaction.on_commit(partial(_sender(os.getpid()).send, topic, can_wait=can_wait))


class Sender:
    """Sends notifications on a thread of its own. Signals that wait meanwhile are sent together, each topic once.

    A NOTIFY in the transaction of the data would hold a lock of the whole server until the commit is
    flushed to the disk, so that no two of these commits are flushed together.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = set[Topic]()
        self._is_urgent = False
        self._is_sending = False
        url = settings.APFLOW.redis.url
        self._redis = _redis_notifier().Publisher(url) if url is not None else None
        self._postgres = _postgres_notifier().Publisher(connection.get_connection_params())
        threading.Thread(target=self._send_forever, name="notify", daemon=True).start()
        Finalize(None, self.flush, exitpriority=0)  # at the end of this process

    def send(self, topic: Topic, *, can_wait: bool = False) -> None:
        """Send soon. Returns at once."""
        with self._changed:
            is_news = not self._waiting or not (can_wait or self._is_urgent)
            self._waiting.add(topic)
            self._is_urgent |= not can_wait
            if is_news:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until what was to be sent is sent, for a while."""
        with self._changed:
            self._is_urgent = bool(self._waiting)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._is_sending, FLUSH_SECONDS)

    def _send_forever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                self._changed.wait_for(lambda: self._is_urgent, LATER_SECONDS)
                topics, self._waiting = sorted(self._waiting), set()
                self._is_urgent, self._is_sending = False, True
            if not (self._redis and self._redis.publish(topics)):
                self._postgres.publish(topics)
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
            time.sleep(TOGETHER_SECONDS)


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
