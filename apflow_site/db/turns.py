"""Transactions that take turns, so that each sees what the one before has added to a number of rows."""

from typing import Any, Final
from zlib import crc32

from django.db import connection
from django.db.models import QuerySet

LOCKS: Final = """
SELECT pg_advisory_xact_lock(%s, key) FROM (
    SELECT DISTINCT hashtext(name) AS key FROM unnest(%s::text[]) AS name ORDER BY key
) AS keys
"""
"""The statement that takes the locks in the order of the keys, so that no two transactions wait for each other."""


def take_turns(kind: int, *names: str) -> None:
    """Wait for other transactions with this kind and one of the names; until this one ends, they wait for it.

    Call it once in a transaction, with all names. SQLite has one writer at a time anyway. `kind` is a number of 32
    bits that one module uses.
    """
    if connection.vendor == "postgresql" and names:
        with connection.cursor() as cursor:
            cursor.execute(LOCKS, [kind, list(names)])


def has_room(rows: "QuerySet[Any]", *, of: str, most: int) -> bool:
    """Check whether one more row fits beside these, of which there may be `most`.

    Every limit of rows per user (`of` is the user) or per run is checked here, in the transaction that
    adds the row: transactions that add rows of one model for the same `of` take turns, so that none of
    them misses a row of another.
    """
    take_turns(crc32(rows.model._meta.db_table.encode()) - 2**31, of)
    return len(rows.order_by().values_list("pk")[:most]) < most
