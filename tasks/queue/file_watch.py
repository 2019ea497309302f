"""Waits until a file is written to: inotify, which only Linux has.

The library for it asks ldconfig for the C library in each process, which takes longer than all that this does.
"""

import ctypes
import math
import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Final

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
