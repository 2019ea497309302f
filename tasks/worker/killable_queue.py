"""The queues of a cluster, whose readers may be killed at any time."""

import fcntl
import os
import tempfile
from typing import Any

from django_q.queues import Queue


class KillableQueue(Queue):
    """A queue of django-q2 that stays usable when a reader is killed.

    A reader holds a lock while it waits for the next item. The lock of `multiprocessing` is a semaphore, which a killed
    reader never gives back: all others would wait forever, also those that replace it.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize=maxsize)
        self._rlock = FileLock()

    def close(self) -> None:
        super().close()
        self._rlock.close()


class FileLock:
    """A lock for processes that are forked later. The system releases it when the process that holds it ends."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self._file = os.dup(file.fileno())

    def __enter__(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: Any) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release it in this process. It cannot be used any more."""
        os.close(self._file)

    @property
    def is_taken(self) -> bool:
        """Whether another process holds it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN)
        return False
