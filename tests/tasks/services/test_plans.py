"""No list, count or search reads a whole table: each finds its rows by an index, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from accounts.callers import LOCAL
from benchmarks.scale import rows
from benchmarks.scale.questions import LARGE, SMALL, Question, plans_of, questions
from tasks.dashboard import search
from tasks.models import ModelCall, Run, RunTag
from tasks.services import history
from tasks.services.flows import save_flow
from tasks.services.flows.flow_grid import COLUMNS, grid_of
from tasks.services.flows.flow_runs import newest_runs, runs_of
from tasks.services.history import run_search
from tasks.services.spending import model_calls
from tasks.services.upkeep import retention
from tasks.status import Status
from tests.conftest import empty_tables
from tests.tasks.plans import reads_a_table
from tests.tasks.trees import BOB

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db, pytest.mark.usefixtures("many_trees", "free_plans")]
ROOTS = 3_000 if connection.vendor == "postgresql" else 1_000
"""PostgreSQL reads small tables whole. SQLite plans without knowing how many rows there are."""


@pytest.fixture(scope="module")
def many_trees(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The same for all tests, each of which takes back what it changes."""
    with django_db_blocker.unblock():
        rows.fill(ROOTS)
    yield
    with django_db_blocker.unblock():
        empty_tables()


def test_every_question_is_answered_by_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PIECE", 100)
    plans = {name: "\n\n".join(plans_of(question)) for name, question in questions(ROOTS).items()}
    assert all(plans.values())
    assert {name: plan for name, plan in plans.items() if reads_a_table(plan)} == {}


def test_the_history_of_runs_is_read_by_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_search, "PIECE", 100)
    monkeypatch.setattr(run_search, "SECONDS", -1)
    tagged = [
        RunTag(
            run_id=run.id,
            tag="rare" if number % 40 == 0 else f"tag-{number}",
            user_id=run.user_id,
            created_at=run.created_at,
        )
        for number, run in enumerate(Run.objects.all())
    ]
    RunTag.objects.bulk_create(tagged)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    day_ago = datetime.now(UTC) - timedelta(days=1)
    wanted: dict[str, dict[str, Any]] = {"all": {}, "failed": {"statuses": ["failed"]}, "since": {"since": day_ago}}
    wanted |= {
        "tagged": {"tag": "rare"},
        "found": {"text": "no such text"},
        "failed with": {"text": "7", "statuses": ["failed"]},
    }
    asked: dict[str, Question] = {}
    for caller in (LOCAL, LARGE, SMALL):
        for name, fields in wanted.items():
            runs = history.RunFilter(**fields)
            asked[f"runs, {name}, {caller.user_id}"] = partial(history.list_runs, caller=caller, wanted=runs)
            if runs.text is None:
                asked[f"times, {name}, {caller.user_id}"] = partial(history.times_of, caller=caller, wanted=runs)
        for root_name in (None, "Daily report 7"):
            roots = history.RootFilter(run_statuses=["failed"], name=root_name)
            asked[f"roots, {root_name}, {caller.user_id}"] = partial(history.roots_by_run, caller=caller, wanted=roots)
    plans = {name: "\n\n".join(plans_of(question)) for name, question in asked.items()}
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


def test_the_runs_of_flows_are_found_by_their_index() -> None:
    tasks = [{"name": "echo_executor"}]
    ids = [save_flow(caller=BOB, name=f"many-{number}", tasks=tasks).flow.id for number in range(30)]
    run_ids = list(Run.objects.order_by("created_at").values_list("id", flat=True)[: 60 * len(ids)])
    for number, flow_id in enumerate(ids):
        Run.objects.filter(id__in=run_ids[number :: len(ids)]).update(flow_id=flow_id, flow_version=1)
    for look in (
        partial(newest_runs, ids, each=20),
        lambda: list(runs_of(ids[3])[:COLUMNS]),
        lambda: grid_of(list(runs_of(ids[3])[:COLUMNS]), []),
        lambda: runs_of(ids[3]).count(),
    ):
        plans = "\n\n".join(plans_of(look))
        assert "run_of_flow" in plans
        assert not reads_a_table(plans), plans
