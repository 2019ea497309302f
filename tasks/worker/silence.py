"""Silence: whether worker processes that should beat have stopped, or only could not be heard.

Their beats are rows in the database. So they count as silent only while the database takes writes
and this process is awake itself: after a stall of either, the wait starts again.
"""

import time
from typing import Final

from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from apflow_site.db.connections import refresh
from tasks.models import WorkerProcess
from tasks.queue import black_box, leases

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
