"""Preparation of the database before a server or worker starts: migrations and examples."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from apflow_site.databases import APPLICATION
from apflow_site.db import schema
from apflow_site.db.connections import free_session, set_up_session
from apflow_site.metrics import forget_the_past
from tasks.services.upkeep.examples import fill_empty_database

MIGRATION_LOCK = 0x61_70_66_6C_6F_77
"""The number of PostgreSQL's advisory lock."""
OWN_OPTIONS: Final = {"server_side_binding": False, "prepare_threshold": None}
"""Statements as plain text: after one with parameters of its own, PostgreSQL keeps the snapshot until the next."""
POLL_SECONDS: Final = 0.2
STARTING: Final = {
    "the database system is": 60.0,
    "not yet accepting connections": 60.0,
    "Connection refused": 10.0,
    "No such file or directory": 10.0,
}
"""Message of PostgreSQL or libpq while the server starts or recovers, or before it does → the seconds to wait."""
QUIET_POLLS: Final = 10
"""The number of polls of a process before it logs that it waits."""
NO_LIMITS: Final = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')
"""
"""No limits for this transaction. Only PostgreSQL 17 and later have the second one."""
PREPARED_VARIABLE: Final = "APFLOW_INTERNAL_PREPARED"
"""The variable that tells web processes that `aipartnerupflow serve` has prepared everything before it started them."""

log = logging.getLogger(__name__)


def prepare() -> list[str]:
    """Apply migrations, and store the examples in an empty database (`server.examples`).

    Returns the roots of the examples that it has stored.

    If several processes start together, one does this while the others wait. Raises SchemaMismatch if this
    version must not use the database, and django.db.DatabaseError if it cannot be used.
    """
    with _one_at_a_time():
        forget_the_past()
        schema.require_known()
        if schema.missing():  # the command takes a tenth of the start also if there is nothing to do
            call_command("migrate", verbosity=0, interactive=False)
        examples = settings.APFLOW.server.examples
        return [] if examples == "none" else fill_empty_database(run=examples == "run")


def await_database() -> None:
    """Wait while PostgreSQL starts, as after a restart of its machine. Raises django.db.OperationalError after the time.

    Any other reason for which it cannot be used is raised at once.
    """
    began_at, logged = monotonic(), False
    while True:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            patience = max((seconds for words, seconds in STARTING.items() if words in str(error)), default=0.0)
            if monotonic() >= began_at + patience:
                raise
            if not logged:
                logged = True
                log.warning("Waiting for PostgreSQL: %s", str(error).strip(), extra={"event": "database.waiting"})
            sleep(POLL_SECONDS)
        else:
            return


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    connection.ensure_connection()  # its error is that of a database that cannot be used
    with _file_locked() if connection.vendor == "sqlite" else _database_locked():
        yield


@contextmanager
def _file_locked() -> Iterator[None]:
    """Hold a lock of the folder of the SQLite file: the file itself has locks of SQLite's own."""
    folder = os.open(Path(connection.settings_dict["NAME"]).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _database_locked() -> Iterator[None]:
    """Hold a lock of the PostgreSQL database, in a transaction of a connection of its own.

    A statement that waited for the lock would have a snapshot as long as it waits, and `CREATE INDEX
    CONCURRENTLY` waits for all snapshots: a deadlock. An open transaction that does nothing has
    none, and a pooler cannot hand its session to others.
    """
    own = connection.copy()
    own.settings_dict["OPTIONS"] |= OWN_OPTIONS | {"application_name": f"{APPLICATION} (migration lock)"}
    try:
        own.set_autocommit(False)
        for attempt in count():
            if _is_locked(own):
                break
            if attempt == QUIET_POLLS:
                log.info(
                    "Waiting until another process has migrated the database", extra={"event": "migration.waiting"}
                )
            own.rollback()
            sleep(POLL_SECONDS)
        free_session(connection)
        try:
            yield
        finally:
            set_up_session(connection)
    finally:
        own.close()


def _is_locked(own: BaseDatabaseWrapper) -> bool:
    """Return whether this connection holds the lock, or takes it. Its transaction may then last as long as migrations do."""
    with own.cursor() as cursor:
        cursor.execute(NO_LIMITS)
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        return bool(cursor.fetchone()[0])
