"""Timeouts of each PostgreSQL session. SQLite has no sessions."""

from typing import Any, Final

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

SET: Final = (
    "SELECT set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)"
)


def limit_session(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Apply `database.statement_seconds` and `database.idle_seconds` to a new connection."""
    database = settings.APFLOW.database
    _limit(connection, statement=database.statement_seconds, idle=database.idle_seconds)


def unlimit_session(connection: BaseDatabaseWrapper) -> None:
    """Remove the timeouts of a connection: migrations take as long as they need."""
    _limit(connection, statement=0, idle=0)


def _limit(connection: BaseDatabaseWrapper, *, statement: int, idle: int) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(SET, [str(statement * 1000), str(idle * 1000)])
