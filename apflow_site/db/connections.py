"""Long-lived database connections: the threads of this project keep theirs, so each must notice when its own is dead."""

import sqlite3
import time
from typing import Final

from django.db import connection

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
