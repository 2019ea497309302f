"""Time series that the processes of a machine share: prometheus-client's multiprocess mode (the settings say where its files are).

The files are mapped into memory, and most of each is a hole. If the disk has no room when a process first writes to a page, the kernel
ends the process (SIGBUS). A page is first written when a series begins, so a series begins only while the disk has room.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
ROOM_BYTES: Final = 4 << 20
"""A new series needs a page or two. The rest is for what other processes write between the check and that moment."""

log = logging.getLogger(__name__)
M = TypeVar("M", Counter, Gauge, Histogram)
T = TypeVar("T")


class NoRoom(Exception):
    """The disk is full, so the series does not begin: skip the count."""


def metrics_folder() -> Path:
    """Return the folder where the processes of this machine keep their counts."""
    return Path(os.environ[FOLDER_VARIABLE])


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Cache what a function makes, in a way that two threads never make it twice.

    Two metrics of the same name in one process would overwrite each other's counts. An error is not
    cached.
    """
    lock, made = threading.Lock(), list[T]()

    def get() -> T:
        if not made:
            with lock:
                if not made:
                    made.append(make())
        return made[0]

    return get


def own_registry() -> CollectorRegistry:
    """Return a registry for the metrics of this process. Metrics without labels begin when they are made. Raises NoRoom."""
    _require_room()
    return CollectorRegistry()


def series(metric: M, *labels: str) -> M:
    """Return the series of a metric with these labels. Raises NoRoom if it has not begun and cannot begin now."""
    begun: M = _begun(metric, labels)
    return begun


@cache
def _begun(metric: Any, labels: tuple[str, ...]) -> Any:
    _require_room()
    return metric.labels(*labels)


def _require_room() -> None:
    try:
        metrics_folder().mkdir(parents=True, exist_ok=True)
        has_room = shutil.disk_usage(metrics_folder()).free >= ROOM_BYTES
    except OSError:
        has_room = False
    if not has_room:
        _warn_once(metrics_folder())
        raise NoRoom


@cache
def _warn_once(folder: Path) -> None:
    text = "The disk of %s is full: /metrics misses what would begin a new series, until there is room"
    log.warning(text, folder, extra={"event": "metrics.no_room"})
