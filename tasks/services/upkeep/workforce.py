"""The workers and the queue of the whole installation, for administrators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db.models import Count, Min, Q
from django.db.models.functions import Now

from tasks.models import Question, Run, WorkerProcess
from tasks.queue import leases
from tasks.services.waits.needed_code import NeededByRuns, needed_by_runs

MOST_WORKERS: Final = 500
MOST_USERS: Final = 20
KEPT: Final = timedelta(hours=1)
"""The time for which a worker without a heartbeat is listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker process, with how many runs it works on. One that is not alive has had no heartbeat for a while."""

    process: WorkerProcess
    runs: int
    is_alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserLoad:
    """The runs of a user that have not ended: how many a worker has, how many wait for one,
    and when the first began to. `share`: the percentage of each worker process that the user may hold.
    """

    user_id: str
    running: int
    queued: int
    since: datetime | None
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workforce:
    """`parked` counts what tasks wait for without a worker, by kind, and `needed` is the code for which runs wait; `users` are those with
    most runs in the queue.
    """

    workers: Sequence[Worker]
    places: int
    running: int
    queued: int
    queued_since: datetime | None
    suspects: leases.Suspects
    parked: dict[str, int]
    needed: Sequence[NeededByRuns]
    users: Sequence[UserLoad]


def workforce() -> Workforce:
    """Return how things stand now."""
    of_each = dict(leases.held().values_list("lease_owner").annotate(count=Count("id")).order_by())
    alive = set(
        WorkerProcess.objects.filter(beat_at__gte=Now() - timedelta(seconds=leases.ALIVE_SECONDS)).values_list(
            "id", flat=True
        )
    )
    listed = WorkerProcess.objects.filter(beat_at__gte=Now() - KEPT).order_by("host", "started_at")[:MOST_WORKERS]
    found = [Worker(process=each, runs=of_each.get(each.id, 0), is_alive=each.id in alive) for each in listed]
    workers = sorted(found, key=lambda worker: not worker.is_alive)
    queue = leases.waiting().aggregate(queued=Count("id"), since=Min("created_at"))
    parked = Question.objects.filter(closed_at=None).values_list("kind").annotate(count=Count("id")).order_by("kind")
    return Workforce(
        workers=workers,
        places=sum(worker.process.places for worker in workers if worker.is_alive),
        running=leases.held().count(),
        queued=queue["queued"],
        queued_since=queue["since"],
        suspects=leases.suspects(),
        parked=dict(parked),
        needed=needed_by_runs(),
        users=_users(),
    )


def _users() -> list[UserLoad]:
    is_queued = Q(lease_owner=None, lease_expires_at=None)
    loads = (
        Run.objects.unfinished()
        .filter(is_queued | Q(id__in=leases.held().values("id")))
        .values("user_id")
        .annotate(
            queued=Count("id", filter=is_queued),
            all=Count("id"),
            since=Min("created_at", filter=is_queued),
        )
        .order_by("-queued", "-all", "user_id")[:MOST_USERS]
    )
    return [
        UserLoad(
            user_id=row["user_id"],
            running=row["all"] - row["queued"],
            queued=row["queued"],
            since=row["since"],
            share=settings.APFLOW.share_of(row["user_id"]),
        )
        for row in loads
    ]
