"""Workflows as code on a worker: their steps are tasks of the tree, and a worker that dies repeats none that has ended."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import CancelRequest, Question, Run, Task
from tasks.queue import leases
from tasks.rules.exceptions import StatusConflict
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees import editing, forks
from tasks.services.waits import questions, sent_events
from tasks.worker import engine
from tasks.worker.changes import StepsAdded
from tasks.worker.group_commit import _write_together
from tasks.worker.load_run import load_trees
from tests import live_workflows
from tests.sections import replace as replace_section
from tests.sizes import size
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Fuse, Life, Stage
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
    return with_a_death(stage, begun_anew(workflow(name)), fuse)


def begun_anew(task: Json) -> Run:
    """Return the run of a new tree. Nothing else is there."""
    live_workflows.RAN.clear()
    for model in (Task, Run, CancelRequest):
        model.objects.all().delete()
    return trees.execute_tree(caller=LOCAL, tasks=[task]).run


def with_a_death(
    stage: Stage, run: Run, fuse: Fuse | None, attend: Callable[[], object] = lambda: None
) -> tuple[Ran, set[str], bool]:
    """Let the run come to its end. `attend` is called now and then, and does what people do."""
    first = stage.bear()
    first.fuse = fuse

    def look(life: Life) -> object:
        attend()
        return life.woken_for_open_runs()

    stage.until_nothing(lambda: not first.journal_ended.is_set() and look(first))
    has_died = first.journal_ended.is_set()
    first.kill()
    ended = set(Task.objects.filter(status__in=("completed", "failed")).values_list("id", flat=True))
    if has_died:
        open_runs = Run.objects.filter(finished_at=None).exclude(lease_owner=leases.SUSPENDED)
        open_runs.update(lease_expires_at=Now() - timedelta(seconds=1))
        leases.sweep()
        second = stage.bear()
        stage.until_nothing(lambda: look(second))
        second.kill()
    return result_of(run), ended, has_died


def every_death(items: int) -> Iterator[Fuse]:
    """Deaths before and after each item of the journal, until the test says that none has died."""
    for item in range(1, size(items, full=200) + 1):
        yield from (Fuse(items=item, after=after) for after in (False, True))


def repeated(ran: Ran, ended: Collection[str]) -> list[str]:
    """Return the steps that had ended, and ran again."""
    counts = Counter(live_workflows.RAN)
    steps = [task for task in ran.tasks.values() if task.id in ended and "function" in task.inputs]
    return [task.id for task in steps if counts[arguments(task)] > 1]


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
    ("name", "whole", "error", "steps"),
    [("total", 610, ERROR, 7), ("race", 305, None, 7), ("caught", 4, "no", 3), ("hasty", 4, None, 2)],
)
def test_a_worker_that_dies_at_any_moment_repeats_no_step_that_has_ended(
    stage: Stage, name: str, whole: int, error: str | None, steps: int
) -> None:
    for fuse in every_death(12):
        at = str(fuse)
        ran, ended, has_died = run_with_a_death(stage, name, fuse)
        root = ran.tasks.pop("w")
        assert (ran.run.status, root.error) == ("completed", None), at
        assert (root.result["whole"], root.result["error"], len(ran.tasks)) == (whole, error, steps), at
        assert repeated(ran, ended) == [], at
        if not has_died:
            break


def answer_and_pay() -> None:
    """Do what `approved` waits for."""
    for wait in Question.objects.filter(closed_at=None, answered_at=None):
        if wait.task_id == "w/2":
            questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
        elif wait.task_id == "w/5":
            asyncio.run(sent_events.send(caller=LOCAL, event="paid", payload={"order": 1}, event_id=wait.run_id))


def test_a_worker_that_dies_while_a_workflow_waits_asks_nothing_twice(stage: Stage) -> None:
    for fuse in every_death(10):
        at = str(fuse)
        run = begun_anew(workflow("approved"))
        ran, ended, has_died = with_a_death(stage, run, fuse, answer_and_pay)
        assert (ran.run.status, ran.tasks["w"].error) == ("completed", None), at
        assert ran.tasks["w"].result == {"whole": 8, "error": "yes late {'order': 1}"}, at
        assert (len(ran.tasks), repeated(ran, ended)) == (7, []), at
        if not has_died:
            break


def cancel_once_slow() -> None:
    """Cancel `tidy` when its step is stored, and at work."""
    is_at_work = live_workflows.RAN and Task.objects.filter(id="w/1").exists()
    if is_at_work and not CancelRequest.objects.exists() and Run.objects.filter(finished_at=None):
        cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")


def test_a_worker_that_dies_while_a_cancelled_workflow_cleans_up_repeats_nothing(stage: Stage) -> None:
    live_workflows.BROKEN.add("slow")
    live_workflows.MAY_SWEEP.set()
    for fuse in every_death(6):
        at = str(fuse)
        run = begun_anew(workflow("tidy"))
        ran, ended, has_died = with_a_death(stage, run, fuse, cancel_once_slow)
        assert (ran.run.status, ran.tasks["w"].error) == ("cancelled", "enough"), at
        assert ran.statuses() == {"w": "cancelled", "w/1": "cancelled", "w/2": "completed"}, at
        assert repeated(ran, ended) == [], at
        if not has_died:
            break


@pytest.mark.parametrize("dies_in", [0, 1])
def test_a_worker_that_dies_before_or_after_a_failure_repeats_no_step_that_has_ended(
    stage: Stage, dies_in: int
) -> None:
    """A workflow fails, and goes on in a second run; the worker of one of the two dies."""
    for fuse in every_death(8):
        at, fuses = str(fuse), [fuse, None]
        live_workflows.BROKEN.update({"flaky", "slow"})
        ran, ended, first_died = run_with_a_death(stage, "mended", fuses[dies_in])
        assert ran.tasks["w"].error == "mended() raised StepFailed: flaky() raised ValueError: broken", at
        assert repeated(ran, ended) == [], at
        live_workflows.BROKEN.clear()
        live_workflows.RAN.clear()
        again = trees.execute_task(caller=LOCAL, task_id="w").run
        ran, ended, second_died = with_a_death(stage, again, fuses[1 - dies_in])
        assert (ran.run.status, ran.tasks["w"].error) == ("completed", None), at
        assert ran.tasks["w"].result == {"whole": 10, "error": None}, at
        assert {name for name, _ in live_workflows.RAN} == {"flaky", "slow"}, at
        assert repeated(ran, ended) == [], at
        if not (first_died, second_died)[dies_in]:
            break


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


@pytest.mark.parametrize(("count", "branches"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_a_workflow_that_is_cancelled_while_its_run_is_suspended_cleans_up(
    stage: Stage, count: int, branches: int
) -> None:
    live_workflows.MAY_SWEEP.set()
    run = suspended(stage, workflow("patient") | {"inputs": {"count": count}})
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert (ran.run.status, ran.tasks["w"].error) == ("cancelled", "enough")
    asked = {f"w/{n}.1" for n in (1, 2)} if branches > 1 else {"w/1"}
    cleaned = ran.statuses()
    assert {task_id: cleaned.pop(task_id) for task_id in ("w", *asked)} == dict.fromkeys({"w", *asked}, "cancelled")
    assert list(cleaned.values()) == ["completed"] * (1 if branches == 1 else 3)
    assert Question.objects.filter(closed_at=None).count() == 0


def suspended(stage: Stage, *tasks: Json) -> Run:
    """Return a run that waits, and that no worker has."""
    run = trees.execute_tree(caller=LOCAL, tasks=[*tasks]).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: Run.objects.exclude(lease_owner=leases.SUSPENDED))
    life.kill()
    return run


def test_a_suspended_workflow_that_has_to_stop_at_once_does_not_clean_up(stage: Stage) -> None:
    run = suspended(stage, workflow("patient") | {"inputs": {"count": 1}})
    cancels.ask(caller=LOCAL, task_ids=["w"], force=True, message="enough")
    stage.until_nothing(stage.bear().woken_for_open_runs)
    assert result_of(run).statuses() == {"w": "cancelled", "w/1": "cancelled"}


def test_only_the_workflow_of_a_suspended_tree_is_cancelled(stage: Stage) -> None:
    live_workflows.MAY_SWEEP.set()
    top = {"id": "top", "name": "top", "schemas": {"method": "aggregate_results_executor"}}
    child = workflow("patient") | {"inputs": {"count": 1}, "parent_id": "top"}
    beside = child | {"id": "beside"}
    run = suspended(stage, top, child, beside)
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: Task.objects.filter(id="w").exclude(status="cancelled"))
    assert [wait.task_id for wait in Question.objects.filter(closed_at=None)] == ["beside/1"]
    questions.answer(caller=LOCAL, task_id="beside/1", answer="yes")
    stage.until_nothing(life.woken_for_open_runs)
    statuses = result_of(run).statuses()
    assert {name: statuses[name] for name in ("w", "w/1", "w/2")} == {
        **{"w": "cancelled", "w/1": "cancelled", "w/2": "completed"}
    }
    assert {name: statuses[name] for name in ("beside", "beside/1", "beside/2")} == dict.fromkeys(
        ("beside", "beside/1", "beside/2"), "completed"
    )


@pytest.mark.parametrize("trouble", ["difference", "module"])
def test_a_workflow_whose_code_is_not_there_any_more_can_be_cancelled(
    stage: Stage, settings: Settings, trouble: str
) -> None:
    run = suspended(stage, workflow("approved"))
    if trouble == "module":
        settings.APFLOW_EXECUTOR_MODULES = ()
        forget_registry()
    else:
        step = Task.objects.get(id="w/1")
        Task.objects.filter(id="w/1").update(call={**step.call, "hash": "0"})
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert ran.run.status == "cancelled"
    assert ran.statuses() == {"w": "cancelled", "w/1": "completed", "w/2": "cancelled"}
    words = {"difference": "the run called 1 add(a=3)", "module": "workflow:approved"}
    error = ran.tasks["w"].error or ""
    assert error.startswith("enough (its code could not clean up: ") and words[trouble] in error


def test_code_that_waits_while_it_cleans_up_has_its_time_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run is not suspended meanwhile: it would wait for ever."""
    monkeypatch.setattr(engine, "CLEANING_SECONDS", 0.2)
    run = suspended(stage, workflow("careless"))
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert (ran.run.status, ran.tasks["w"].error) == ("cancelled", "enough")
    assert ran.statuses() == {"w": "cancelled", "w/1": "cancelled", "w/2": "cancelled"}
    assert ran.tasks["w/2"].error == engine.TOO_LONG


@pytest.mark.parametrize("is_worse", [False, True])
def test_a_workflow_that_failed_and_cleaned_up_goes_back_to_before_the_failure(stage: Stage, is_worse: bool) -> None:
    """Its clean-up had seen the failure, and may have failed, too; both are called again."""
    live_workflows.BROKEN.update({"flaky", "mark"} if is_worse else {"flaky"})
    ran, _, _ = run_with_a_death(stage, "undone", None)
    name = "mark" if is_worse else "flaky"
    assert ran.tasks["w"].error == f"undone() raised StepFailed: {name}() raised ValueError: broken"
    assert "w/5" in ran.tasks
    live_workflows.BROKEN.clear()
    again = trees.execute_task(caller=LOCAL, task_id="w").run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(again)
    assert (ran.run.status, ran.tasks["w"].error, ran.tasks["w"].result) == (
        "completed",
        None,
        {"whole": 7, "error": None},
    )
    assert set(ran.tasks) == {"w", "w/1", "w/2.1", "w/3.1", "w/4.1"}
    counts = Counter(live_workflows.RAN)
    assert {counts["add", 3], counts["mark", 4]} == {1}
    assert counts["flaky", 0] == 2


# --- parts ---


PARTS = {"id": "w", "name": "w", "schemas": {"method": "workflow:counted"}, "inputs": {"count": 3}}


@pytest.fixture(params=[0, 1_000], ids=["loaded again", "in memory"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker lets go of its run when a part begins, or goes on with it."""
    monkeypatch.setattr(engine, "SET_ASIDE_ALONE", request.param)


@pytest.mark.usefixtures("parts")
def test_a_workflow_goes_on_in_parts_which_leave_the_tree(stage: Stage, settings: Settings) -> None:
    """Each has at most so many steps, and neither the next worker nor a reader of the tree meets those of earlier parts."""
    settings.APFLOW = replace_section(settings.APFLOW, limits=replace_section(settings.APFLOW.limits, spawned_tasks=4))
    run = trees.execute_tree(caller=LOCAL, tasks=[PARTS]).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert (ran.run.status, ran.tasks["w"].error) == ("completed", None)
    assert ran.tasks["w"].result == {"whole": 70, "error": None}
    steps = {"1": "completed", "3": "completed", "2.1": "cancelled", "4": "completed"}
    assert ran.statuses() == {"w": "completed"} | {f"w/p4/{path}": status for path, status in steps.items()}
    past = Task.objects.filter(part__isnull=False).order_by("position").values_list("id", "part", "status")
    assert list(past) == [
        (f"w/{prefix}{path}", number, status)
        for number, prefix in enumerate(("", "p2/", "p3/"), 1)
        for path, status in steps.items()
    ]
    assert len(load_trees(["w"])["w"]) == 5
    begun = [event["message"] for event in ran.events if event["message"].startswith("part ")]
    assert begun == ["part 2 begins", "part 3 begins", "part 4 begins"]
    counts = Counter(name for name, _ in live_workflows.RAN)
    assert (counts["add"], counts["flaky"], counts["mark"]) == (4, 4, 4)


@pytest.mark.usefixtures("parts")
def test_a_worker_that_dies_while_a_part_begins_repeats_nothing(stage: Stage) -> None:
    for fuse in every_death(14):
        at = str(fuse)
        run = begun_anew(PARTS | {"inputs": {"count": 1}})
        ran, _, has_died = with_a_death(stage, run, fuse)
        assert (ran.run.status, ran.tasks["w"].error) == ("completed", None), at
        assert ran.tasks["w"].result == {"whole": 13, "error": None}, at
        assert len(ran.tasks) == 5, at
        assert Task.objects.filter(part=1).count() == 4, at
        if not has_died:
            break


@pytest.mark.usefixtures("parts")
def test_a_workflow_that_another_one_calls_goes_on_in_parts(stage: Stage) -> None:
    run = begun_anew(workflow("nested"))
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert (ran.tasks["w"].error, ran.tasks["w"].result) == (None, {"whole": [70, 4], "error": None})
    assert set(ran.tasks) == {"w", "w/1", "w/2", *(f"w/1/p4/{path}" for path in ("1", "2.1", "3", "4"))}
    assert Task.objects.filter(part__isnull=False).count() == 12


def test_a_worker_that_lets_go_of_a_run_lets_workflows_cancel_their_steps(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the steps in hand, of which one never ends by itself."""
    for name in ("SET_ASIDE", "SET_ASIDE_ALONE"):
        monkeypatch.setattr(engine, name, 0)
    live_workflows.MAY_SWEEP.clear()
    beside = workflow("swept") | {"id": "beside", "parent_id": "top"}
    tasks = [{"id": "top", "name": "top"}, PARTS | {"parent_id": "top"}, beside]
    run = trees.execute_tree(caller=LOCAL, tasks=tasks).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: Task.objects.filter(id="w", call=None) or ("hang", 100) not in live_workflows.RAN)
    live_workflows.MAY_SWEEP.set()
    stage.until_nothing(life.woken_for_open_runs)
    ran = result_of(run)
    assert (ran.run.status, ran.tasks["beside"].result, ran.tasks["w"].result["whole"]) == ("completed", 3, 70)
    assert Counter(live_workflows.RAN)["sweep", 3] == 1


def test_a_workflow_that_failed_goes_on_in_its_part(stage: Stage) -> None:
    live_workflows.BROKEN.add("flaky 1")
    run = trees.execute_tree(caller=LOCAL, tasks=[PARTS]).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    assert result_of(run).statuses() == {
        **{"w": "failed", "w/p3/1": "completed", "w/p3/2.1": "cancelled", "w/p3/3": "failed"}
    }
    live_workflows.BROKEN.clear()
    run = trees.execute_task(caller=LOCAL, task_id="w").run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert (ran.tasks["w"].error, ran.tasks["w"].result) == (None, {"whole": 70, "error": None})
    counts = Counter(name for name, _ in live_workflows.RAN)
    assert (counts["add"], counts["flaky"], counts["mark"]) == (4, 5, 4)


@pytest.mark.parametrize(("start", "ran_again"), [("w/p4/3", 2), ("w/p4/1", 3), ("w", 12)])
def test_a_fork_keeps_the_part_unless_the_workflow_begins_again(stage: Stage, start: str, ran_again: int) -> None:
    trees.execute_tree(caller=LOCAL, tasks=[PARTS])
    stage.until_nothing(stage.bear().woken_for_open_runs)
    live_workflows.RAN.clear()
    run = forks.fork(caller=LOCAL, task_id="w", start=[start], inputs={}).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    tasks = result_of(run).tasks.values()
    root = next(task for task in tasks if task.parent_id is None)
    assert (root.status, root.error, root.result, len(tasks)) == ("completed", None, {"whole": 70, "error": None}, 5)
    assert len([name for name, _ in live_workflows.RAN if name != "hang"]) == ran_again


def test_a_tree_that_runs_again_as_a_whole_begins_with_the_first_part(stage: Stage) -> None:
    trees.execute_tree(caller=LOCAL, tasks=[PARTS])
    life = stage.bear()
    stage.until_nothing(life.woken_for_open_runs)
    run = trees.execute_again(caller=LOCAL, task_id="w").run
    stage.until_nothing(life.woken_for_open_runs)
    assert result_of(run).tasks["w"].result == {"whole": 70, "error": None}
    assert Counter(name for name, _ in live_workflows.RAN)["add"] == 8
    assert Task.objects.filter(root_id="w").count() == 17


def test_a_task_of_a_part_that_is_over_cannot_run_again(stage: Stage) -> None:
    trees.execute_tree(caller=LOCAL, tasks=[PARTS])
    stage.until_nothing(stage.bear().woken_for_open_runs)
    for attempt in (
        lambda: trees.execute_task(caller=LOCAL, task_id="w/1"),
        lambda: trees.execute_task(caller=LOCAL, task_id="w/1", copy_execution=True),
        lambda: forks.fork(caller=LOCAL, task_id="w", start=["w/1"], inputs={}),
        lambda: forks.fork(caller=LOCAL, task_id="w/1", start=[], inputs={}),
        lambda: editing.delete_task(caller=LOCAL, task_id="w/1", force=True),
    ):
        with pytest.raises(StatusConflict, match="belongs to part 1 of its workflow, which is over"):
            attempt()
    assert editing.delete_task(caller=LOCAL, task_id="w", force=True).deleted_count == 17
    assert not Task.objects.exists()


def test_a_workflow_in_its_second_part_cleans_up_when_it_is_cancelled(stage: Stage) -> None:
    live_workflows.MAY_SWEEP.set()
    run = suspended(stage, PARTS | {"schemas": {"method": "workflow:parted"}})
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert ran.statuses() == {"w": "cancelled", "w/p2/1": "cancelled", "w/p2/2": "completed"}
    assert ran.tasks["w"].error == "enough"


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
