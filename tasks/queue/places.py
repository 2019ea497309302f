"""The places of the worker processes: how many trees they can run at a time, and how many they run now.

Each worker process publishes its own number with its heartbeat. Settings of the process that asks
say nothing about the workers, which may be on other machines.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Sum
from django.db.models.functions import Now

from tasks.models import WorkerProcess
from tasks.queue import leases


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The worker processes with a recent heartbeat, on all machines, and their places.

    A process that drains has none, nor has one of a version that does not publish them.
    """

    hosts: int
    processes: int
    total: int
    used: int

    @property
    def is_any_free(self) -> bool:
        return self.used < self.total


def places() -> Places:
    """Return the places of all live worker processes."""
    alive = WorkerProcess.objects.filter(beat_at__gte=Now() - timedelta(seconds=leases.ALIVE_SECONDS))
    sums = alive.aggregate(hosts=Count("host", distinct=True), processes=Count("id"), total=Sum("places", default=0))
    return Places(**sums, used=leases.held().count())
