"""Preparation of the database before a server or worker starts: migrations and examples."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connection

from apflow_site.db import schema
from apflow_site.db.sessions import free_session, set_up_session
from apflow_site.metrics import forget_the_past
from tasks.services.upkeep.examples import fill_empty_database

MIGRATION_LOCK = 0x61_70_66_6C_6F_77
"""The number of PostgreSQL's advisory lock."""


def prepare() -> bool:
    """Apply migrations, and store the examples in an empty database (`server.examples`).

    Returns whether it has queued examples to run.

    Of processes that start together, one does this while the others wait. Raises SchemaTooNew if a
    newer version has migrated the database, and django.db.DatabaseError if it cannot be used.
    """
    with _one_at_a_time():
        forget_the_past()
        schema.require_known()
        if schema.missing():  # the command takes a tenth of the start also if there is nothing to do
            call_command("migrate", verbosity=0, interactive=False)
        examples = settings.APFLOW.server.examples
        stored = examples != "none" and fill_empty_database(run=examples == "run")
        return bool(stored) and examples == "run"


def lock_path(purpose: str) -> Path:
    """The path of a lock file for processes of this machine that use the same database."""
    database = hashlib.sha256(settings.APFLOW.database.url.encode()).hexdigest()[:12]
    return Path(settings.DATA_DIR) / f"{purpose}-{database}.lock"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with lock_path("prepare").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if connection.vendor != "postgresql":
            yield
            return
        with connection.cursor() as cursor:
            free_session(connection)
            cursor.execute("SELECT pg_advisory_lock(%s)", [MIGRATION_LOCK])
            try:
                yield
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [MIGRATION_LOCK])
                set_up_session(connection)
