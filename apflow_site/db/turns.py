"""Transactions that take turns, so that each sees what the one before has added to a number of rows."""

from typing import Final

from django.db import connection

LOCKS: Final = """
SELECT pg_advisory_xact_lock(%s, key) FROM (
    SELECT DISTINCT hashtext(name) AS key FROM unnest(%s::text[]) AS name ORDER BY key
) AS keys
"""
"""In the order of the keys, so that no two transactions wait for each other."""


def take_turns(kind: int, *names: str) -> None:
    """Wait for other transactions with this kind and one of the names; until this one ends, they wait for it.

    Call it once in a transaction, with all names. SQLite has one writer at a time anyway. `kind` is a number of 32
    bits that one module uses.
    """
    if connection.vendor == "postgresql" and names:
        with connection.cursor() as cursor:
            cursor.execute(LOCKS, [kind, list(names)])
