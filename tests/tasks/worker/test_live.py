"""Workflows as code on a worker: their steps are tasks of the tree, and a worker that dies repeats none that has ended."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import Question, Run, Task
from tasks.queue import leases
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees import forks
from tasks.services.waits import questions, sent_events
from tasks.worker.changes import StepsAdded
from tasks.worker.group_commit import _write_together
from tests import live_workflows
from tests.sizes import size
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Fuse, Stage
from tests.workers import Json, Ran, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


def workflow(name: str) -> Json:
    return {"id": "w", "name": "w", "schemas": {"method": f"workflow:{name}"}, "inputs": {"count": 3}}


ERROR = "double() raised ValueError: too small"


@pytest.fixture(autouse=True)
def modules(stage: Stage, settings: Settings) -> None:
    settings.APFLOW_EXECUTOR_MODULES = ("tests.live_workflows",)
    forget_registry()
    live_workflows.BROKEN.clear()
    live_workflows.RAN.clear()


def run_with_a_death(stage: Stage, name: str, fuse: Fuse | None) -> tuple[Ran, set[str], bool]:
    """Run the workflow; return the steps that had ended when its first worker died, too, and whether that died."""
    live_workflows.RAN.clear()
    Task.objects.all().delete()
    Run.objects.all().delete()
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow(name)]).run
    first = stage.bear()
    first.fuse = fuse
    stage.until_nothing(lambda: not first.journal_ended.is_set() and first.woken_for_open_runs())
    has_died = first.journal_ended.is_set()
    first.kill()
    ended = set(Task.objects.filter(status__in=("completed", "failed")).values_list("id", flat=True))
    if has_died:
        Run.objects.filter(finished_at=None).update(lease_expires_at=Now() - timedelta(seconds=1))
        leases.sweep()
        second = stage.bear()
        stage.until_nothing(second.woken_for_open_runs)
        second.kill()
    return result_of(run), ended, has_died


def arguments(task: Task) -> tuple[str, Any]:
    return task.inputs["function"].partition(":")[2], task.inputs["arguments"]["a"]


def test_the_steps_of_a_workflow_are_tasks_below_it(stage: Stage) -> None:
    ran, _, _ = run_with_a_death(stage, "total", None)
    root = ran.tasks.pop("w")
    assert (ran.run.status, root.error, root.result["whole"], root.result["error"]) == ("completed", None, 610, ERROR)
    assert {task.id: (task.name, task.status, task.parent_id) for task in ran.tasks.values()} == {
        **{f"w/{path}": ("add", "completed", "w") for path in ("1.1", "2.1", "3.1", "4", "5")},
        "w/6": ("double", "failed", "w"),
        "w/7": ("double", "completed", "w"),
    }
    assert len(live_workflows.RAN) == 7


def test_a_branch_that_is_cancelled_cancels_its_step(stage: Stage) -> None:
    ran, _, _ = run_with_a_death(stage, "race", None)
    root = ran.tasks.pop("w")
    assert (ran.run.status, root.error, root.result) == ("completed", None, {"whole": 305, "error": None})
    statuses = {task.id: (task.name, task.status) for task in ran.tasks.values()}
    hung = {f"w/{path}": ("hang", "cancelled") for path in ("1.1", "3.1", "5.1")}
    added = {f"w/{path}": ("add", "completed") for path in ("2.1", "4.1", "6.1")}
    assert statuses == hung | added | {"w/7": ("double", "completed")}
    assert ran.tasks["w/3.1"].call["cancel"] == {"after": 4, "seen": ["4.1"]}


@pytest.mark.parametrize(
    ("name", "whole", "error", "steps"), [("total", 610, ERROR, 7), ("race", 305, None, 7), ("caught", 4, "no", 3)]
)
def test_a_worker_that_dies_at_any_moment_repeats_no_step_that_has_ended(
    stage: Stage, name: str, whole: int, error: str | None, steps: int
) -> None:
    item, has_died = 0, True
    while has_died and item < size(12, full=200):
        item += 1
        for after in (False, True):
            ran, ended, has_died = run_with_a_death(stage, name, Fuse(items=item, after=after))
            root = ran.tasks.pop("w")
            assert (ran.run.status, root.error) == ("completed", None), (item, after)
            assert (root.result["whole"], root.result["error"], len(ran.tasks)) == (whole, error, steps), (item, after)
            counts = Counter(live_workflows.RAN)
            again = [task.id for task in ran.tasks.values() if task.id in ended and counts[arguments(task)] > 1]
            assert again == [], (item, after)


def test_a_workflow_that_failed_goes_on_where_it_failed(stage: Stage) -> None:
    live_workflows.BROKEN.update({"flaky", "slow"})
    ran, _, _ = run_with_a_death(stage, "mended", None)
    assert ran.tasks["w"].error == "mended() raised StepFailed: flaky() raised ValueError: broken"
    assert {task.id: task.status for task in ran.tasks.values()} == {
        **{"w": "failed", "w/1": "completed", "w/2": "failed", "w/3": "completed"},
        **{"w/4.1": "failed", "w/5.1": "cancelled"},
    }
    live_workflows.BROKEN.clear()
    again = trees.execute_task(caller=LOCAL, task_id="w").run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(again)
    assert (ran.run.status, ran.tasks["w"].error, ran.tasks["w"].result) == (
        "completed",
        None,
        {"whole": 10, "error": None},
    )
    counts = Counter(name for name, _ in live_workflows.RAN)
    assert counts == {"add": 1, "double": 1, "mark": 1, "flaky": 2, "slow": 2}


@pytest.mark.parametrize(("start", "ran_again"), [("w/5", 3), ("w/7", 1), ("w", 7)])
def test_a_fork_from_a_step_keeps_those_before_it(stage: Stage, start: str, ran_again: int) -> None:
    ran, _, _ = run_with_a_death(stage, "total", None)
    before = ran.tasks["w"].result
    live_workflows.RAN.clear()
    run = forks.fork(caller=LOCAL, task_id="w", start=[start], inputs={}).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    tasks = {task.label or task.id: task for task in result_of(run).tasks.values()}
    root = next(task for task in tasks.values() if task.parent_id is None)
    assert (root.status, root.error, len(tasks), len(live_workflows.RAN)) == ("completed", None, 8, ran_again)
    assert [root.result[name] for name in ("whole", "error")] == [610, ERROR]
    assert (root.result["uuid"] == before["uuid"]) is (start != "w")


def test_a_workflow_that_only_waits_occupies_no_worker(stage: Stage) -> None:
    """Its run is suspended, and any worker goes on when a person has answered, or an event has come."""
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow("approved")]).run
    for waited_for in ("w/2", "w/5"):
        life = stage.bear()
        life.wake()
        stage.until_nothing(lambda: Run.objects.exclude(lease_owner=leases.SUSPENDED))
        life.kill()
        assert [wait.task_id for wait in Question.objects.filter(closed_at=None)] == [waited_for]
        if waited_for == "w/2":
            assert Question.objects.get().text == "Publish {{whole}}?"
            questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
        else:
            asyncio.run(sent_events.send(caller=LOCAL, event="paid", payload={"order": 1}, event_id="e"))
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert (ran.run.status, ran.tasks["w"].error) == ("completed", None)
    assert ran.tasks["w"].result == {"whole": 8, "error": "yes late {'order': 1}"}
    assert ran.statuses() == {
        **{"w": "completed", "w/1": "completed", "w/2": "completed", "w/3": "failed"},
        **{"w/4": "completed", "w/5": "completed", "w/6": "completed"},
    }
    assert Counter(name for name, _ in live_workflows.RAN) == {"add": 1, "double": 1}


def test_the_code_of_a_cancelled_workflow_cleans_up(stage: Stage) -> None:
    """The request does not reach the steps for it, although each poll brings it again."""
    live_workflows.BROKEN.add("slow")
    live_workflows.MAY_SWEEP.clear()
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow("tidy")]).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: not live_workflows.RAN)
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    stage.until_nothing(lambda: life.woken_for_open_runs() if len(live_workflows.RAN) < 2 else None)
    beside = trees.execute_tree(caller=LOCAL, tasks=[{"id": "beside", "name": "echo_executor"}]).run
    stage.until_nothing(lambda: life.woken_for_open_runs().filter(id=beside.id))
    live_workflows.MAY_SWEEP.set()
    stage.until_nothing(life.woken_for_open_runs)
    ran = result_of(run)
    assert ran.statuses() == {"w": "cancelled", "w/1": "cancelled", "w/2": "completed"}
    assert (ran.run.status, ran.tasks["w"].error) == ("cancelled", "enough")
    live_workflows.BROKEN.clear()
    again = trees.execute_task(caller=LOCAL, task_id="w").run
    stage.until_nothing(life.woken_for_open_runs)
    ran = result_of(again)
    assert (ran.tasks["w"].error, ran.tasks["w"].result) == (None, {"whole": 3, "error": None})
    assert Counter(name for name, _ in live_workflows.RAN) == {"slow": 2, "sweep": 2}


def test_steps_that_a_commit_without_a_confirmation_has_stored_are_not_refused(stage: Stage) -> None:
    """Written again, with the end of a step in the same commit, they count as written; another task with the id does not."""
    run_with_a_death(stage, "total", None)
    rows = list(Task.objects.filter(id__in=("w/4", "w/5")).order_by("position"))
    run = Run.objects.get()
    Run.objects.update(finished_at=None, status="running")
    again = StepsAdded(run_id=run.id, epoch=run.epoch, token=run.claim_token, task_id="w", rows=rows)
    before = Task.objects.count()
    assert _write_together([again]) == [None]
    [error] = _write_together([replace(again, task_id="v")])
    assert (isinstance(error, IntegrityError), Task.objects.count()) == (True, before)


def test_code_that_differs_from_what_is_stored_is_named(stage: Stage) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow("total")]).run
    first = stage.bear()
    first.fuse = Fuse(items=8, after=True)
    stage.until_nothing(lambda: not first.journal_ended.is_set() and first.woken_for_open_runs())
    first.kill()
    step = Task.objects.get(id="w/1.1")
    Task.objects.filter(id="w/1.1").update(call={**step.call, "hash": "0"})
    Run.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    stage.until_nothing(stage.bear().woken_for_open_runs)
    error = result_of(run).tasks["w"].error or ""
    assert "the run called 1.1 add(a=0), and the code now calls 1.1 add(a=0)" in error


def test_an_id_that_another_task_has_fails_the_workflow(stage: Stage) -> None:
    trees.create_tree(caller=LOCAL, tasks=[{"id": "w/2.1", "name": "taken"}])
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow("total")]).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert ran.run.status == "failed"
    assert "another task has the id of one, which begins with 'w/'" in (ran.tasks["w"].error or "")
