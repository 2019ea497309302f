"""What the plan of a query says."""

from collections.abc import Sequence
from typing import Final

from django.db import connection

TABLES: Final = ("tasks_task", "tasks_run", "tasks_taskevent", "tasks_runtag")
MANY_TREES: Final = 3_000 if connection.vendor == "postgresql" else 1_000
"""PostgreSQL reads small tables whole. SQLite plans without knowing how many rows there are."""


def reads_a_table(plan: str, tables: Sequence[str] = TABLES) -> bool:
    """SQLite says SCAN without an index; with one it walks in order, as the queries want it to, until the page is full."""
    scan = "SCAN {}\n" if connection.vendor == "sqlite" else "Seq Scan on {} "
    return any(scan.format(table) in f"{plan}\n" for table in tables)
