"""The parts of django-q2's cluster that are replaced: its queue, by one that survives a kill, and its stop event, by one that wakes at once."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing import Event, Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from typing import Any, Final

from django_q.queues import Queue

POLL_SECONDS: Final = 0.01


class KillableQueue(Queue):
    """A queue of django-q2 that stays usable when a process that uses it is killed.

    A reader holds a lock while it waits for the next item, a writer while it writes one, and both while they count. The
    lock of `multiprocessing` is a semaphore, which a killed process never gives back: all others would wait forever, also
    those that replace it.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize=maxsize)
        self._rlock = FileLock()
        self._wlock = FileLock()
        self.size = Counter()


class FileLock:
    """A lock for processes that are forked later. The system releases it when the process that holds it ends."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self._file = os.dup(file.fileno())

    def __del__(self) -> None:
        os.close(self._file)

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Take it. False: another process holds it and, with a timeout in seconds, has held it for so long."""
        if block and timeout is None:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            return True
        deadline = time.monotonic() + (timeout or 0)
        while not self._is_free():
            if not block or time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _is_free(self) -> bool:
        """Take it, if no other process holds it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: Any) -> None:
        self.release()

    @property
    def is_taken(self) -> bool:
        """Whether another process holds it."""
        if is_free := self._is_free():
            self.release()
        return not is_free


class Counter:
    """The number of items in a queue, as the queues of django-q2 count them."""

    def __init__(self) -> None:
        self._count = RawValue("i", 0)
        self._lock = FileLock()

    def increment(self, n: int = 1) -> None:
        with self._lock:
            self._count.value += n

    @property
    def value(self) -> int:
        count: int = self._count.value
        return count


LEAST_PAUSE_SECONDS: Final = 0.5
"""Between two looks at the processes of a cluster: one that ends at each start is not replaced more often."""


class ClusterStop:
    """Asks a sentinel to stop, with the interface of an event. Its wait also ends when a process ends."""

    def __init__(self, processes: Callable[[], Iterable[BaseProcess]]) -> None:
        self._processes = processes
        self._is_asked = Event()
        self._heard, self._said = Pipe(duplex=False)

    def is_set(self) -> bool:
        return self._is_asked.is_set()

    def set(self) -> None:
        self._is_asked.set()
        self._said.send_bytes(b"stop")

    def wait(self, seconds: float) -> bool:
        """Return after this time at the latest. Returns whether the sentinel has to stop."""
        wait([self._heard], LEAST_PAUSE_SECONDS)
        wait([self._heard, *(process.sentinel for process in self._processes())], seconds)
        return self.is_set()
