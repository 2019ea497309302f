"""No list, count or search reads a whole table: each finds its rows by an index, on both databases."""

import pytest
from django.db import connection

from benchmarks.scale import rows
from benchmarks.scale.questions import plans_of, questions
from tasks.dashboard import search

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ROOTS = 3_000
TABLES = ("tasks_task", "tasks_run", "tasks_taskevent")


def test_every_question_is_answered_by_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PIECE", 100)
    rows.fill(ROOTS)
    plans = {name: "\n\n".join(plans_of(question)) for name, question in questions(ROOTS).items()}
    assert all(plans.values())
    assert {name: plan for name, plan in plans.items() if _reads_a_table(plan)} == {}


def _reads_a_table(plan: str) -> bool:
    """SQLite says SCAN without an index; with one it walks in order, as the queries want it to, until the page is full."""
    scan = "SCAN {}\n" if connection.vendor == "sqlite" else "Seq Scan on {} "
    return any(scan.format(table) in f"{plan}\n" for table in TABLES)
