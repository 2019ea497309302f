"""No list, count or search reads a whole table: each finds its rows by an index, on both databases."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import Any

import pytest
from django.db import connection

from accounts.callers import LOCAL
from apflow_site.db import connections
from benchmarks.scale import rows
from benchmarks.scale.questions import LARGE, SMALL, Question, plans_of, questions
from tasks.dashboard import listing
from tasks.dashboard.pages import count_questions
from tasks.models import Assignee, ModelCall, Run, RunTag
from tasks.models import Question as OpenQuestion
from tasks.queue import leases, suspension
from tasks.services import history
from tasks.services.flows import save_flow
from tasks.services.flows.flow_grid import COLUMNS, grid_of
from tasks.services.flows.flow_lists import newest_runs, runs_of
from tasks.services.history import run_search
from tasks.services.history.run_counts import count_hours
from tasks.services.spending import usage
from tasks.services.trees import queries
from tasks.services.upkeep import housekeeping
from tasks.services.upkeep.home import home
from tasks.services.waits.questions import count_inbox, inbox_of
from tasks.status import Status
from tests.tasks.trees import BOB

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ROOTS = 3_000 if connection.vendor == "postgresql" else 1_000
"""PostgreSQL reads small tables whole. SQLite plans without knowing how many rows there are."""
PAGE = 5
"""Of a page of 50 runs PostgreSQL looks up the tags by the index, or reads these few tags whole: it depends on where the rows
of tests before were."""
GENERIC_PLANS = """
    SELECT generic_plans FROM pg_prepared_statements WHERE statement ~ '"tasks_question"|ended_as|COALESCE\\("tasks_run"'
"""
TABLES = ("tasks_task", "tasks_run", "tasks_taskevent", "tasks_runtag")


@pytest.fixture(autouse=True)
def tables_may_be_read() -> Iterator[None]:
    """Plans are those that PostgreSQL thinks best, not those that sessions of ours are held to."""
    connections.free_session(connection)
    yield
    connections.set_up_session(connection)


def test_every_question_is_answered_by_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PIECE", 100)
    rows.fill(ROOTS)
    plans = {name: "\n\n".join(plans_of(question)) for name, question in questions(ROOTS).items()}
    assert all(plans.values())
    assert {name: plan for name, plan in plans.items() if _reads_a_table(plan)} == {}


def test_the_history_of_runs_is_read_by_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_search, "PIECE", 100)
    monkeypatch.setattr(run_search, "SECONDS", -1)
    rows.fill(ROOTS)
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
            asked[f"runs, {name}, {caller.user_id}"] = partial(
                history.list_runs, caller=caller, wanted=runs, limit=PAGE
            )
            if runs.text is None:
                asked[f"times, {name}, {caller.user_id}"] = partial(history.times_of, caller=caller, wanted=runs)
        for root_name in (None, "Daily report 7"):
            roots = history.RootFilter(run_statuses=["failed"], name=root_name)
            asked[f"roots, {root_name}, {caller.user_id}"] = partial(history.roots_by_run, caller=caller, wanted=roots)
    plans = {name: "\n\n".join(plans_of(question)) for name, question in asked.items()}
    assert all(plans.values())
    assert {name: plan for name, plan in plans.items() if _reads_a_table(plan)} == {}


def test_pruning_looks_at_the_oldest_runs_and_not_at_all_that_ended_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "TREES_AT_ONCE", 20)  # a fifth of a small table is read as a whole
    rows.fill(ROOTS)
    oldest = Run.objects.order_by("finished_at").values_list("finished_at", flat=True)[:100]
    pruning = partial(housekeeping.prune, Status.COMPLETED, before=max(filter(None, oldest)))
    plans = plans_of(pruning)
    assert plans
    assert [plan for plan in plans if "run_status" in plan or _reads_a_table(plan)] == []


def test_queries_for_most_rows_of_a_table_are_planned_for_them() -> None:
    """PostgreSQL plans a query that is repeated for any value, and would sort all questions of an owner for a page of them."""
    if connection.vendor == "sqlite":
        return  # it has no such plans
    rows.fill(100)
    rows.park(100)
    connection.close()  # with its prepared statements
    for _ in range(10):
        assert len(inbox_of(LARGE, limit=5)) == 5
        assert housekeeping.prune(Status.COMPLETED, before=datetime(2020, 1, 1, tzinfo=UTC)) == 0
    with connection.cursor() as cursor:
        cursor.execute(GENERIC_PLANS)
        assert [number for (number,) in cursor.fetchall()] == [0, 0]


def test_the_model_calls_of_a_run_are_found_by_their_index() -> None:
    """The sums of a run are columns of it, so that lists need no query for them."""
    rows.fill(ROOTS)
    run_ids = list(Run.objects.order_by("created_at").values_list("id", flat=True)[:1_000])
    now = datetime.now(UTC)
    who = {"root_id": "r", "user_id": "u", "executor_id": "e", "attempt": 1, "model": "m", "status": "completed"}
    ModelCall.objects.bulk_create(
        ModelCall(id=f"{run_id[-30:]}-{number}", run_id=run_id, task_id=f"t{number}", started_at=now, content={}, **who)
        for run_id in run_ids
        for number in range(5)
    )
    page, cursor = usage.list_calls(caller=LOCAL, run_id=run_ids[3], limit=2)
    rest, end = usage.list_calls(caller=LOCAL, run_id=run_ids[3], cursor=cursor or "")
    assert ([call.task_id for call in page + rest], end) == (["t0", "t1", "t2", "t3", "t4"], None)
    for look in (
        partial(usage.list_calls, caller=LOCAL, run_id=run_ids[3], limit=2, cursor=cursor or ""),
        partial(usage.list_calls, caller=LOCAL, run_id=run_ids[3], task_id="t1"),
        partial(usage.first_calls, run_id=run_ids[3], task_id="t1"),
        partial(usage.usage_of_tasks, run_ids[3:5]),
    ):
        plans = "\n\n".join(plans_of(look))
        assert "call_of_" in plans
        assert not _reads_a_table(plans, ("tasks_modelcall", "tasks_run")), plans


def _reads_a_table(plan: str, tables: Sequence[str] = TABLES) -> bool:
    """SQLite says SCAN without an index; with one it walks in order, as the queries want it to, until the page is full."""
    scan = "SCAN {}\n" if connection.vendor == "sqlite" else "Seq Scan on {} "
    return any(scan.format(table) in f"{plan}\n" for table in tables)


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
    assert not _reads_a_table(plans, ("tasks_question", "tasks_assignee"))
    for look in (suspension.resume_due, suspension.seconds_until_due, suspension.seconds_until_first):
        ends, alarms = plans_of(look)
        assert "question_due" in ends
        assert "question_alarm" in alarms
    if connection.vendor == "sqlite":
        assert "question_answered" in plans_of(suspension.sweep)[0]


def test_home_and_lists_of_unfinished_runs_do_not_read_all_runs_of_a_user() -> None:
    if connection.vendor != "sqlite":
        return  # PostgreSQL knows by its statistics that an owner has many runs
    rows.fill_home(3_000)
    count_hours(give_up_at=inf)
    asked: dict[str, Question] = {
        f"home of {caller.user_id}, {since}": partial(home, caller=caller, since=since)
        for caller in (LOCAL, LARGE)
        for since in ("1h", "7d")
    }
    for name, caller, user_id in (("own", LARGE, None), ("all", LOCAL, None), ("of one", LOCAL, LARGE.user_id)):
        asked[f"running_count, {name}"] = partial(queries.running_count, caller=caller, user_id=user_id)
    plans = {name: "\n".join(plans_of(question)) for name, question in asked.items()}
    assert all(plans.values())
    wrong = re.compile(r"SEARCH tasks_run(count)? USING (COVERING )?INDEX \w+ \((user_id|error_key)=\?\)")
    tables = (*TABLES, "tasks_runcount")
    assert {name: plan for name, plan in plans.items() if _reads_a_table(plan, tables) or wrong.search(plan)} == {}


def test_the_runs_of_flows_are_found_by_their_index() -> None:
    rows.fill(2_000)
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
        assert not _reads_a_table(plans), plans


def test_plans_that_are_made_while_tables_are_small_are_as_good_when_they_have_grown() -> None:
    """PostgreSQL keeps the plan of a prepared statement, and would read a small table whole."""
    rows.fill(30)
    connections.set_up_session(connection)
    for look in (
        partial(queries.list_tasks, caller=LOCAL, limit=20),
        partial(queries.latest_runs, caller=LOCAL, root_ids=list(Run.objects.values_list("root_id", flat=True)[:20])),
    ):
        plans = "\n\n".join(plans_of(look))
        assert plans
        assert not _reads_a_table(plans), plans
