"""SQLite's notifications: its counter of the commits of other connections (`PRAGMA data_version`).

A thread looks at the counter when the kernel reports a write to the log of the database, often until it has seen the
commit, and then a few times for another one that was written meanwhile. Where the kernel reports none, the thread polls the
counter, often after a commit, and more seldom the longer there was none.
"""

import ctypes
import math
import os
import select
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from tasks.queue.notifier import Notifier

MODIFIED: Final = 0x2  # IN_MODIFY
MOST_BYTES: Final = 1 << 16


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
LEAST_WATCH_SECONDS: Final = 0.001
"""The kernel's waits are no shorter."""
DEAF_SECONDS: Final = 5.0
"""No flush takes so long: a commit that appears later after the last write that was heard was itself not heard."""


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
            self._pause(seconds)
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

    def _pause(self, at_most: float) -> None:
        seconds = min(self._looks.pause(time.monotonic() - self._heard_at), at_most)
        if self._watch is None or seconds < LEAST_WATCH_SECONDS:
            time.sleep(seconds)
        elif self._watch.wait(seconds):
            self._hear()

    def _hear(self) -> None:
        self._heard_at, self._looks = time.monotonic(), WATCHED

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._watch, self._looks = None, POLLED
