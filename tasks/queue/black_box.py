"""Black boxes: what each worker process of this machine is doing, readable after its death.

A process that dies cannot say whose code killed it. So each worker writes to a file mapped into its
memory for which run its event loop is executing code right now, and for which runs it has threads.
Writing costs no system call, and the kernel keeps the file however the process ends. Runs that
merely waited, for the network or for a timer, are not in it.

When a worker has ended while its supervisor lived on, the supervisor adds how it ended.
"""

import logging
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
from django.conf import settings

logger = logging.getLogger(__name__)

ID_BYTES: Final = 36
PLACES: Final = 1024
"""One for the event loop, one for the suspect, the others for threads. A thread without a place is not recorded."""
SUSPECT: Final = slice(ID_BYTES, 2 * ID_BYTES)
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
        self._free = list(range(PLACES - 1, 1, -1))
        self._lock = threading.Lock()

    def enter(self, run_id: bytes) -> None:
        """Note that the event loop begins to execute code for the run."""
        self._memory[:ID_BYTES] = run_id

    def leave(self) -> None:
        """Note that the event loop has stopped executing code for a run."""
        self._memory[:ID_BYTES] = EMPTY

    def suspect(self, run_id: bytes = EMPTY) -> None:
        """Name the run of which this process would die, whatever it executes: it has been taken to find that out."""
        self._memory[SUSPECT] = run_id

    @contextmanager
    def thread(self, run_id: bytes) -> Iterator[None]:
        """Record a thread of the run as long as the context is open. Call it on that thread."""
        with self._lock:
            place = self._free.pop() if self._free else None
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


def encoded(run_id: str) -> bytes:
    """Return the id in the form in which a box has it."""
    return run_id.encode().ljust(ID_BYTES, b"\0")[:ID_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of a process. A negative `exit_code` is that of a signal; None: it had to end with its cluster."""

    exit_code: int | None


def runs_in(owner: str) -> dict[str, bool]:
    """Return the ids of the runs of which the process may have died: those whose code it was executing, and the suspect.

    Each says whether its code was executing. Empty without a box.
    """
    try:
        content = _path(owner).read_bytes()
    except FileNotFoundError:
        return {}
    suspect, loop, threads = content[SUSPECT], content[: SUSPECT.start], content[SUSPECT.stop :]
    executing = {loop, *(threads[start : start + ID_BYTES] for start in range(0, len(threads), ID_BYTES))}
    places = {suspect: suspect in executing} | dict.fromkeys(executing, True)
    return {place.rstrip(b"\0").decode(): is_executing for place, is_executing in places.items() if place != EMPTY}


def record_end(owner: str, end: End) -> None:
    """Record how the process ended. Only what has seen it end may call this."""
    path = _path(owner, ".end")
    try:
        path.with_suffix(".new").write_bytes(orjson.dumps(asdict(end)))
        path.with_suffix(".new").replace(path)
    except OSError as error:
        logger.error(
            "Could not record how worker process %s ended, so its runs wait until their leases expire: %s",
            owner,
            error,
            extra={"event": "worker.end_unrecorded"},
        )


def end_of(owner: str) -> End | None:
    """Return how the process ended, if that was recorded."""
    try:
        return End(**orjson.loads(_path(owner, ".end").read_bytes()))
    except FileNotFoundError:
        return None


def discard_all(is_alive: Callable[[str], bool]) -> None:
    """Remove what is known of processes that have ended."""
    for path in [*_folder().glob("*.box"), *_folder().glob("*.end")]:
        if not is_alive("/".join(path.stem.rsplit("_", 2))):
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return Path(settings.DATA_DIR) / "workers"


def _path(owner: str, suffix: str = ".box") -> Path:
    return _folder() / f"{owner.replace('/', '_')}{suffix}"
