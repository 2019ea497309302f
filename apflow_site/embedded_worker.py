"""The embedded worker: one web process per machine and database runs a worker cluster."""

import asyncio
import fcntl
import hashlib
import threading
from pathlib import Path
from typing import ClassVar, TextIO

from django.conf import settings

from tasks.worker.supervisor import Stop, Watched, supervise


class EmbeddedWorker:
    """Supervisor thread of a web process.

    It always sweeps expired leases. It runs a worker cluster if `worker.embedded` is set and it
    holds the lock of this machine and database.
    """

    cluster: ClassVar[Watched | None] = None
    """The worker cluster that was forked for this process. Only `aipartnerupflow dev` does so."""

    def __init__(self) -> None:
        self._stop = Stop()
        self._lock = _lock_file() if settings.APFLOW.worker.embedded else None
        self._thread = threading.Thread(
            target=supervise,
            args=[self._stop],
            kwargs={"may_start": self._may_start, "cluster": self.cluster},
            name="supervisor",
            daemon=True,
        )

    def start(self) -> None:
        self._thread.start()

    def interrupt(self) -> None:
        """Handle Ctrl+C: the first drains the cluster, the second kills it. Returns immediately."""
        self._stop.interrupt()

    def stop(self) -> None:
        """Drain the cluster; takes up to `worker.drain_seconds`, or as long as its runs if it has retired."""
        self._stop.ask()
        self._thread.join()

    async def stop_gracefully(self) -> None:
        """`stop` without blocking the event loop."""
        await asyncio.to_thread(self.stop)

    def _may_start(self) -> bool:
        """Try to take the lock.

        False: another process holds it. The kernel releases it when this process ends.
        """
        if self.cluster is not None:
            return True
        if self._lock is None:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _lock_file() -> TextIO:
    """One for the processes of this machine that use the same database."""
    database = hashlib.sha256(settings.APFLOW.database.url.encode()).hexdigest()[:12]
    return Path(settings.DATA_DIR, f"worker-{database}.lock").open("w")
