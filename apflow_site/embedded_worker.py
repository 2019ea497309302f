"""The embedded worker: every web process offers to keep a cluster; one per machine and database does."""

import asyncio
import fcntl
import threading

from django.conf import settings

from apflow_site.prepare import lock_path
from tasks.worker.supervisor import Stop, supervise


class EmbeddedWorker:
    """A supervisor in a thread of the web process. It sweeps in any case; a cluster it keeps if `worker.embedded` says so
    and no other process of this machine does."""

    def __init__(self) -> None:
        self._stop = Stop()
        self._lock = None if not settings.APFLOW.worker.embedded else lock_path("worker").open("w")
        self._thread = threading.Thread(
            target=supervise, args=[self._stop], kwargs={"may_start": self._may_start}, name="supervisor", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def interrupt(self) -> None:
        """Ctrl+C: begin to drain the cluster; the second time, end it at once. Returns immediately."""
        self._stop.interrupt()

    def stop(self) -> None:
        """Drain the cluster: up to `worker.drain_seconds`."""
        self._stop.ask()
        self._thread.join()

    async def stop_gracefully(self) -> None:
        """The same, without blocking the loop."""
        await asyncio.to_thread(self.stop)

    def _may_start(self) -> bool:
        """Take the lock, which the kernel gives back when this process ends. False: another process holds it."""
        if self._lock is None:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
