"""Cancelling: what ends with a task, and what ends because of it, whether a worker runs the tree or nobody does."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.callers import LOCAL
from tasks.models import CancelRequest, Run, Task
from tasks.services import trees
from tasks.services.runs import cancels, unstarted
from tests.tasks.lives import Stage
from tests.workers import WorkerThread, group, result_of, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
PATIENCE_SECONDS = 120.0


@pytest.fixture
def _endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that does not come with the end of the tasks comes too late for the tests."""
    monkeypatch.setattr(cancels, "ANSWER_SECONDS", 10 * PATIENCE_SECONDS)


def script(name: str, **fields: Any) -> dict[str, Any]:
    """A task that hangs until it is told how to end."""
    return {"id": name, "name": name, "schemas": {"method": "script_executor"}, "inputs": {"script": "hang"}, **fields}


def ask(*task_ids: str) -> None:
    cancels.ask(caller=LOCAL, task_ids=task_ids, force=False, message="Never mind")


def statuses() -> dict[str, str]:
    return dict(Task.objects.values_list("id", "status"))


@pytest.mark.parametrize("is_executed", [True, False])
def test_what_is_below_is_cancelled_even_where_it_requires_another_one_of_them(
    worker: WorkerThread, is_executed: bool
) -> None:
    tree = group("g", step("a", dependencies=["b"]), step("b"), step("c", dependencies=["b"]))
    trees.create_tree(caller=LOCAL, tasks=tree, execute=is_executed)
    ask("g")
    worker.work()
    assert statuses() == dict.fromkeys("gabc", "cancelled")
    assert [result_of(run).run.status for run in Run.objects.all()] == ["cancelled"] * is_executed


def test_a_request_that_comes_while_the_end_is_written_comes_too_late(stage: Stage) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=group("g", script("a"), script("b", dependencies=["a"]))).run
    life = stage.bear({(run.id, "b"): "ok"})
    life.wake()
    stage.until_nothing(lambda: statuses()["a"] == "pending" and "a did not start")
    with life.journal_held():
        life.tell(run.id, "a", "ok")
        life.cancel(run.id, "a")
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    assert (result_of(run).run.status, set(statuses().values())) == ("completed", {"completed"})


def test_a_task_that_was_started_and_has_done_nothing_yet_is_cancelled(stage: Stage) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=group("g", script("a"), script("b", dependencies=["a"]))).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: statuses()["a"] == "pending" and "a did not start")
    life.cancel_at_its_start(run.id, "b", after="a")
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    assert statuses() == {"g": "completed", "a": "completed", "b": "cancelled"}
    assert result_of(run).run.status == "cancelled"
    assert result_of(run).order("task_start") == ["a", "g"]


def test_what_waits_for_a_task_that_was_cancelled_before_the_run_began_starts_once(worker: WorkerThread) -> None:
    tree = group("g", step("a"), step("b", dependencies=[{"id": "a", "required": False}]))
    run = trees.execute_tree(caller=LOCAL, tasks=tree).run
    ask("a")
    worker.work()
    assert sorted(result_of(run).order("task_start")) == ["b", "g"]


def test_a_cancel_that_a_crash_cut_in_two_is_completed_as_one(worker: WorkerThread) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=group("g", step("a", dependencies=["b"]), step("b"))).run
    ask("g")
    Task.objects.filter(id="b").update(status="cancelled")  # so far had the worker come
    worker.work()
    assert statuses() == dict.fromkeys("gab", "cancelled")
    assert result_of(run).run.status == "cancelled"


@pytest.mark.usefixtures("_endless_answer")
async def test_what_runs_below_a_task_that_has_ended_is_stopped_with_it(stage: Stage) -> None:
    """A root that is no group may complete long before what is below it."""
    echo = {"name": "echo_executor"}
    tree = [{"id": "r", **echo}, {"id": "p", "parent_id": "r", **echo}]
    tree += [script("a", parent_id="p"), script("b", parent_id="r")]
    ended, at_work = {"r": "completed", "p": "completed"}, {"a": "in_progress", "b": "in_progress"}
    execution = await sync_to_async(trees.execute_tree)(caller=LOCAL, tasks=tree)
    stage.bear().wake()
    await asyncio.to_thread(stage.until_nothing, lambda: statuses() != ended | at_work and "it has not begun")
    async with asyncio.timeout(PATIENCE_SECONDS):
        (part,) = await cancels.cancel_tasks(LOCAL, task_ids=["p"])
        assert (part["status"], part["current_status"]) == ("cancelled", "completed")
        assert await sync_to_async(statuses)() == ended | at_work | {"a": "cancelled"}
        (whole,) = await cancels.cancel_tasks(LOCAL, task_ids=["r"])
    assert (whole["status"], whole["message"]) == (
        "cancelled",
        "The task was completed; its running descendants have been cancelled.",
    )
    await asyncio.to_thread(stage.until_nothing, lambda: Run.objects.filter(finished_at=None))
    assert (await sync_to_async(result_of)(execution.run)).run.status == "cancelled"
    (again,) = await cancels.cancel_tasks(LOCAL, task_ids=["r"])
    assert (again["status"], again["message"]) == ("failed", "The task is already completed.")


@pytest.mark.usefixtures("_endless_answer")
async def test_what_a_run_does_not_cover_ends_at_once_and_the_rest_with_the_run(stage: Stage) -> None:
    """The run is b's; of the tree that is cancelled, a, c and the root are not in it."""
    tree = group("g", script("a"), script("b"), script("c", dependencies=["a"]))
    await sync_to_async(trees.create_tree)(caller=LOCAL, tasks=tree)
    await sync_to_async(trees.execute_task)(caller=LOCAL, task_id="b")
    stage.bear().wake()
    await asyncio.to_thread(stage.until_nothing, lambda: statuses()["b"] == "pending" and "b did not start")
    async with asyncio.timeout(PATIENCE_SECONDS):
        (outside,) = await cancels.cancel_tasks(LOCAL, task_ids=["a"])
        (whole,) = await cancels.cancel_tasks(LOCAL, task_ids=["g"])
    assert (outside["status"], whole["status"]) == ("cancelled", "cancelled")
    assert await sync_to_async(statuses)() == {"g": "cancelled", "a": "cancelled", "b": "cancelled", "c": "failed"}


def told(run: Run) -> list[dict[str, Any]]:
    """The events of a run, but for what differs between any two."""
    own = ("seq", "run_id", "timestamp")
    return [{name: value for name, value in event.items() if name not in own} for event in result_of(run).events]


@pytest.mark.parametrize("cancelled", ["g", "b"])
def test_a_run_that_no_worker_has_taken_ends_at_once_as_a_worker_would_end_it(
    worker: WorkerThread, cancelled: str
) -> None:
    def start() -> Run:
        Task.objects.all().delete()
        tree = group("g", step("a", dependencies=["b"]), step("b"), step("c"))
        trees.create_tree(caller=LOCAL, tasks=tree)
        if cancelled == "g":
            return trees.execute_task(caller=LOCAL, task_id="g").run
        return trees.execute_task(caller=LOCAL, task_id="b").run

    by_worker = start()
    CancelRequest.objects.create(run_id=by_worker.id, task_id=cancelled, force=False, message="Never mind")
    worker.work()
    expected, left = told(by_worker), statuses()
    run = start()
    ask(cancelled)
    run.refresh_from_db()
    assert (run.status, run.lease_owner, run.epoch) == ("cancelled", None, 0)
    assert run.finished_at is not None
    assert told(run)[-1] == expected[-1]
    assert sorted(told(run), key=str) == sorted(expected, key=str)
    assert [event["seq"] for event in result_of(run).events] == list(range(1, len(expected) + 1))
    if cancelled == "g":
        assert statuses() == left
    assert not CancelRequest.objects.filter(run_id=run.id).exists()
    worker.work()  # finds nothing to do
    assert told(run)[-1] == expected[-1]


def test_a_run_of_which_something_remains_is_left_to_a_worker(worker: WorkerThread) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=group("g", step("a"), step("b"))).run
    ask("a")
    run.refresh_from_db()
    assert run.finished_at is None
    worker.work()
    assert (statuses()["a"], statuses()["b"]) == ("cancelled", "completed")


def test_a_cancellation_of_a_run_that_a_worker_has_taken_does_not_read_its_tree() -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=[{"id": "g", "name": "g"}]).run
    Run.objects.filter(id=run.id).update(lease_owner="a worker")
    with CaptureQueriesContext(connection) as queries:
        assert not unstarted.cancel(run, task_id="g", message="Never mind")
    assert not [query["sql"] for query in queries if "tasks_task" in query["sql"]]


def test_a_template_is_not_said_to_be_cancelled(worker: WorkerThread) -> None:
    """It never runs itself, so a request for it stops nothing, also before the run has begun."""
    each = {"id": "map", "name": "map", "params": {"for_each": {"items": [1, 2]}}}
    trees.execute_tree(caller=LOCAL, tasks=[each, step("part", parent_id="map"), step("in it", parent_id="part")])
    asked = cancels.ask(caller=LOCAL, task_ids=["part"], force=False, message="Never mind")
    (answer,) = cancels.answers(asked=asked)
    assert (answer["status"], answer["current_status"]) == ("failed", "pending")
    assert "runs as copies only" in answer["message"]
    worker.work()
    assert (statuses()["map"], statuses()["part[0]"], statuses()["part"]) == ("completed", "completed", "skipped")
