"""Transactions that take turns, so that each sees what the one before has added to a number of rows."""

from typing import Final

from django.db import connection

LOCK: Final = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"


def take_turns(kind: int, key: str) -> None:
    """Wait for other transactions with this kind and key; until this one ends, they wait for it.

    SQLite has one writer at a time anyway. `kind` is a number of 32 bits that one module uses.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(LOCK, [kind, key])
