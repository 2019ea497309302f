"""Statements that are sent together: PostgreSQL's pipeline mode."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from django.db import DatabaseError, Error, connection, transaction

from apflow_site.db.connections import IS_SQLITE

REFUSED: Final = "SELECT CAST('given up' AS integer)"
"""The server refuses it, and with it the transaction."""


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


@contextmanager
def in_one_go(*, savepoint: bool = True) -> Iterator[None]:
    """Open a transaction that is `pipelined`, and whose commit is sent with its last statements.

    PostgreSQL begins it with the first statement, and commits it where the pipeline ends: `BEGIN` and
    `COMMIT` would each be a round trip. A statement that is refused rolls everything back. The block has no savepoints,
    and no block of `transaction.atomic` but those without one. Within a transaction it is a part of that.
    """
    if IS_SQLITE or connection.in_atomic_block:
        with transaction.atomic(savepoint=savepoint), pipelined():
            yield
        return
    with transaction.atomic():
        connection.connection.autocommit = True  # else psycopg would send a `BEGIN`; Django does not look at it
        try:
            with pipelined(), _taken_back_if_it_fails():
                yield
        except BaseException:
            _forget_prepared()
            raise


@contextmanager
def _taken_back_if_it_fails() -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(DatabaseError):  # else the end of the pipeline would commit what has been sent
            connection.cursor().execute(REFUSED)
        raise


def _forget_prepared() -> None:
    """Let psycopg prepare each statement again.

    It takes a statement for prepared also if PostgreSQL skipped it, after the one that was refused, and
    would fail at each later use. It forgets them with a transaction that it rolls back; of the refused
    one it does not know.
    """
    with (
        suppress(Error),  # a broken connection, where nothing is prepared any more: the caller raises why
        connection.wrap_database_errors,
        connection.connection.transaction(force_rollback=True),
    ):
        pass
