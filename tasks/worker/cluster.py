"""The cluster process: django-q2's sentinel with its pusher, monitor and workers, made to end when it should.

Run as `python -m tasks.worker.cluster ID` by `tasks.worker.supervisor`, which holds the other end of standard input: its end is the supervisor's end, and
then nobody in this process group goes on working.
"""

import os
import signal
import sys
import threading
import uuid
from multiprocessing import Event
from typing import Any

import django

django.setup()

from django_q.cluster import Sentinel  # noqa: E402  (needs the apps)
from django_q.signals import post_spawn  # noqa: E402

from tasks.worker.process import CLUSTER_VARIABLE, drain_on_sigterm  # noqa: E402


class DrainingSentinel(Sentinel):
    """On SIGTERM it stops the queue and lets the workers finish what they hold.

    A service manager may send the signal to every process: whatever is forked here inherits a handler that does no harm.
    """

    def start(self) -> None:
        signal.signal(signal.SIGTERM, self._stop_soon)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().start()

    def stop(self) -> None:
        for worker in self.pool:
            os.kill(worker.pid, signal.SIGTERM)
        super().stop()

    def _stop_soon(self, *_: object) -> None:
        # Not here: the handler may have interrupted the wait for this very event, which holds its lock.
        threading.Thread(target=self.stop_event.set).start()


def main(cluster_id: str) -> None:
    os.environ[CLUSTER_VARIABLE] = cluster_id
    lifeline = os.dup(sys.stdin.fileno())  # multiprocessing closes standard input in the processes that it forks
    _die_with(lifeline)
    os.register_at_fork(after_in_child=lambda: _die_with(lifeline))
    post_spawn.connect(_become_worker)
    DrainingSentinel(stop_event=Event(), start_event=Event(), cluster_id=uuid.UUID(cluster_id))


def _become_worker(**_: Any) -> None:
    drain_on_sigterm()


def _die_with(lifeline: int) -> None:
    """End this process at once when the other end of the pipe closes."""

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
