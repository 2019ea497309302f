"""The supervisor: keeps one cluster of workers alive beside its own process, and sweeps."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection

from apflow_site.db.connections import refresh
from llmkeys import run_secrets
from tasks.events import pruning
from tasks.ids import new_id
from tasks.queue import leases, suspension
from tasks.services import cancels, idempotency, shared_secrets
from tasks.worker import webhook_deliveries

logger = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
SWEEP_SECONDS: Final = 5.0
END_POLL_SECONDS: Final = 0.05
HUNG_SECONDS: Final = 12.0
"""A cluster without a heartbeat of any worker for this long is replaced; workers send one every 3
to 5 seconds.
"""


class Stop:
    """Asks a supervisor to stop: gently with `ask`; a second `interrupt` kills the workers."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.is_insisted = threading.Event()

    def ask(self) -> None:
        self.is_asked.set()

    def interrupt(self) -> None:
        """Handle Ctrl+C: the second time, stop at once."""
        (self.is_insisted if self.is_asked.is_set() else self.is_asked).set()


def supervise(stop: Stop, *, may_start: Callable[[], bool]) -> None:
    """Until `stop`: sweep and, when `may_start` allows it, keep a cluster running.

    At the end drain the cluster.
    """
    cluster: Cluster | None = None
    last_sweep = 0.0
    while not stop.is_asked.wait(TICK_SECONDS if cluster or last_sweep else 0):
        cluster = _kept_alive(cluster) if cluster or may_start() else None
        if time.monotonic() - last_sweep > SWEEP_SECONDS:
            last_sweep = time.monotonic()
            _sweep()
    if cluster:
        _log_draining(cluster)
        cluster.stop(stop.is_insisted)


def _log_draining(cluster: "Cluster") -> None:
    try:
        count = leases.held_by(cluster_id=cluster.id)
    except DatabaseError:
        connection.close()
        return
    if count:
        logger.warning(
            "Stopping: %d running tree%s may finish within %d s; the rest resumes after the next start. "
            "Press Ctrl+C again to stop at once",
            count,
            "" if count == 1 else "s",
            settings.APFLOW.worker.drain_seconds,
            extra={"event": "cluster.draining", "runs": count},
        )


def _kept_alive(cluster: "Cluster | None") -> "Cluster":
    if cluster and not cluster.has_ended and not cluster.is_hung():
        return cluster
    if cluster:
        logger.error("The worker cluster %s; starting another", cluster.trouble, extra={"event": "cluster.replaced"})
        cluster.kill()
    return Cluster()


def _sweep() -> None:
    try:
        refresh()
        shared_secrets.keep_fresh()
        leases.sweep()
        cancels.forget_finished()
        idempotency.forget_old()
        pruning.prune_events()
        webhook_deliveries.sweep()
        suspension.sweep()
        run_secrets.erase_expired()
    except DatabaseError:
        logger.warning("Could not sweep: the database is unavailable", extra={"event": "sweep.failed"})
        connection.close()


class Cluster:
    """A cluster process and all that it forked: one process group."""

    def __init__(self) -> None:
        self.id = new_id()
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tasks.worker.cluster", self.id],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": _python_path()},
        )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def trouble(self) -> str:
        return f"ended with code {self._process.returncode}" if self.has_ended else "hangs"

    def is_hung(self) -> bool:
        """Whether no worker of the cluster had a heartbeat for `HUNG_SECONDS`.

        False while the database is unavailable.
        """
        if time.monotonic() - self._started_at < HUNG_SECONDS:
            return False
        try:
            refresh()
            return not leases.is_beating(within_seconds=HUNG_SECONDS, cluster_id=self.id)
        except DatabaseError:
            connection.close()
            self._started_at = time.monotonic()
            return False

    def stop(self, at_once: threading.Event) -> None:
        """Let the workers finish, within the drain time and until `at_once` is set; then kill the
        rest.
        """
        self._process.terminate()
        deadline = time.monotonic() + settings.APFLOW.worker.drain_seconds + 5
        while not (self.has_ended or time.monotonic() > deadline or at_once.wait(END_POLL_SECONDS)):
            pass
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _python_path() -> str:
    """The project's folder, then the working folder: `-P` keeps Python from putting it first, where it could have a `tasks` too."""
    return os.pathsep.join([str(settings.BASE_DIR), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
