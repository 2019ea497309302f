"""The queues of a cluster, whose readers and writers may be killed at any time."""

import fcntl
import os
import tempfile
import time
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
