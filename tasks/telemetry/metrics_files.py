"""The files that the processes of a machine count into (prometheus-client's multiprocess mode; the settings say where they are).

They are mapped into memory. Of prometheus-client's own ones most is a hole: where the disk has no room for a page of it, the kernel kills
the process that counts. Ours are written before they are mapped, and a process that finds no room counts in its own memory.
"""

import logging
import mmap
import os
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, values
from prometheus_client.mmap_dict import MmapedDict

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
FIRST_BYTES: Final = 1 << 16
HEADER_BYTES: Final = 8
"""At the beginning stands how much is used."""
BESIDE_KEY_BYTES: Final = 32
"""With a key go its length, its padding and two numbers."""

log = logging.getLogger(__name__)


def folder_of_counts() -> Path:
    """Where the processes of this machine keep what they count."""
    return Path(os.environ[FOLDER_VARIABLE])


def own_registry() -> CollectorRegistry:
    """For what this process counts. Call it when something is first counted: what is made for it has places in files."""
    folder_of_counts().mkdir(parents=True, exist_ok=True)
    values.MmapedDict = Counts  # type: ignore[assignment, attr-defined]
    return CollectorRegistry()


class Counts(MmapedDict):
    """The counts of one kind, of this process, by key. `_f` is None where there was no room: then they are in its memory only."""

    _f: Any

    def __init__(self, filename: str) -> None:
        with open(filename, "ab") as file:  # noqa: PTH123  (a text, as the base has it)
            has_room = file.tell() > 0 or _lengthen(file.fileno(), FIRST_BYTES, filename)
        if has_room:
            super().__init__(filename)  # type: ignore[no-untyped-call]
            return
        os.unlink(filename)  # noqa: PTH108
        self._f = None
        self._fname = filename
        self._capacity = FIRST_BYTES
        self._m = mmap.mmap(-1, FIRST_BYTES)
        self._used = HEADER_BYTES
        self._positions: dict[str, int] = {}

    def _init_value(self, key: str) -> None:
        while self._used + len(key.encode()) + BESIDE_KEY_BYTES > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        capacity = 2 * self._capacity
        if self._f is not None and _lengthen(self._f.fileno(), self._capacity, self._fname):
            self._m = mmap.mmap(self._f.fileno(), capacity)
        else:
            counted = self._m[:]
            self.close()  # type: ignore[no-untyped-call]
            self._m = mmap.mmap(-1, capacity)
            self._m[: self._capacity] = counted
        self._capacity = capacity


def _lengthen(file: int, count: int, name: str) -> bool:
    """Append so many zeros. False: there is no room, and the file is as it was."""
    size = os.fstat(file).st_size
    try:
        while (missing := size + count - os.fstat(file).st_size) > 0:
            os.write(file, bytes(missing))
    except OSError as error:
        os.ftruncate(file, size)
        text = "No room to count in %s (%s): /metrics does not hear of what this process counts from here on"
        log.warning(text, name, error.strerror, extra={"event": "metrics.no_room"})
        return False
    return True
