"""Timeouts of each PostgreSQL session. SQLite has no sessions."""

from typing import Any, Final

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

SET: Final = (
    "SELECT set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', %s, false)"
)
NOTICE_THE_DEAD: Final = (
    "SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false), "
    "set_config('tcp_keepalives_count', '2', false), set_config('tcp_user_timeout', '9000', false)"
)
"""PostgreSQL ends the session of a machine that has gone without a word after 9 seconds.

Otherwise a transaction of that machine keeps its locks for `database.idle_seconds`, and no other
worker can take over its runs when their leases expire, after 15. On a Unix socket they do nothing.
"""


def limit_session(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Apply `database.statement_seconds`, `database.idle_seconds` and keepalives to a new connection."""
    database = settings.APFLOW.database
    _limit(connection, statement=database.statement_seconds, idle=database.idle_seconds)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(NOTICE_THE_DEAD)


def unlimit_session(connection: BaseDatabaseWrapper) -> None:
    """Remove the timeouts of a connection: migrations take as long as they need."""
    _limit(connection, statement=0, idle=0)


def _limit(connection: BaseDatabaseWrapper, *, statement: int, idle: int) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(SET, [str(statement * 1000), str(idle * 1000)])
