"""What model calls used: every report counts once, in the run that made it, also after crashes and deletions."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from accounts.callers import LOCAL, Caller, Role
from tasks.models import Usage
from tasks.rules.exceptions import InvalidParams
from tasks.rules.token_usage import spending_of
from tasks.services import flows, trees
from tasks.services.spending.usage import usage
from tasks.services.trees import editing
from tasks.storage import usage as stored
from tasks.worker.changes import UsageAdded
from tasks.worker.group_commit import write_now
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, result_of, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
ADA = Caller(user_id="ada", role=Role.OPERATOR)
BOB = Caller(user_id="bob", role=Role.OPERATOR)
USED = {"model": "openai/gpt", "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost_usd": 0.25}


@pytest.fixture(autouse=True)
def nothing_used() -> None:
    """These tables have no models, so the test framework does not empty them."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_spending")
        cursor.execute("DELETE FROM tasks_usage")
        cursor.execute("DELETE FROM tasks_flow_usage")


@pytest.fixture(params=[False, True], ids=["as they come", "added up each time"])
def rows(request: pytest.FixtureRequest) -> Callable[..., list[Json]]:
    """Return the rows of a report; also after the rows of single calls were added up."""

    def read(caller: Caller = LOCAL, **options: Any) -> list[Json]:
        if request.param:
            add_up()
        return usage(caller=caller, **options).rows

    return read


def add_up() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tasks_spending SET at = '2020-01-01 00:00:00'")
    stored.compact()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tasks_spending")
        assert cursor.fetchone() == (0,)


def ran(worker: WorkerThread, tasks: Any, *, caller: Caller = ADA) -> Ran:
    execution = trees.execute_tree(caller=caller, tasks=tasks)
    worker.work()
    return result_of(execution.run, ids=execution.ids)


def sums(row: Json) -> tuple[int, int, float | None, int]:
    return row["calls"], row["total_tokens"], row["cost_usd"], row["unpriced_calls"]


@pytest.mark.both_engines
def test_reports_are_summed_by_day_model_executor_and_user(
    worker: WorkerThread, rows: Callable[..., list[Json]]
) -> None:
    ran(worker, step("a", inputs={"spends": USED}))
    ran(worker, step("b", inputs={"spends": USED}))
    ran(worker, step("c", inputs={"spends": {"prompt_tokens": 1}}), caller=BOB)
    today = datetime.now(UTC).date()
    assert [(row["day"], sums(row)) for row in rows()] == [(today.isoformat(), (3, 31, 0.5, 1))]
    assert [(row["model"], sums(row)) for row in rows(by=["model"])] == [
        (None, (1, 1, None, 1)),
        ("openai/gpt", (2, 30, 0.5, 0)),
    ]
    assert [(row["user"], row["executor"], sums(row)) for row in rows(by=["user", "executor"])] == [
        ("ada", "scripted_executor", (2, 30, 0.5, 0)),
        ("bob", "scripted_executor", (1, 1, None, 1)),
    ]
    assert rows(model="openai/gpt", user_id="bob") == rows(executor="llm_executor") == []
    assert rows(since=today + timedelta(days=1), until=today + timedelta(days=2)) == []
    assert rows(by=[]) == []


@pytest.mark.both_engines
def test_reports_are_summed_by_flow(worker: WorkerThread, rows: Callable[..., list[Json]]) -> None:
    """Also after the flow was deleted, and its name used again."""
    flow: Json = {"caller": ADA, "name": "poems", "tasks": step("a", inputs={"spends": USED})}
    for _ in range(2):
        flows.save_flow(**flow)
        flows.run_flow(caller=ADA, name="poems", version=None, inputs=None)
        worker.work()
        flows.delete_flow(caller=ADA, name="poems")
    ran(worker, step("b", inputs={"spends": USED}))
    assert [(row["flow"], sums(row)) for row in rows(ADA, by=["flow"])] == [
        (None, (1, 15, 0.25, 0)),
        ("poems", (2, 30, 0.5, 0)),
    ]
    assert [sums(row) for row in rows(ADA, by=["model"], flow="poems")] == [(2, 30, 0.5, 0)]
    assert rows(BOB, by=["flow"]) == rows(ADA, by=["day"], flow="prose") == []


@pytest.mark.both_engines
def test_users_see_only_their_own(worker: WorkerThread, rows: Callable[..., list[Json]]) -> None:
    ran(worker, step("a", inputs={"spends": USED}))
    assert [row["user"] for row in rows(ADA, by=["user"])] == ["ada"]
    assert rows(BOB, by=["user"]) == rows(BOB, user_id="ada") == []
    assert usage(caller=BOB).total["calls"] == 0
    assert [row["user"] for row in rows(LOCAL, by=["user"])] == ["ada"]


def test_attempts_that_failed_and_later_runs_count_too(worker: WorkerThread, rows: Callable[..., list[Json]]) -> None:
    retried = step(
        "a",
        params={"retry": {"max_attempts": 3, "backoff_seconds": 0}},
        inputs={"spends": USED, "fails_until_attempt": 3},
    )
    assert ran(worker, retried).run.status == "completed"
    assert ran(worker, step("b", inputs={"spends": USED, "then": "fail"})).run.status == "failed"
    trees.execute_task(caller=ADA, task_id="b")
    worker.work()
    assert [sums(row) for row in rows(ADA)] == [(5, 75, 1.25, 0)]


def test_usage_remains_when_its_tree_is_deleted(worker: WorkerThread, rows: Callable[..., list[Json]]) -> None:
    ran(worker, step("a", inputs={"spends": USED}))
    editing.delete_task(caller=ADA, task_id="a", force=True)
    assert [sums(row) for row in rows(ADA)] == [(1, 15, 0.25, 0)]


@pytest.mark.both_engines
@pytest.mark.parametrize("odd", [{"model": "x\0y" * 200}, {"prompt_tokens": 1e300}, {"cost_usd": -1}])
def test_odd_reports_do_not_fail_the_commit(worker: WorkerThread, odd: Json) -> None:
    ran(worker, step("a", inputs={"spends": odd}))
    assert usage(caller=ADA).total["calls"] == 1


@pytest.mark.both_engines
def test_a_report_with_too_many_rows_is_refused() -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO tasks_usage VALUES ('ada', %s, 'm', 'e', 1, 1, 1, 2, 0, 1)",
            [(date(2000, 1, 1) + timedelta(days=number),) for number in range(5_001)],
        )
    with pytest.raises(InvalidParams, match="more than 5,000 rows"):
        usage(caller=ADA, since=date(1999, 1, 1))
    assert usage(caller=ADA, since=date(1999, 1, 1), by=["model"]).rows[0]["calls"] == 5_001


@pytest.mark.both_engines
def test_the_first_day_of_the_calendar_is_a_day() -> None:
    assert usage(caller=ADA, until=date.min).since == date.min


@at_any_moment(5, both_engines=(2, 4))
def test_a_killed_worker_neither_loses_a_report_nor_counts_one_twice(stage: Stage, items: int, after: bool) -> None:
    """Each execution of the task reports once, and so many calls are counted, but for one that died with its worker."""
    task = {
        "id": "a",
        "name": "a",
        "schemas": {"method": "script_executor"},
        "inputs": {"script": "ok", "spends": [USED]},
    }
    run = trees.execute_tree(caller=ADA, tasks=[task]).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    executed = sum(len(life.executed) for life in stage._lives)
    counted = usage(caller=ADA).total["calls"]
    assert result_of(run).run.status == "completed"
    assert executed - 1 <= counted <= executed
    assert counted >= 1


@pytest.mark.both_engines
def test_a_repeated_commit_counts_once() -> None:
    """The journal heard nothing of a commit that was carried out, and writes it again."""
    change = UsageAdded(
        run_id="gone",
        epoch=1,
        token=None,
        key="one",
        user_id="ada",
        day="2026-11-26",
        executor_id="e",
        spending=spending_of(USED),
    )
    write_now([change])
    write_now([change])
    assert Usage.objects.get().calls == 1
