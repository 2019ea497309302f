"""The wait of a sentinel: that it has to stop, or that a process of its cluster has ended.

django-q2 itself looks twice a second whether one has. So one that was killed is replaced at once, and
a sentinel with nothing to do sleeps.
"""

from collections.abc import Callable, Iterable
from multiprocessing import Event, Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Final

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
