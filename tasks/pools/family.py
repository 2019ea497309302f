"""The processes that a task has started from its own: they count for its limits, and none outlives it. Linux only."""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tasks.executors.command.guard import descendants

IS_LINUX: Final = sys.platform == "linux"
PR_SET_CHILD_SUBREAPER: Final = 36
CROWDED: Final = 213
"""The exit code of a process whose task had too many others."""
TOO_LARGE: Final = 214
"""The exit code of a process whose task took too much memory with the others."""
WATCH_SECONDS: Final = 0.1
MOST_ROUNDS: Final = 1000
"""The greatest number of rounds of kills. Processes that fork faster, or belong to another user, are left to the nursery."""


def adopt_orphans() -> None:
    """Become the parent of all processes below this one whose own parent ends."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextmanager
def limited_family(*, most: int, memory_bytes: int) -> Iterator[None]:
    """End this process, and all below it, when there are more than `most`, or they and it grow by more than the bytes."""
    is_over = threading.Event()
    if not IS_LINUX:
        yield
        return
    watch = threading.Thread(target=_watch, args=[is_over, most, memory_bytes], name="family", daemon=True)
    watch.start()
    try:
        yield
    finally:
        is_over.set()
        watch.join()


def _watch(is_over: threading.Event, most: int, memory_bytes: int) -> None:
    own = os.getpid()
    base, name = _private_bytes(own), _command_line(own)
    while not is_over.wait(WATCH_SECONDS):
        found = descendants(at_most=most + 1)
        if len(found) > most:
            _end(CROWDED)
        if found and memory_bytes:
            # What a fork shares with this process does not count twice.
            grown = [_private_bytes(pid) - (base if _command_line(pid) == name else 0) for pid in (own, *found)]
            if sum(each for each in grown if each > 0) > memory_bytes:
                _end(TOO_LARGE)


def kill_family() -> bool:
    """Kill all processes below this one. Returns whether there was one that still ran."""
    was_any = False
    for _ in range(MOST_ROUNDS if IS_LINUX else 0):
        if not (found := descendants()):
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                was_any = _is_running(pid) or was_any
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.001)
    return was_any


def _end(code: int) -> None:
    kill_family()
    os._exit(code)


def _private_bytes(pid: int) -> int:
    """Return how much memory the process has for itself; what it has of files does not count."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:  # it has just ended
        return 0
    return (int(resident) - int(shared)) * resource.getpagesize()


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_running(pid: int) -> bool:
    """Return whether the process has not ended; one that was not waited for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
