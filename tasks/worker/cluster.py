"""The cluster process: django-q2's sentinel, pusher and workers, with a safe shutdown.

`tasks.worker.supervisor` runs it as `python -m tasks.worker.cluster ID` and owns the other end of
its standard input (`tasks.worker.lifeline`).
"""

import gc
import os
import signal
import sys
import threading
import uuid
from importlib import import_module
from multiprocessing import Event
from multiprocessing.process import BaseProcess, current_process
from typing import Any

import django

from tasks.own_process import end_with_parent, hide_memory, keep_secrets

hide_memory()
gc.disable()  # while modules are imported, nothing becomes garbage
django.setup()
keep_secrets()

from django.utils.module_loading import import_string  # noqa: E402
from django_q.cluster import Sentinel  # noqa: E402  (needs the apps)
from django_q.conf import Conf  # noqa: E402
from django_q.signals import post_spawn  # noqa: E402

from apflow_site.db.connections import name_sessions  # noqa: E402  (needs the apps)
from tasks.queue import black_box, leases  # noqa: E402
from tasks.queue.black_box import End  # noqa: E402
from tasks.worker.killable_queue import ClusterStop, KillableQueue, Results  # noqa: E402
from tasks.worker.lifeline import die_with_parent  # noqa: E402

# What is imported lives as long as the process: no collection has to look at it, also not at the
# end, and its memory stays shared with the processes that are forked.
gc.freeze()
gc.enable()


class DrainingSentinel(Sentinel):
    """On SIGTERM it stops the queue and lets the workers finish their steps, on SIGHUP their runs.

    A service manager may send the signal to every process, so forked processes inherit a harmless
    handler.
    """

    def start(self) -> None:
        self._farewell = signal.SIGTERM
        signal.signal(signal.SIGTERM, self._stop_soon)
        signal.signal(signal.SIGHUP, self._retire_soon)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.task_queue = KillableQueue(Conf.QUEUE_LIMIT or 0)
        self.result_queue = Results()
        self.stop_event = ClusterStop(lambda: (*self.pool, self.pusher))
        self._names: dict[int, str] = {}
        # The pusher is forked before the engine is imported: it reads a queue, and has 14 MiB less to inherit.
        self._first_pusher: BaseProcess | None = super().spawn_pusher()
        gc.disable()
        import_module("tasks.worker.process")
        gc.freeze()
        gc.enable()
        super().start()

    def spawn_pusher(self) -> BaseProcess:
        first, self._first_pusher = self._first_pusher, None
        return first or super().spawn_pusher()

    def spawn_worker(self) -> None:
        super().spawn_worker()
        pid = self.pool[-1].pid
        self._names[pid] = leases.process_name(pid)

    def spawn_monitor(self) -> BaseProcess:
        """Return this process, which lives: there are no results for which a monitor would have to wait."""
        return current_process()

    def reincarnate(self, process: BaseProcess) -> None:
        """Replace a process that has ended. The end of a worker is evidence (`tasks.queue.suspicion`)."""
        if process.pid in self._names:
            black_box.record_end(self._names.pop(process.pid), End(exit_code=process.exitcode))
        super().reincarnate(process)

    def stop(self) -> None:
        """Let the pusher and the workers end, in this order.

        django-q2 looks ten times a second whether they have ended.
        """
        self.event_out.set()
        os.kill(self.pusher.pid, signal.SIGTERM)
        for process in self.pool:
            os.kill(process.pid, self._farewell)
        self.pusher.join()
        for _ in self.pool:
            self.task_queue.put("STOP")
        for worker in self.pool:
            worker.join()

    def _retire_soon(self, *_: object) -> None:
        """Handle SIGHUP: another cluster has taken over."""
        self._farewell = signal.SIGHUP
        self._stop_soon()

    def _stop_soon(self, *_: object) -> None:
        """Handle SIGTERM: in the sentinel end the guard's wait, in the pusher the broker's."""
        # In a thread: the handler may have interrupted the wait for this very event, which holds
        # the event's lock.
        threading.Thread(target=self._stop).start()

    def _stop(self) -> None:
        self.stop_event.set()
        self.broker.wake()


def main(cluster_id: str) -> None:
    os.environ[leases.CLUSTER_VARIABLE] = cluster_id
    die_with_parent()
    post_spawn.connect(_become_worker)
    DrainingSentinel(stop_event=None, start_event=Event(), cluster_id=uuid.UUID(cluster_id))


def _become_worker(**_: Any) -> None:
    end_with_parent()  # the main thread of the sentinel starts the workers
    import_string("tasks.worker.process.drain_on_sigterm")()


if __name__ == "__main__":
    name_sessions("worker")
    main(sys.argv[1])
