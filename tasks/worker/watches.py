"""The watches of a supervisor: over the processes of workers, silent ones among them, and the times of schedules."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from apflow_site.db.connections import IS_SQLITE, refresh
from tasks.ids import new_id
from tasks.models import WorkerProcess
from tasks.own_process import Forked, environment_of_servers
from tasks.queue import black_box, clock, leases, maintenance, notify
from tasks.queue.notify import Notifier
from tasks.services.schedules import due_schedules, firings

LONGEST_SECONDS: Final = 60.0 if IS_SQLITE else 5.0
"""Between two looks without any schedule. A notification may be lost on PostgreSQL, and clocks may be set."""
QUEUE_SECONDS: Final = 1.0
"""Between two looks while runs wait for an earlier one."""
LEAST_SECONDS: Final = 0.02
"""Between two looks while other processes fire what is due."""
AGAIN_SECONDS: Final = 1.0
"""The pause after the database was unavailable."""


def watch_schedules(is_over: threading.Event) -> None:
    """Until then, fire schedules."""
    notifier: Notifier | None = None
    latest = datetime.min.replace(tzinfo=UTC)
    while not is_over.is_set():
        try:
            refresh()
            if notifier is None:
                notifier = notify.listen(notify.SCHEDULES, is_rare=True)
                firings.look_again()
            now = clock.database_time()
            if now + firings.CLOCK_TOLERANCE < latest:
                firings.look_again()
            latest = now
            pause = look(now)
        except DatabaseError:
            logger.warning("Could not fire schedules: the database is unavailable", extra={"event": "schedules.failed"})
            connection.close()
            is_over.wait(AGAIN_SECONDS)
            continue
        if pause:
            notifier.wait(pause)


def look(now: datetime) -> float:
    """Fire what is due. Returns in how many seconds to look again."""
    seconds = due_schedules.seconds_until_due(now)
    is_any_queued = due_schedules.is_any_queued()
    if seconds == 0 or is_any_queued:
        if maintenance.is_on():
            return QUEUE_SECONDS
        if firings.fire_due() or firings.start_queued():
            return 0.0
    longest = QUEUE_SECONDS if is_any_queued else LONGEST_SECONDS
    return longest if seconds is None else min(longest, max(LEAST_SECONDS, seconds))


QUIET_SECONDS: Final = 7.0
"""Without a beat for so long, workers are watched; they send one every 3 s."""
WATCHED_LOOKS: Final = 2
"""The number of looks in a row, about two seconds apart, that may find them silent; at the next one they count as silent."""
START_SECONDS: Final = 60.0
"""The seconds that a cluster may take to its first beat."""
SLOW_SECONDS: Final = 3.0
"""A look that comes so late, or a write that takes so long, shows a stall."""


class SilenceWatch:
    """Watches the workers of one child of the supervisor. Call `look` about every two seconds."""

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._started_at = self._looked_at = time.monotonic()
        self._has_beaten = False
        self._looks: dict[str, int] = {}

    def look(self) -> list[str]:
        """Return those that are silent: the names of processes that hold runs, and the cluster's id if all are.

        Raises DatabaseError.
        """
        now = time.monotonic()
        was_asleep = now - self._looked_at > SLOW_SECONDS
        self._looked_at = now
        refresh()
        silent = self._silent()
        if not silent or was_asleep or not _takes_writes():
            self._looks = {}
            return []
        self._looks = {name: self._looks.get(name, 0) + 1 for name in silent}
        return [name for name, looks in self._looks.items() if looks > WATCHED_LOOKS]

    def forget(self) -> None:
        """Start again: the database was unavailable."""
        self._looks = {}

    def _silent(self) -> list[str]:
        seconds_silent = leases.seconds_silent(cluster_id=self._cluster_id)
        quiet = [name for name, seconds in seconds_silent.items() if seconds > QUIET_SECONDS]
        is_beating = len(quiet) < len(seconds_silent)
        self._has_beaten |= is_beating
        may_beat = self._has_beaten or time.monotonic() - self._started_at > START_SECONDS
        everyone = [] if is_beating or not may_beat else [self._cluster_id]
        return [*everyone, *leases.holders(quiet)]


def culprits(process_id: str) -> str:
    """Return, for a log line, the runs whose code the process was executing."""
    return ", ".join(sorted(black_box.runs_in(process_id))) or "none"


def _takes_writes() -> bool:
    began_at = time.monotonic()
    try:
        with transaction.atomic():
            WorkerProcess.objects.filter(id="").update(beat_at=Now())
    except DatabaseError:
        connection.close()
        return False
    return time.monotonic() - began_at < SLOW_SECONDS


logger = logging.getLogger(__name__)


END_POLL_SECONDS: Final = 0.05


class Child:
    """A process that runs `module`, and all that it forks: one process group.

    It ends when this process dies (`tasks.worker.lifeline`). Its workers beat under its `id`.
    """

    def __init__(self, module: str, *, fork: Callable[[str], Forked] | None = None) -> None:
        """Start it, or let `fork` do so, which gets its id."""
        self.id = new_id()
        self.is_retired = False
        self._process = fork(self.id) if fork else self._started(module)
        self.name = leases.process_name(self._process.pid)

    def _started(self, module: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, self.id],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env=environment_of_servers()
            | {"PYTHONPATH": _python_path(), leases.SUPERVISOR_VARIABLE: leases.process_name()},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def terminate(self) -> None:
        self._process.terminate()

    def retire(self) -> None:
        """Let it finish the runs that it has, and take no other."""
        self.is_retired = True
        if not self.has_ended:
            os.kill(self.pid, signal.SIGHUP)

    def wait(self, at_once: threading.Event) -> None:
        """Let it finish after `terminate`, within the drain time and until `at_once` is set; then kill what is left.

        A retired one has as much time as its runs take.
        """
        deadline = float("inf") if self.is_retired else time.monotonic() + settings.APFLOW.worker.drain_seconds + 5
        while not (self.has_ended or time.monotonic() > deadline or at_once.wait(END_POLL_SECONDS)):
            pass
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _python_path() -> str:
    """Return the project's folder, then the working folder: `-P` keeps Python from putting it first, where it could have a `tasks` too."""
    return os.pathsep.join([str(settings.BASE_DIR), str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
