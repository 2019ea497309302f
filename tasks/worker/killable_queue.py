"""The queues and the stop event that the cluster of django-q2 gets from us. They have the methods that it calls."""

import errno
import pickle
import socket
import time
from collections.abc import Callable, Iterable
from multiprocessing import Event, Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Final

PACKET_BYTES: Final = 2048
"""The memory of the kernel that one job takes at most. A job has some 300 bytes."""
MOST_BYTES: Final = 1 << 20
FULL_SECONDS: Final = 0.01
LEAST_PAUSE_SECONDS: Final = 0.5
"""Between two looks at the processes of a cluster: one that ends at each start is not replaced more often."""


class KillableQueue:
    """A queue for processes that are forked later, and that stays usable when one of them is killed.

    Each item is one packet of a pair of sockets. The kernel gives it to one reader, all of it or nothing, so there is no
    lock that a killed process could keep. The lock of a `multiprocessing.Queue` is a semaphore, which all others would
    wait for forever, those that replace the process, too.
    """

    def __init__(self, most: int = 0) -> None:
        """Create it for about so many items, but no fewer than 4. 0: as many as the system allows."""
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        if most:
            self._writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, most * PACKET_BYTES // 2)  # Linux doubles it

    def put(self, item: Any) -> None:
        """Add an item. Wait while the queue is full."""
        packet = pickle.dumps(item)
        while True:
            try:
                self._writer.send(packet)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # macOS does not wait
                    raise
                time.sleep(FULL_SECONDS)
            else:
                return

    def get(self) -> Any:
        """Wait for an item, and take it."""
        return pickle.loads(self._reader.recv(MOST_BYTES))  # noqa: S301  from a process of this cluster

    def empty(self) -> bool:
        return not wait([self._reader], 0)  # select() knows no file of a number above 1,023

    def qsize(self) -> int:
        """Return 0 or 1: the system does not say how many items wait. django-q2 shows it in a state that we do not read."""
        return int(not self.empty())

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class Results:
    """A queue for the results of jobs that needs no process to read it: a worker records by itself that a job of it failed."""

    def put(self, job: dict[str, Any]) -> None:
        """Log and store the job, as django-q2's monitor does, if it failed. Other results are not stored."""
        if not job["success"]:
            from django_q.monitor import monitor  # noqa: PLC0415  it needs Django's apps

            of_one = SimpleQueue[Any]()
            for each in (job, "STOP"):
                of_one.put(each)
            monitor(of_one)

    def empty(self) -> bool:
        return True

    def qsize(self) -> int:
        return 0


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
