"""The cluster process: django-q2's sentinel, pusher, monitor and workers, with a safe shutdown.

`tasks.worker.supervisor` runs it as `python -m tasks.worker.cluster ID` and owns the other end of
its standard input (`tasks.worker.lifeline`).
"""

import fcntl
import gc
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from multiprocessing import Event, Pipe
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from typing import Any, Final

import django
from django_q.cluster import Sentinel
from django_q.conf import Conf
from django_q.queues import Queue
from django_q.signals import post_spawn

from apflow_site.db.sessions import name_sessions
from tasks.own_process import end_with_parent, hide_memory, keep_secrets
from tasks.queue import black_box, leases
from tasks.queue.black_box import End
from tasks.worker.lifeline import die_with_parent
from tasks.worker.process import CLUSTER_VARIABLE, drain_on_sigterm

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


hide_memory()
gc.disable()  # while modules are imported, nothing becomes garbage
django.setup()
keep_secrets()


# What is imported lives as long as the process: no collection has to look at it, also not at the
# end, and its memory stays shared with the processes that are forked.
gc.freeze()
gc.enable()


class DrainingSentinel(Sentinel):
    """On SIGTERM it stops the queue and lets the workers finish their runs.

    A service manager may send the signal to every process, so forked processes inherit a harmless
    handler.
    """

    def start(self) -> None:
        signal.signal(signal.SIGTERM, self._stop_soon)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.task_queue = KillableQueue(Conf.QUEUE_LIMIT or 0)
        self.result_queue = KillableQueue()
        self.stop_event = ClusterStop(lambda: (*self.pool, self.monitor, self.pusher))
        self._names: dict[int, str] = {}
        super().start()

    def spawn_worker(self) -> None:
        super().spawn_worker()
        pid = self.pool[-1].pid
        self._names[pid] = leases.process_name(pid)

    def reincarnate(self, process: BaseProcess) -> None:
        """Replace a process that has ended. The end of a worker is evidence (`tasks.queue.suspicion`)."""
        if process.pid in self._names:
            black_box.record_end(self._names.pop(process.pid), End(exit_code=process.exitcode))
        super().reincarnate(process)

    def stop(self) -> None:
        """Let the pusher and the workers end, in this order, and then kill the monitor.

        django-q2 looks ten times a second whether they have ended, and asks the monitor to end, too.
        A monitor that has replaced a killed one may never get this request, and has nothing to lose:
        results are not stored.
        """
        self.event_out.set()
        for process in (self.pusher, *self.pool):
            os.kill(process.pid, signal.SIGTERM)
        self.pusher.join()
        for _ in self.pool:
            self.task_queue.put("STOP")
        for worker in self.pool:
            worker.join()
        self.monitor.kill()

    def _stop_soon(self, *_: object) -> None:
        """Handle SIGTERM: in the sentinel end the guard's wait, in the pusher the broker's."""
        # In a thread: the handler may have interrupted the wait for this very event, which holds
        # the event's lock.
        threading.Thread(target=self._stop).start()

    def _stop(self) -> None:
        self.stop_event.set()
        self.broker.wake()


def main(cluster_id: str) -> None:
    os.environ[CLUSTER_VARIABLE] = cluster_id
    die_with_parent()
    post_spawn.connect(_become_worker)
    DrainingSentinel(stop_event=None, start_event=Event(), cluster_id=uuid.UUID(cluster_id))


def _become_worker(**_: Any) -> None:
    end_with_parent()  # the main thread of the sentinel starts the workers
    drain_on_sigterm()


if __name__ == "__main__":
    name_sessions("worker")
    main(sys.argv[1])
