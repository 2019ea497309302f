"""No list, count or search reads a whole table: each finds its rows by an index, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest
from pytest_django import DjangoDbBlocker

from accounts.callers import LOCAL
from benchmarks.scale import rows
from benchmarks.scale.questions import plans_of, questions
from tasks.dashboard import search
from tasks.models import ModelCall, Run
from tasks.services.spending import model_calls
from tasks.services.upkeep import retention
from tasks.status import Status
from tests.conftest import empty_tables
from tests.tasks.plans import MANY_TREES, reads_a_table

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db, pytest.mark.usefixtures("many_trees", "free_plans")]


@pytest.fixture(scope="module")
def many_trees(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The same for all tests. None changes these rows: what a test takes back still takes room, and leads to other plans."""
    with django_db_blocker.unblock():
        rows.fill(MANY_TREES)
    yield
    with django_db_blocker.unblock():
        empty_tables()


def test_every_question_is_answered_by_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PIECE", 100)
    plans = {name: "\n\n".join(plans_of(question)) for name, question in questions(MANY_TREES).items()}
    assert all(plans.values())
    assert {name: plan for name, plan in plans.items() if reads_a_table(plan)} == {}


def test_pruning_looks_at_the_oldest_runs_and_not_at_all_that_ended_alike() -> None:
    oldest = Run.objects.order_by("finished_at").values_list("finished_at", flat=True)[:100]
    pruning = partial(retention.prune, Status.COMPLETED, before=max(filter(None, oldest)))
    plans = plans_of(pruning)
    assert plans
    assert [plan for plan in plans if "run_status" in plan or reads_a_table(plan)] == []


def test_the_model_calls_of_a_run_are_found_by_their_index() -> None:
    """The sums of a run are columns of it, so that lists need no query for them."""
    run_ids = list(Run.objects.order_by("created_at").values_list("id", flat=True)[:1_000])
    now = datetime.now(UTC)
    who = {"root_id": "r", "user_id": "u", "executor_id": "e", "attempt": 1, "model": "m", "status": "completed"}
    ModelCall.objects.bulk_create(
        ModelCall(id=f"{run_id[-30:]}-{number}", run_id=run_id, task_id=f"t{number}", started_at=now, content={}, **who)
        for run_id in run_ids
        for number in range(5)
    )
    page, cursor = model_calls.list_calls(caller=LOCAL, run_id=run_ids[3], limit=2)
    rest, end = model_calls.list_calls(caller=LOCAL, run_id=run_ids[3], cursor=cursor or "")
    assert ([call.task_id for call in page + rest], end) == (["t0", "t1", "t2", "t3", "t4"], None)
    for look in (
        partial(model_calls.list_calls, caller=LOCAL, run_id=run_ids[3], limit=2, cursor=cursor or ""),
        partial(model_calls.list_calls, caller=LOCAL, run_id=run_ids[3], task_id="t1"),
        partial(model_calls.first_calls, run_id=run_ids[3], task_id="t1"),
        partial(model_calls.usage_of_tasks, run_ids[3:5]),
    ):
        plans = "\n\n".join(plans_of(look))
        assert "call_of_" in plans
        assert not reads_a_table(plans, ("tasks_modelcall", "tasks_run")), plans
