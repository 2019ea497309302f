"""Database connections: long-lived ones of threads, each of which notices when its own is dead, and settings of PostgreSQL sessions."""

import sqlite3
import time
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

IS_SQLITE: Final = connection.vendor == "sqlite"
TRUSTED_SECONDS: Final = 1.0
"""A connection that worked so recently is used without a check; checking it would double the cost of a short query."""
POSTGRES_DISK_FULL: Final = "53100"
"""The SQLSTATE. The exception of psycopg is not named: a server on SQLite need not import psycopg."""


def refresh(*, trusted_seconds: float = TRUSTED_SECONDS) -> None:
    """Drop this thread's connection if the server has closed it. Call it before a piece of work, outside of transactions."""
    now = time.monotonic()
    if connection.errors_occurred or now - getattr(connection, "used_at", 0.0) > trusted_seconds:
        connection.close_if_unusable_or_obsolete()
    setattr(connection, "used_at", now)  # noqa: B010  on the wrapper, which belongs to this thread, as the connection does


def is_disk_full(error: Exception) -> bool:
    """Return whether the database refused to write because the disk is full: nothing of the transaction is stored."""
    cause = error.__cause__
    return (
        getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        or getattr(cause, "sqlstate", None) == POSTGRES_DISK_FULL
    )


TIMEOUTS: Final = (
    "SELECT set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)"
)
TABLES_READ_WHOLE: Final = "SELECT set_config('enable_seqscan', %s, false)"
"""Whether PostgreSQL may read a whole table where an index would do.

The plan of a prepared statement is kept. Made while a table has few rows, it reads all of it, and
does so for thousands of new rows, until the table is analysed: a minute or more later.
"""
NOTICE_THE_DEAD: Final = (
    "SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false), "
    "set_config('tcp_keepalives_count', '2', false), set_config('tcp_user_timeout', '9000', false)"
)
"""PostgreSQL ends the session of a machine that has gone without a word after 9 seconds.

Otherwise a transaction of that machine keeps its locks for `database.idle_seconds`, and no other
worker can take over its runs when their leases expire, after 15. On a Unix socket they do nothing.
"""


def name_sessions(role: str) -> None:
    """Show what this process does in the `application_name` of its next PostgreSQL sessions."""
    if connection.vendor == "postgresql":
        options = connection.settings_dict["OPTIONS"]
        options["application_name"] = f"{options['application_name'].partition(' (')[0]} ({role})"


def set_up_session(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Apply `database.statement_seconds`, `database.idle_seconds`, keepalives and indexes to a new connection, and read its times fast."""
    if connection.vendor != "postgresql":
        return
    database = settings.APFLOW.database
    connection.connection.adapters.register_loader("timestamptz", _moments())
    with connection.cursor() as cursor:
        _limit(cursor, statement=database.statement_seconds, idle=database.idle_seconds)
        cursor.execute(NOTICE_THE_DEAD)
        cursor.execute(TABLES_READ_WHOLE, ["off"])


@cache
def _moments() -> type[Any]:
    """Return a class that reads times of sessions in UTC as Django's class does, in an eighth of the time: a row has five of them."""
    from psycopg.adapt import Buffer, Loader  # noqa: PLC0415  (a server on SQLite need not import it)

    class Moments(Loader):
        timezone = UTC  # Django's cursors ask for it

        def load(self, data: Buffer) -> datetime:
            return datetime.fromisoformat(str(data, "ascii"))

    return Moments


def free_session(connection: BaseDatabaseWrapper) -> None:
    """Remove the timeouts of a connection, and let it read whole tables: migrations do, and take as long as they need."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        _limit(cursor, statement=0, idle=0)
        cursor.execute(TABLES_READ_WHOLE, ["on"])


def _limit(cursor: CursorWrapper, *, statement: int, idle: int) -> None:
    cursor.execute(TIMEOUTS, [str(statement * 1000), str(idle * 1000)])


def plan_by_values() -> None:
    """Let PostgreSQL plan the queries of this transaction by their values.

    A query that is repeated soon has a plan for any value: for few rows, although these may be most of the table.
    """
    if not IS_SQLITE:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL plan_cache_mode = force_custom_plan")
