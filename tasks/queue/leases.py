"""Leases: the worker process that owns each run, by the database's clock.

One owner holds a run until its lease expires. Each claim increments the run's `epoch` and sets a
random token; writes with others, by an earlier owner, are refused (`tasks.worker.commit`). A claim
does not wait until PostgreSQL has flushed it: if a crash loses it, another worker claims the run
with the same epoch, and only the tokens differ. `tasks.queue.suspicion` decides
the meaning of a death for a run. All statements work on both SQLite and PostgreSQL.
"""

import hashlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson
import psutil
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Max, Q
from django.db.models.functions import Now
from django_q.models import OrmQ

from apflow_site.db.connections import IS_SQLITE
from apflow_site.db.prepared import Prepared
from tasks.models import Run, RunQuerySet, WorkerProcess
from tasks.queue import black_box, maintenance, notify
from tasks.queue.dead_rows import Beginning
from tasks.queue.suspicion import (
    CONVICTED_STRIKES,
    IS_SUSPECTED,
    POISON_STRIKES,
    Death,
    blame,
    count_host_loss,
    is_suspected,
)
from tasks.status import Interruption
from tasks.storage.bulk import insert_many, marks

ALIVE_SECONDS: Final = 15
"""A worker process whose last heartbeat is older counts as gone, however long its lease is."""
FORGOTTEN_SECONDS: Final = 5
"""A run that no worker has claimed after this time is queued again."""
SUSPENDED: Final = "parked"
"""The lease owner of runs that wait for an answer: no process (`tasks.queue.suspension`)."""
NEVER: Final = datetime(9999, 12, 31, tzinfo=UTC)
"""The expiry of a lease without an owner process, which does not expire by itself."""
NO_OWNER: Final = ""
QUEUE_KEY: Final = "apflow"
SUPERVISOR_VARIABLE: Final = "APFLOW_INTERNAL_SUPERVISOR"
"""The environment variable with the name of the process that records how the worker processes below it end."""
CLUSTER_VARIABLE: Final = "APFLOW_INTERNAL_CLUSTER_ID"
"""The environment variable with the id of a worker's cluster."""


DB_NOW: Final = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW') || '000'" if IS_SQLITE else "CLOCK_TIMESTAMP()"
LEASE_END: Final = (
    "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', %s) || '000'" if IS_SQLITE else "CLOCK_TIMESTAMP() + %s::interval"
)
LONG_AGO: Final = (
    f"STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', '-{FORGOTTEN_SECONDS} seconds') || '000'"
    if IS_SQLITE
    else f"CLOCK_TIMESTAMP() - INTERVAL '{FORGOTTEN_SECONDS} seconds'"
)
SECONDS_OLD: Final = (
    "(JULIANDAY('NOW') - JULIANDAY(created_at)) * 86400.0"
    if IS_SQLITE
    else "EXTRACT(EPOCH FROM CLOCK_TIMESTAMP() - created_at)::float"
)
UNCLAIMED: Final = "finished_at IS NULL AND lease_owner IS NULL AND lease_expires_at IS NULL"
"""The condition of the index `run_unclaimed`: suspended runs, of which there may be many, are not in it."""
RUNS: Final = "tasks_run INDEXED BY run_unclaimed" if IS_SQLITE else "tasks_run"
"""Without statistics, SQLite would read all unfinished runs by another index."""
LONGEST_WAIT: Final = f"SELECT MAX({SECONDS_OLD}) FROM {RUNS} WHERE {UNCLAIMED}"  # noqa: S608
IS_WAITING: Final = f"{UNCLAIMED} AND NOT {maintenance.IS_ON}"
UNFLUSHED: Final = "NULL" if IS_SQLITE else "set_config('synchronous_commit', 'off', true)"
"""An expression in RETURNING: PostgreSQL answers without waiting for the disk. On SQLite a setting of the connection decides."""
ANY_REQUEST: Final = "EXISTS (SELECT 1 FROM tasks_cancelrequest)"
ANY_WEBHOOK: Final = "EXISTS (SELECT 1 FROM tasks_webhook WHERE closed_at IS NULL)"
INPUTS: Final = "(SELECT inputs FROM tasks_runinputs WHERE run_id = tasks_run.id)"
BUDGET: Final = "(SELECT state FROM tasks_runbudget WHERE run_id = tasks_run.id)"
WAITING: Final = f"{IS_WAITING} AND NOT {IS_SUSPECTED}"
LEASED: Final = "tasks_run INDEXED BY run_leased" if IS_SQLITE else "tasks_run"
OWNERS: Final = f"""
WITH RECURSIVE owner(name) AS (
    SELECT MIN(lease_owner) FROM {LEASED} WHERE finished_at IS NULL AND lease_owner IS NOT NULL
    UNION ALL
    SELECT (SELECT MIN(lease_owner) FROM {LEASED} WHERE finished_at IS NULL AND lease_owner > owner.name)
    FROM owner WHERE name IS NOT NULL
)
SELECT name FROM owner WHERE name IS NOT NULL
"""  # noqa: S608  (constants of this module)
EXPIRED: Final = (
    f"SELECT id FROM {LEASED} WHERE finished_at IS NULL AND lease_owner IN ({{owners}}) AND lease_expires_at < {DB_NOW} "  # noqa: S608  (constants of this module)
    f"UNION ALL SELECT id FROM {RUNS} WHERE finished_at IS NULL AND lease_owner IS NULL AND lease_expires_at < {DB_NOW}"
)
HOLDERS: Final = f"SELECT DISTINCT lease_owner FROM {LEASED} WHERE finished_at IS NULL AND lease_owner IN ({{owners}})"  # noqa: S608  (constants of this module)
FORGOTTEN: Final = (
    f"SELECT id FROM {RUNS} WHERE {UNCLAIMED} AND created_at < {LONG_AGO} AND NOT {IS_SUSPECTED} "  # noqa: S608  (constants of this module)
    "ORDER BY turn, created_at LIMIT 1000"
)
BEAT: Final = f"""
INSERT INTO tasks_workerprocess (id, cluster_id, host, pid, places, supervisor, workflows, started_at, beat_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, {DB_NOW}, {DB_NOW})
ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, places = excluded.places
"""  # noqa: S608  (constants of this module)
SUSPECTED_WAITING: Final = f"{IS_WAITING} AND {IS_SUSPECTED}"
IN_TURN: Final = "turn, created_at"
SUSPECTS_IN_TURN: Final = (
    "(SELECT COUNT(*) FROM tasks_run AS held WHERE held.user_id = tasks_run.user_id AND held.finished_at IS NULL "  # noqa: S608  (constants of this module)
    f"AND held.suspected_at IS NOT NULL AND held.lease_owner IS NOT NULL AND held.lease_owner <> '{SUSPENDED}'), {IN_TURN}"
)
"""The users of whom fewest suspects are in quarantine come first."""
HAS_WAITED: Final = (
    f"suspected_at < STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW', '-{FORGOTTEN_SECONDS} seconds') || '000'"
    if IS_SQLITE
    else f"suspected_at < CLOCK_TIMESTAMP() - INTERVAL '{FORGOTTEN_SECONDS} seconds'"
)
IS_CONVICTED: Final = f"strikes >= {CONVICTED_STRIKES}"


def _claim_statement(which: str, order: str = IN_TURN) -> str:
    """Return the statement that claims such runs.

    With `ANY(ARRAY(…))` PostgreSQL evaluates the subquery once. With `IN` it may evaluate it for
    each row, and return, and lock, other runs each time.
    """
    picked = f"SELECT id FROM {RUNS} WHERE {which} ORDER BY {order} LIMIT %s"  # noqa: S608  (constants of this module)
    among = f"IN ({picked})" if IS_SQLITE else f"= ANY(ARRAY({picked} FOR UPDATE SKIP LOCKED))"
    return (
        "UPDATE tasks_run SET status = 'in_progress', lease_owner = %s, claim_token = %s, epoch = epoch + 1, needs = NULL, "  # noqa: S608
        f"started_at = COALESCE(started_at, {DB_NOW}), lease_expires_at = {LEASE_END} WHERE id {among} "
        f"RETURNING id, root_id, target_id, epoch, claim_token, losses, strikes, {SECONDS_OLD}, trace, is_demo, wait_id, "
        f"{ANY_REQUEST}, {ANY_WEBHOOK}, {INPUTS}, {BUDGET}, interruption, turn, {DB_NOW}, {UNFLUSHED}"
    )


FROM_TURN: Final = f"{WAITING} AND turn >= %s"
CLAIM: Final = _claim_statement(FROM_TURN)
FIRST_OF_USER: Final = f"SELECT id FROM tasks_run WHERE {FROM_TURN} AND user_id = %s ORDER BY {IN_TURN} LIMIT %s"  # noqa: S608  (constants of this module)


def lease_seconds() -> int:
    """Return how long a lease lasts after its last renewal."""
    seconds: int = settings.APFLOW.worker.lease_seconds
    return seconds


def give_up_seconds() -> float:
    """Return how long an owner may keep its runs without a renewal.

    It stops before its lease expires and another worker may begin.
    """
    return lease_seconds() * 2 / 3


def steady_seconds() -> float:
    """Return a clock that is never set and, where the system has one, goes on while the machine
    sleeps.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that this process may work on, as long as its epoch and token are current.

    `is_any_request` and `is_any_webhook`: whether there was a cancel request or an open webhook of
    any run at that moment. `inputs`: those of the run, as JSON text. `wait_id`: the wait that ends with the run.
    `budget`: what it has used of its budget, as JSON text. `interruption`: how it lost its worker before. `turn`: its turn (`tasks.queue.fairness`).
    """

    run_id: str
    root_id: str
    target_id: str
    epoch: int
    token: str | None = None
    losses: int = 0
    strikes: int = 0
    seconds_old: float = 0.0
    trace: str | None = None
    is_demo: bool = False
    wait_id: str | None = None
    is_any_request: bool = True
    is_any_webhook: bool = True
    inputs: str | None = None
    budget: str | None = None
    interruption: str = ""
    turn: int = 0
    claimed_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    steady_at_claim: float = field(default_factory=lambda: steady_seconds())

    def now(self) -> datetime:
        """Return the database's time: that of the claim, and what has passed since.

        The clock of this machine may differ from those of others, and may be set at any moment.
        """
        return self.claimed_at + timedelta(seconds=steady_seconds() - self.steady_at_claim)

    @property
    def is_first(self) -> bool:
        """Whether this is the first claim of the run."""
        return self.epoch == 1

    @property
    def is_suspected(self) -> bool:
        return is_suspected(losses=self.losses, strikes=self.strikes)

    @property
    def is_convicted(self) -> bool:
        """Whether the run has killed a process that it had for itself."""
        return self.strikes >= CONVICTED_STRIKES

    @property
    def is_poison(self) -> bool:
        return self.strikes >= POISON_STRIKES


def this_host() -> str:
    """Return the name of the host, and what no other host shares whose processes this one cannot see.

    That is the boot, since two hosts may share a name, and the namespace of process ids, since two
    containers may run on one kernel. A network address would not do: a host may have none.
    """
    return f"{socket.gethostname()}-{hashlib.sha256(_boot().encode()).hexdigest()[:12]}"


@cache
def _boot() -> str:
    """Return the id of this boot of the machine and, on Linux, the inode of the namespace of this process's id."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip().lower()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"


def process_name(pid: int | None = None) -> str:
    """Return an id of this process, or another of this host, by which the host can later tell whether it is alive."""
    pid = pid or os.getpid()
    return f"{this_host()}/{pid}/{psutil.Process(pid).create_time():.2f}"


def pid_of(process: str) -> int:
    """Return the id of the process with this name."""
    return int(process.rsplit("/", 2)[1])


def enqueue(*run_ids: str) -> None:
    """Queue a wake-up for each run, in the caller's transaction."""
    now = datetime.now(UTC)
    insert_many([OrmQ(key=QUEUE_KEY, payload=run_id, lock=now) for run_id in run_ids], OrmQ)
    notify.send(notify.RUNS)


def is_any_waiting() -> bool:
    """Return whether a run waits for a worker."""
    return _exists(WAITING)


def is_any_suspected() -> bool:
    """Return whether a suspected run waits for a process of its own."""
    return _exists(SUSPECTED_WAITING)


def first_suspect(*, convicts_per_user: Callable[[str], int]) -> str | None:
    """Return the id of the suspected run that a new process for these would take; None without any.

    None of users of whom as many convicted runs as they may have are in quarantine on this host: each has a process for itself.
    """
    if not is_any_suspected():
        return None
    which, values = _suspects(convicts_per_user=convicts_per_user, is_shared=False)
    found = _column(f"SELECT id FROM {RUNS} WHERE {which} ORDER BY {SUSPECTS_IN_TURN} LIMIT 1", *values)  # noqa: S608  (constants of this module)
    return found[0] if found else None


def _suspects(*, convicts_per_user: Callable[[str], int], is_shared: bool) -> tuple[str, list[str]]:
    """Return the condition for waiting suspects that a process may take, and its values.

    One that `is_shared` takes no convicted ones, and leaves the others to new processes for a while.
    """
    if is_shared:
        return f"{SUSPECTED_WAITING} AND NOT {IS_CONVICTED} AND {HAS_WAITED}", []
    convicted = Run.objects.unfinished().filter(
        lease_owner__startswith=f"{this_host()}/", strikes__gte=CONVICTED_STRIKES
    )
    held = Counter(convicted.values_list("user_id", flat=True))
    full = [user_id for user_id, count in held.items() if count >= convicts_per_user(user_id)]
    if not full:
        return SUSPECTED_WAITING, []
    return f"{SUSPECTED_WAITING} AND NOT ({IS_CONVICTED} AND user_id IN ({marks(full)}))", full


def _exists(which: str) -> bool:
    with connection.cursor() as cursor:
        # In order, so that PostgreSQL, which expects many such runs if many are suspended, does not read the table.
        cursor.execute(f"SELECT 1 FROM {RUNS} WHERE {which} ORDER BY turn, created_at LIMIT 1")  # noqa: S608  (constants of this module)
        return cursor.fetchone() is not None


def claim(*, owner: str, limit: int, rooms: Mapping[str, int] | None = None) -> list[Claim]:
    """Take up to `limit` waiting runs: lowest turn first (`tasks.queue.fairness`), then oldest
    first.

    `rooms`: the most of each of these users, the rest of their share of this worker.
    """
    if limit <= 0 or (IS_SQLITE and not is_any_waiting()):  # SQLite would lock the database for nothing
        return []
    rooms = {user_id: room for user_id, room in (rooms or {}).items() if room < limit}
    statement = CLAIM
    with _beginning.look() as turn:
        values: list[str | int] = [turn, *rooms]
        if rooms:
            which = f"{FROM_TURN} AND (user_id NOT IN ({marks(list(rooms))})"
            for user_id, room in rooms.items():
                if room > 0:
                    which += f" OR id IN ({FIRST_OF_USER})"
                    values += [turn, user_id, room]
            statement = _claim_statement(f"{which})")
        claims = _claimed(statement, owner, *values, limit)
    _beginning.claimed([each.turn for each in claims])
    return claims


_beginning: Final = Beginning()


def claim_suspected(
    *, owner: str, convicts_per_user: Callable[[str], int] = lambda _: 1, is_shared: bool = False
) -> list[Claim]:
    """Take one suspected run, users in turn. `is_shared`: the process has others, which have stayed alive there."""
    if not is_any_suspected():
        return []
    which, values = _suspects(convicts_per_user=convicts_per_user, is_shared=is_shared)
    return _claimed(_claim_statement(which, SUSPECTS_IN_TURN), owner, *values, 1)


def _claimed(statement: str, owner: str, *values: Any) -> list[Claim]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [owner, secrets.token_hex(8), f"{lease_seconds()} seconds", *values])
        rows = sorted(cursor.fetchall(), key=itemgetter(0))
    return [Claim(*(*columns, moment(now))) for *columns, now, _ in rows]


def moment(stored: str | datetime) -> datetime:
    """Return the moment of a `DB_NOW`: SQLite has a text in UTC."""
    return datetime.fromisoformat(stored).replace(tzinfo=UTC) if isinstance(stored, str) else stored


def renew(*, owner: str, run_ids: Iterable[str]) -> None:
    """Extend the leases on the runs."""
    Run.objects.unfinished().filter(id__in=list(run_ids), lease_owner=owner).update(
        lease_expires_at=Now() + timedelta(seconds=lease_seconds())
    )


def release(*, owner: str, run_ids: Collection[str] | None = None) -> None:
    """Release this owner's runs, or those of them, so that other workers resume them at once."""
    with transaction.atomic():
        held = Run.objects.unfinished().filter(lease_owner=owner)
        wake(_let_go(held if run_ids is None else held.filter(id__in=list(run_ids)), Interruption.RELEASED))


def sweep(*, may_expire: Callable[[], bool] = lambda: True) -> int:
    """Queue runs that wait without a worker: dead owners, expired leases, lost wake-ups.

    Expired leases are left unless `may_expire`, which is asked once, says so
    (`tasks.queue.clock`).
    Any number of processes may sweep at once: a redundant wake-up does nothing. Returns the number
    of runs queued.
    """
    owners = _owners()
    released = [*_released_by_the_dead(owners), *_expired(owners, may_expire)]
    forgotten = _column(FORGOTTEN)
    waiting = {*released, *forgotten}
    if waiting:
        with transaction.atomic():
            wake(sorted(waiting))
    return len(waiting)


def _owners() -> list[str]:
    """Return the lease owners but for `SUSPENDED`, by one look into the index for each: many runs may be suspended."""
    return [owner for owner in _column(OWNERS) if owner != SUSPENDED]


def _column(statement: str, *values: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [row[0] for row in cursor.fetchall()]


def _released_by_the_dead(owners: Collection[str]) -> list[str]:
    """Release the runs of dead processes of this host at once, and count the deaths.

    While the supervisor of a process lives, this waits for what it records about the end.
    """
    released: list[str] = []
    dead = dead_owners(owners)
    supervisors = dict(WorkerProcess.objects.filter(id__in=dead).values_list("id", "supervisor")) if dead else {}
    for owner in dead:
        end = None
        if (supervisor := supervisors.get(owner)) and is_alive(supervisor):
            end = black_box.end_of(owner)
            if end is None:
                continue
        with transaction.atomic():
            held = Run.objects.unfinished().filter(lease_owner=owner)
            if end is None or end.exit_code is None:
                count_host_loss(held)
                released += _let_go(held, Interruption.HOST_LOST)
            else:
                blame(held, black_box.runs_in(owner), Death(process=owner, exit_code=end.exit_code))
                released += _let_go(held, Interruption.DIED)
    return released


def processes_of(*, cluster_id: str) -> list[str]:
    """Return the names of the worker processes that have beaten for the cluster."""
    return list(WorkerProcess.objects.filter(cluster_id=cluster_id).values_list("id", flat=True))


def discard_boxes() -> None:
    """Remove what black boxes say of processes of this host that have ended and hold no run: the sweep has read it."""
    holders = set(_owners())
    black_box.discard_all(lambda owner: owner in holders or is_alive(owner))


def _expired(owners: Sequence[str], may_expire: Callable[[], bool]) -> list[str]:
    """Release the runs whose lease has expired.

    Their owner may be alive, and perhaps only could not reach the database. `may_expire` is asked
    after the clock was compared with the leases: if it jumped before, that shows.
    """
    owned_by = owners or [NO_OWNER]
    run_ids = _column(EXPIRED.format(owners=marks(owned_by)), *owned_by)
    if not may_expire() or not run_ids:
        return []
    is_not_suspended = Q(lease_owner=None) | ~Q(lease_owner=SUSPENDED)
    with transaction.atomic():
        expired = Run.objects.unfinished().filter(is_not_suspended, id__in=run_ids, lease_expires_at__lt=Now())
        holders = set(expired.values_list("lease_owner", flat=True))
        if not holders:
            return []
        silent = expired.filter(lease_owner__in=_fallen_silent(holders))
        count_host_loss(silent)
        return [*_let_go(silent, Interruption.HOST_LOST), *_let_go(expired, Interruption.EXPIRED)]


def _fallen_silent(owners: Collection[str | None]) -> list[str]:
    """Return the owners on other hosts whose heartbeat stopped while others went on.

    When the database does not answer, all heartbeats stop together.
    """
    newest = WorkerProcess.objects.aggregate(at=Max("beat_at"))["at"]
    if newest is None:
        return []
    silent = WorkerProcess.objects.filter(id__in=owners, beat_at__lt=newest - timedelta(seconds=ALIVE_SECONDS))
    return list(silent.exclude(host=this_host()).values_list("id", flat=True))


def _let_go(held: RunQuerySet, how: Interruption) -> list[str]:
    """End the leases, and refuse what their owners still write."""
    run_ids = list(held.values_list("id", flat=True))
    held.filter(id__in=run_ids).update(
        lease_owner=None, lease_expires_at=None, claim_token=None, epoch=F("epoch") + 1, interruption=how
    )
    return run_ids


def dead_owners(owners: Iterable[str | None]) -> list[str]:
    """Return the lease owners that were processes of this host and have ended."""
    mine = f"{this_host()}/"
    return [owner for owner in owners if owner and owner.startswith(mine) and not is_alive(owner)]


def is_alive(owner: str) -> bool:
    _, pid, started = owner.rsplit("/", 2)
    try:
        process = psutil.Process(int(pid))
        # A zombie has ended, but its parent has not collected its exit code; in a container it may
        # never do so.
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - float(started)) < 1
    except psutil.NoSuchProcess:
        return False


def wake(run_ids: Sequence[str]) -> None:
    """Queue a wake-up for each run that has none in the queue."""
    queued = set(OrmQ.objects.filter(key=QUEUE_KEY, payload__in=run_ids).values_list("payload", flat=True))
    OrmQ.objects.bulk_create(
        [OrmQ(key=QUEUE_KEY, payload=run_id, lock=Now()) for run_id in run_ids if run_id not in queued]
    )
    notify.send(notify.RUNS)


def beat(
    *, process_id: str, cluster_id: str, places: int = 0, workflows: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Record a heartbeat of this worker process.

    `places`: how many trees it can run at a time (`tasks.queue.places`). `workflows`: the ids of the workflows whose code it has, and the
    versions of that.
    """
    with connection.cursor() as cursor:
        supervisor = os.environ.get(SUPERVISOR_VARIABLE, "")
        versions = orjson.dumps(dict(workflows)).decode() if workflows else None
        values: list[Any] = [process_id, cluster_id, this_host(), pid_of(process_id), places, supervisor, versions]
        cursor.execute(BEAT, values)


def forget_workers() -> None:
    """Delete the worker processes without a heartbeat for an hour."""
    old = WorkerProcess.objects.filter(beat_at__lt=Now() - timedelta(hours=1))
    if old.exists():  # a DELETE would take SQLite's lock
        old.delete()


def seconds_silent(*, cluster_id: str) -> dict[str, float]:
    """Return how long ago the last heartbeat of each worker process of the cluster was."""
    return {name: (now - at).total_seconds() for name, at, now in BEATS.rows(cluster_id=cluster_id)}


def holders(among: Sequence[str]) -> list[str]:
    """Return those of the worker processes that hold runs."""
    return _column(HOLDERS.format(owners=marks(among)), *among) if among else []


def held_by(*, cluster_id: str) -> int:
    """Count the runs that the worker processes of the cluster work on."""
    owners = WorkerProcess.objects.filter(cluster_id=cluster_id).values("id")
    return Run.objects.unfinished().filter(lease_owner__in=owners).count()


def held() -> RunQuerySet:
    """Return the runs that a worker works on."""
    return (
        Run.objects.unfinished()
        .filter(lease_expires_at__gte=Now(), lease_expires_at__lt=NEVER)
        .exclude(lease_owner=SUSPENDED)
    )


def waiting() -> RunQuerySet:
    """Return the runs that wait for a worker."""
    return Run.objects.unfinished().filter(lease_owner=None, lease_expires_at=None)


def longest_wait_seconds() -> float:
    """Return how long the oldest waiting run has waited; 0 if none waits."""
    with connection.cursor() as cursor:
        cursor.execute(LONGEST_WAIT)
        (seconds,) = cursor.fetchone()
    return max(0.0, float(seconds or 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """The suspected runs: all, those that wait for a process, and since when the oldest is suspected, with its tree."""

    count: int
    waiting: int
    oldest_at: datetime | None
    oldest_root_id: str | None

    @property
    def oldest_seconds(self) -> float:
        """The seconds for which the oldest is suspected; 0 without any."""
        return (datetime.now(UTC) - self.oldest_at).total_seconds() if self.oldest_at else 0.0


def suspects() -> Suspects:
    """Return the suspected runs of the whole installation."""
    found = Run.objects.unfinished().filter(suspected_at__isnull=False)
    oldest = found.order_by("suspected_at").first()
    return Suspects(
        count=found.count(),
        waiting=found.filter(lease_owner=None).count(),
        oldest_at=oldest.suspected_at if oldest else None,
        oldest_root_id=oldest.root_id if oldest else None,
    )


def is_beating(*, within_seconds: float) -> bool:
    """Return whether a worker process has had a heartbeat within the time."""
    return WorkerProcess.objects.filter(beat_at__gte=Now() - timedelta(seconds=within_seconds)).exists()


#: Asked every second by each supervisor.
BEATS: Final = Prepared(
    lambda *, cluster_id: WorkerProcess.objects.filter(cluster_id=cluster_id).values_list("id", "beat_at", Now())
)
