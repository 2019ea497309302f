"""Lists and looks of workers find what waits, and do not read it all, on both databases."""

from functools import partial

import pytest
from django.db import connection

from accounts.callers import LOCAL
from benchmarks.scale import rows
from benchmarks.scale.questions import plans_of
from tasks.dashboard.pages import count_questions
from tasks.models import Assignee
from tasks.models import Question as OpenQuestion
from tasks.queue import leases, suspension
from tasks.services.waits.questions import count_inbox
from tests.tasks.plans import reads_a_table
from tests.tasks.trees import BOB

pytestmark = [
    pytest.mark.both_engines,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("free_plans"),
]


def _assign(name: str, *, among: int) -> None:
    """Assign one question to this user, and the others to others."""
    ids = OpenQuestion.objects.order_by("id").values_list("id", flat=True)[:among]
    Assignee.objects.bulk_create(
        Assignee(question_id=question_id, name=f"user-{number}" if number else name)
        for number, question_id in enumerate(ids)
    )
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE tasks_assignee, tasks_question, tasks_run")


def test_suspended_runs_are_out_of_the_way() -> None:
    """A worker that looks for a run, and the number of open questions, do not read all unfinished runs."""
    rows.fill(1_000)
    rows.park(1_000)
    assert all("run_unclaimed" in plan for plan in plans_of(leases.is_any_waiting))
    if connection.vendor == "sqlite":  # PostgreSQL may choose another way by its statistics
        assert all("run_unclaimed" in plan for plan in plans_of(leases.is_any_suspected))
        assert all("question_for_people" in plan for plan in plans_of(partial(count_questions, caller=LOCAL)))
    _assign("bob", among=1_000)
    plans = "\n".join(plans_of(partial(count_inbox, BOB, limit=100)))
    assert "assignee_once" in plans or "tasks_assignee_1 (name=?)" in plans  # SQLite has its own name for it
    assert not reads_a_table(plans, ("tasks_question", "tasks_assignee"))
    for look in (suspension.resume_due, suspension.seconds_until_due):
        ends, alarms = plans_of(look)
        assert "question_due" in ends
        assert "question_alarm" in alarms
    if connection.vendor == "sqlite":
        assert "question_answered" in plans_of(suspension.sweep)[0]
