"""Whether this installation can do its work now: what `GET /ready` answers, and part of what `aipartnerupflow doctor` looks at."""

import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now
from django_q.models import OrmQ

from apflow_db.connections import IS_SQLITE
from tasks.models import Run
from tasks.queue import leases, notify

Check = dict[str, Any]
ALIVE_SECONDS: Final = 15.0
STUCK_SECONDS: Final = 60
"""A run that waits so long while workers are alive is no matter of a moment."""
NOTIFY_SECONDS: Final = 2.0
ROOM_BYTES: Final = 2**20
"""With less room SQLite may refuse to write."""


class Trouble(Exception):
    """Something that must be is not; `fix` is what to do."""

    def __init__(self, message: str, *, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(message)


def readiness() -> dict[str, Any]:
    """`{"ready": bool, "checks": {name: {"ok", "message", "fix"}}}`: database, migrations, worker, queue. Only reads."""
    checks = {}
    for name, look in CHECKS.items():
        checks[name] = checked(look)
        if name == "database" and not checks[name]["ok"]:
            break  # of the others nothing can be said
    return {"ready": all(check["ok"] for check in checks.values()), "checks": checks}


def checked(look: Callable[[], str]) -> Check:
    """What a look found; `fix` is null where nothing is to be done."""
    try:
        return {"ok": True, "message": look(), "fix": None}
    except Trouble as trouble:
        return {"ok": False, "message": trouble.message, "fix": trouble.fix}


def database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        connection.close()
        raise Trouble(
            "The database does not answer.", fix="Start it, or correct database.url (AIPARTNERUPFLOW_DATABASE_URL)."
        ) from None
    if IS_SQLITE and shutil.disk_usage(Path(connection.settings_dict["NAME"]).parent).free < ROOM_BYTES:
        raise Trouble(
            "The disk of the database is full: nothing can be stored.",
            fix="Make room on it, or move the database (server.data_dir, database.url); then all goes on by itself.",
        )
    return "ok"


def migrations() -> str:
    executor = MigrationExecutor(connection)
    if missing := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise Trouble(f"{len(missing)} migrations are missing.", fix="Run: aipartnerupflow migrate")
    return "ok"


def worker() -> str:
    if not leases.is_beating(within_seconds=ALIVE_SECONDS):
        raise Trouble(
            f"No worker process has given a sign for {ALIVE_SECONDS:.0f} s.", fix="Start one: aipartnerupflow worker"
        )
    return "ok"


def queue() -> str:
    """Work is taken while there are workers with room. A long queue before busy workers is no fault."""
    forgotten = leases.waiting().filter(created_at__lt=Now() - timedelta(seconds=STUCK_SECONDS)).count()
    if forgotten and leases.is_beating(within_seconds=ALIVE_SECONDS) and _is_nothing_taken():
        raise Trouble(
            f"{forgotten} runs have waited for more than {STUCK_SECONDS} s although workers have room for them.",
            fix="Look into the workers' log for errors, and start them anew.",
        )
    return "ok"


def _is_nothing_taken() -> bool:
    """Whether workers have room, and yet none has begun with a run of late."""
    places = leases.beating_count() * settings.APFLOW.worker.max_trees
    of_late = Now() - timedelta(seconds=STUCK_SECONDS)
    return leases.held().count() < places and not Run.objects.filter(started_at__gte=of_late).exists()


#: What `GET /ready` looks at, at each call.
CHECKS: Final[dict[str, Callable[[], str]]] = {
    "database": database,
    "migrations": migrations,
    "worker": worker,
    "queue": queue,
}


def hears_notifications() -> str:
    """Whether a commit is heard by a listener at once. It writes a row, and deletes it."""
    heard = threading.Event()
    bell = notify.listen(notify.RUNS)
    try:
        bell.wait(0.0)  # what was rung before
        listener = threading.Thread(target=_listen, args=[bell, heard], daemon=True)
        listener.start()
        row = OrmQ.objects.create(key="doctor", payload="", lock=None)
        notify.send(notify.RUNS)
        row.delete()
        listener.join()
    finally:
        bell.close()
    if not heard.is_set():
        raise Trouble(
            "A commit is not heard by other processes: work starts late, and streams lag.",
            fix="On PostgreSQL connect without a transaction pooler (PgBouncer: pool_mode = session): LISTEN needs a connection of its own.",
        )
    return "ok"


def _listen(bell: notify.Notifier, heard: threading.Event) -> None:
    if bell.wait(NOTIFY_SECONDS):
        heard.set()
