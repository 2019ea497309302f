"""A budget with `on_exceeded: "ask"`: one question to the owner, and the run goes on as the answer says, also after a crash."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import Question, Run, RunBudget
from tasks.queue import leases, suspension
from tasks.queue.leases import SUSPENDED
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.waits.questions import answer
from tests.sections import replace
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, result_of, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
IN_PROGRESS = Run.objects.filter(finished_at=None).exclude(lease_owner=SUSPENDED)


def side_by_side(count: int, budget: Json, **fields: Any) -> list[Json]:
    """A group and so many tasks below it, none of which needs another."""
    root = {"id": "root", "name": "Root", "params": {"budget": budget | {"on_exceeded": "ask"}}}
    return [root, *(step(f"t{number}", parent_id="root", **fields) for number in range(count))]


def started(worker: WorkerThread, tasks: list[Json]) -> Run:
    run = trees.execute_tree(caller=LOCAL, tasks=tasks).run
    worker.work()
    return run


def asked() -> Question:
    """The one open question."""
    return Question.objects.for_people().unanswered().get()


def reply(worker: WorkerThread, given: Any) -> None:
    answer(caller=LOCAL, task_id=asked().task_id, answer=given)
    worker.work()


def statuses(ran: Ran) -> list[str]:
    return sorted(task.status for name, task in ran.tasks.items() if name != "root")


@pytest.mark.both_engines
def test_one_question_is_asked_however_many_tasks_wait_for_it(worker: WorkerThread) -> None:
    run = started(worker, side_by_side(5, {"tasks": 2}))
    assert asked().text == "Spent 2 of 2 tasks. Raise the budget to how much? Answer with a number above 2, or 'stop'."
    assert statuses(result_of(run)).count("completed") == 2
    reply(worker, 4)
    assert asked().text.startswith("Spent 4 of 4 tasks.")
    reply(worker, "9")
    ended = result_of(run)
    assert (ended.run.status, statuses(ended)) == ("completed", ["completed"] * 5)
    assert Question.objects.count() == 2


def test_a_user_with_no_room_for_waits_is_asked_all_the_same(worker: WorkerThread, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, waits_per_user=0))
    run = started(worker, side_by_side(2, {"tasks": 1}))
    reply(worker, 2)
    assert result_of(run).run.status == "completed"


@pytest.mark.both_engines
def test_stop_fails_what_waits(worker: WorkerThread) -> None:
    run = started(worker, side_by_side(4, {"tasks": 2}))
    reply(worker, "stop")
    ended = result_of(run)
    assert (ended.run.status, statuses(ended)) == ("failed", ["completed"] * 2 + ["failed"] * 2)
    errors = {task.error for task in ended.tasks.values() if task.status == "failed"}
    assert errors == {"The budget of this run is used up: spent 2 of 2 tasks. Its owner chose to stop."}
    assert Question.objects.count() == 1


@pytest.mark.parametrize("given", [2, 1.5, 2.5, "2", "more", "nan", True, [5], 1e300])
def test_an_answer_that_raises_nothing_is_refused(worker: WorkerThread, given: Any) -> None:
    started(worker, side_by_side(3, {"tasks": 2}))
    with pytest.raises(InvalidParams, match="must be a whole number above 2, which is spent already, or 'stop'"):
        answer(caller=LOCAL, task_id=asked().task_id, answer=given)
    assert asked().answered_at is None


def test_costs_are_asked_for_in_dollars(worker: WorkerThread) -> None:
    spends = {"spends": {"cost_usd": 5.02}}
    run = started(
        worker, [*side_by_side(1, {"cost_usd": 5}, inputs=spends), step("last", parent_id="root", dependencies=["t0"])]
    )
    assert asked().text.startswith(
        "Spent 5.02 of 5.00 USD. Raise the budget to how much? Answer with a number above 5.02"
    )
    reply(worker, 5.5)
    assert result_of(run).run.status == "completed"
    assert RunBudget.objects.get(run_id=run.id).state["raised"] == {"cost_usd": 5.5}


@pytest.mark.both_engines
def test_another_task_asks_when_the_one_that_did_is_cancelled(worker: WorkerThread) -> None:
    run = started(worker, side_by_side(4, {"tasks": 2}))
    first = asked()
    cancels.ask(caller=LOCAL, task_ids=[first.task_id], force=False, message="Never mind")
    worker.work()
    second = asked()
    assert second.task_id != first.task_id
    reply(worker, 9)
    assert statuses(result_of(run)) == ["cancelled", *["completed"] * 3]


def test_a_task_whose_call_was_refused_begins_again_after_the_answer(worker: WorkerThread, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, tasks_per_tree=1))
    budget = {"tokens": 1, "on_exceeded": "ask"}
    writer = {
        "id": "write",
        "name": "generate_executor",
        "params": {"model": "demo/x", "budget": budget},
        "inputs": {"requirement": "Anything"},
    }
    run = started(worker, [writer])
    assert result_of(run).tasks["write"].attempt == 1
    reply(worker, 100_000)
    task = result_of(run).tasks["write"]
    assert (task.status, task.attempt) == ("failed", 2)
    assert "no valid tree in 2 attempts" in str(task.error)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM tasks_spending")


def lives_until_killed(stage: Stage, fuse: Fuse) -> None:
    life = stage.bear()
    life.fuse = fuse
    life.wake()
    stage.until_nothing(lambda: not life.journal_ended.is_set() and IN_PROGRESS.all())
    life.kill()
    Run.objects.exclude(lease_owner=SUSPENDED).update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    suspension.sweep()


@at_any_moment(8)
def test_a_killed_worker_asks_once_and_forgets_no_answer(stage: Stage, items: int, after: bool) -> None:
    script = {"schemas": {"method": "script_executor"}, "inputs": {"script": "ok"}}
    run = trees.execute_tree(caller=LOCAL, tasks=side_by_side(4, {"tasks": 2}, **script)).run
    lives_until_killed(stage, Fuse(items=items, after=after))
    stage.bear().wake()
    stage.until_nothing(IN_PROGRESS.all)
    answer(caller=LOCAL, task_id=asked().task_id, answer=3)
    lives_until_killed(stage, Fuse(items=items, after=after))
    stage.bear().wake()
    stage.until_nothing(IN_PROGRESS.all)
    assert asked().text.startswith("Spent 3 of 3 tasks.")
    answer(caller=LOCAL, task_id=asked().task_id, answer=9)
    stage.bear().wake()
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    ended = result_of(run)
    assert (ended.run.status, statuses(ended)) == ("completed", ["completed"] * 4)
    assert Question.objects.count() == 2
    assert RunBudget.objects.get(run_id=run.id).state["tasks"] == 4
