"""The readiness of this process to serve requests, and of workers to run trees: `GET /ready`, and a part of
`aipartnerupflow doctor`.
"""

import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from django.db import DatabaseError, connection
from django.db.models.functions import Now
from django_q.models import OrmQ

from apflow_site.db import schema
from apflow_site.db.advice import FREE_SPACE, advice_for
from apflow_site.db.connections import IS_SQLITE
from tasks.models import Run
from tasks.queue import leases, maintenance, notify
from tasks.queue.notify import Notifier
from tasks.queue.places import places

Check = dict[str, Any]
ALIVE_SECONDS: Final = 15.0
STUCK_SECONDS: Final = 60
"""A run that has waited this long while workers are alive counts as stuck."""
NOTIFY_SECONDS: Final = 2.0
WITHOUT_LISTEN: Final = (
    "set redis.url, or connect without a transaction pooler (PgBouncer: pool_mode = session): "
    "LISTEN needs a session of its own"
)
ROOM_BYTES: Final = 2**20
"""The free space below which SQLite may refuse to write."""


class Trouble(Exception):
    """A failed check; `fix` says how to repair it."""

    def __init__(self, message: str, *, fix: str) -> None:
        self.message, self.fix = message, fix
        super().__init__(message)


def readiness(*, workers: bool = True) -> dict[str, Any]:
    """Return `{"ready": bool, "checks": {name: {"ok", "message", "fix"}}}`; reads only.

    The checks are those of this web process; with `workers`, also those of the workers. A web
    process without workers is ready: it answers every request, and stores runs for later.
    """
    checks = {}
    for name, check in (CHECKS | WORKER_CHECKS if workers else CHECKS).items():
        checks[name] = checked(check)
        if name == "database" and not checks[name]["ok"]:
            break  # the others need the database
    return {"ready": all(check["ok"] for check in checks.values()), "checks": checks}


def checked(check: Callable[[], str]) -> Check:
    """Run a check. `fix` is None if there is nothing to repair."""
    try:
        return {"ok": True, "message": check(), "fix": None}
    except Trouble as trouble:
        return {"ok": False, "message": trouble.message, "fix": trouble.fix}


def database() -> str:
    try:
        connection.ensure_connection()
        if IS_SQLITE:
            connection.require_file()  # type: ignore[attr-defined]  # of apflow_site.sqlite
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA schema_version" if IS_SQLITE else "SELECT 1")
    except DatabaseError as error:
        connection.close()
        message, fix = advice_for(error)
        raise Trouble(message, fix=fix) from None
    if IS_SQLITE and shutil.disk_usage(Path(connection.settings_dict["NAME"]).parent).free < ROOM_BYTES:
        message, fix = FREE_SPACE
        raise Trouble(message, fix=fix)
    return "ok"


def migrations() -> str:
    """Newer migrations are no fault: during an upgrade, processes of the previous version still serve."""
    if missing := schema.missing():
        raise Trouble(f"{len(missing)} migrations are missing.", fix="Run: aipartnerupflow migrate")
    return "ok"


def worker() -> str:
    if not leases.is_beating(within_seconds=ALIVE_SECONDS):
        raise Trouble(
            f"No worker process has sent a heartbeat for {ALIVE_SECONDS:.0f} s.",
            fix="Start one: aipartnerupflow worker",
        )
    found = places()
    return (
        f"{_count(found.processes, 'process', 'processes')} on {_count(found.hosts, 'machine', 'machines')}, "
        f"running {found.used} of at most {found.total} trees"
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def queue() -> str:
    """Check that runs are claimed while workers have free places.

    A long queue for busy workers is not a fault.
    """
    if (since := maintenance.since()) is not None:
        return f"maintenance since {since:%Y-%m-%d %H:%M} UTC; end it with `aipartnerupflow maintenance off`"
    stuck_since = Now() - timedelta(seconds=STUCK_SECONDS)
    forgotten = leases.waiting().filter(created_at__lt=stuck_since).count()
    if forgotten and places().is_any_free and not Run.objects.filter(started_at__gte=stuck_since).exists():
        raise Trouble(
            f"{forgotten} runs have waited for more than {STUCK_SECONDS} s although workers have free places.",
            fix="Check the workers' log for errors, then restart them.",
        )
    return "ok"


#: The checks of a web process, run at each `GET /ready`.
CHECKS: Final[dict[str, Callable[[], str]]] = {"database": database, "migrations": migrations}
#: The checks of the workers of the installation, on all machines: `GET /ready?workers=1`.
WORKER_CHECKS: Final[dict[str, Callable[[], str]]] = {"worker": worker, "queue": queue}


def hears_notifications() -> str:
    """Check that a listener is notified of a commit at once. Writes a row and deletes it."""
    heard = threading.Event()
    notifier = notify.listen(notify.RUNS)
    try:
        notifier.wait(0.0)  # discards earlier notifications
        listener = threading.Thread(target=_listen, args=[notifier, heard], daemon=True)
        listener.start()
        row = OrmQ.objects.create(key="doctor", payload="", lock=None)
        notify.send(notify.RUNS)
        row.delete()
        listener.join()
    finally:
        notifier.close()
    if not heard.is_set():
        raise Trouble(
            "Other processes are not notified of commits: runs start late, and streams lag.",
            fix=f"On PostgreSQL {WITHOUT_LISTEN}.",
        )
    return "ok"


def _listen(notifier: Notifier, heard: threading.Event) -> None:
    if notifier.wait(NOTIFY_SECONDS):
        heard.set()
