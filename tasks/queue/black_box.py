"""Black boxes: what each worker process of this machine is doing, readable after its death.

A process that dies cannot say whose code killed it. So each worker writes to a file mapped into its
memory for which run its event loop is executing code right now, and for which runs it has threads.
Writing costs no system call, and the kernel keeps the file however the process ends. Runs that
merely waited, for the network or for a timer, are not in it.
"""

import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from django.conf import settings

ID_BYTES: Final = 36
PLACES: Final = 1024
"""One for the event loop, the others for threads. A thread without a place is not recorded."""
EMPTY: Final = bytes(ID_BYTES)


class BlackBox:
    """The box of this process. `enter` and `leave` belong to the thread of its event loop.

    Run ids are passed as `encoded` makes them, since some are written a thousand times a second.
    """

    def __init__(self, owner: str) -> None:
        path = _path(owner)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(ID_BYTES * PLACES)
            self._memory = mmap.mmap(file.fileno(), ID_BYTES * PLACES)
        self._free = list(range(PLACES - 1, 0, -1))
        self._lock = threading.Lock()

    def enter(self, run_id: bytes) -> None:
        """The event loop begins to execute code for the run."""
        self._memory[:ID_BYTES] = run_id

    def leave(self) -> None:
        """The event loop has stopped executing code for a run."""
        self._memory[:ID_BYTES] = EMPTY

    @contextmanager
    def thread(self, run_id: bytes) -> Iterator[None]:
        """Record a thread of the run as long as the context is open. Call it on that thread."""
        place = self._take()
        if place is None:
            yield
            return
        start = place * ID_BYTES
        self._memory[start : start + ID_BYTES] = run_id
        try:
            yield
        finally:
            self._memory[start : start + ID_BYTES] = EMPTY
            with self._lock:
                self._free.append(place)

    def _take(self) -> int | None:
        with self._lock:
            return self._free.pop() if self._free else None


def encoded(run_id: str) -> bytes:
    """Return the id in the form in which a box has it."""
    return run_id.encode().ljust(ID_BYTES, b"\0")[:ID_BYTES]


def runs_in(owner: str) -> frozenset[str]:
    """Return the ids of the runs whose code the process was executing. Empty without a box."""
    try:
        content = _path(owner).read_bytes()
    except FileNotFoundError:
        return frozenset()
    places = {content[start : start + ID_BYTES] for start in range(0, len(content), ID_BYTES)}
    return frozenset(place.rstrip(b"\0").decode() for place in places - {EMPTY})


def discard(owner: str) -> None:
    """Remove the box of a process that has ended."""
    with suppress(FileNotFoundError):
        _path(owner).unlink()


def discard_all(is_alive: Callable[[str], bool]) -> None:
    """Remove the boxes whose owners have ended."""
    for path in _folder().glob("*.box"):
        if not is_alive("/".join(path.stem.rsplit("_", 2))):
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "workers"


def _path(owner: str) -> Path:
    return _folder() / f"{owner.replace('/', '_')}.box"
