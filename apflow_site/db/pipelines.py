"""Statements that are sent together: PostgreSQL's pipeline mode."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

from apflow_site.db.connections import IS_SQLITE


@contextmanager
def pipelined() -> Iterator[None]:
    """Send the statements of the block without waiting for the reply to each.

    Reading a row waits for the replies so far. A statement may so raise at a later one, or at the
    end of the block, and the rowcount of a cursor is known only after the block. A block within
    another is a part of it. On SQLite, which answers at once, nothing changes.
    """
    if IS_SQLITE:
        yield
        return
    connection.ensure_connection()
    if (
        connection.connection.pgconn.pipeline_status
    ):  # 0 is off; a server on SQLite need not import psycopg for its name
        yield
        return
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield
