"""Versions of workflows: a run waits for a worker that has the code with which it began, or goes on with the code at hand."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.executors.plugins import plugins
from tasks.models import Run, Task, WorkerProcess
from tasks.queue import leases, suspension
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.waits import questions
from tests import live_workflows
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Stage
from tests.workers import Json, Ran, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
NAMES = ("reviewed", "replaying", "failing")


@pytest.fixture(autouse=True)
def modules(stage: Stage, settings: Settings) -> Iterator[None]:
    settings.APFLOW_EXECUTOR_MODULES = ("tests.live_workflows",)
    forget_registry()
    live_workflows.BROKEN.clear()
    live_workflows.RAN.clear()
    yield
    deploy(None)
    live_workflows.BROKEN.clear()


def deploy(version: str | None, *what: str) -> None:
    """Let the workers that start from now on have this version of the code; None: the one of the file. `what` differs in it."""
    live_workflows.BROKEN.clear()
    live_workflows.BROKEN.update(what)
    for name in NAMES:
        vars(getattr(live_workflows, name)).pop("version", None)
        if version is not None:
            vars(getattr(live_workflows, name))["version"] = version


def asked(stage: Stage, name: str) -> Run:
    """Return a run of the workflow that waits for a person."""
    task = {"id": "w", "name": "w", "schemas": {"method": f"workflow:{name}"}, "inputs": {"count": 3}}
    run = trees.execute_tree(caller=LOCAL, tasks=[task]).run
    assert run is not None
    until_suspended(stage)
    return run


def until_suspended(stage: Stage, *, without: Callable[[], object] = list) -> None:
    """Run what can run on a new worker, which then dies; also until this is gone."""
    at_work = Run.objects.filter(finished_at=None).exclude(lease_owner=leases.SUSPENDED)
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: without() or at_work.all())
    life.kill()


def needed() -> list[tuple[str | None, Any]]:
    found = Run.objects.filter(lease_owner=leases.SUSPENDED, needs__isnull=False)
    return [(run.needs, (run.needed_for or {})["tasks"]) for run in found]


def ended(stage: Stage, run: Run) -> Ran:
    life = stage.bear()
    stage.until_nothing(life.woken_for_open_runs)
    life.kill()
    return result_of(run)


def test_a_run_waits_for_a_worker_with_the_code_that_it_began_with(stage: Stage) -> None:
    run = asked(stage, "reviewed")
    old = plugins().executors["workflow:reviewed"].workflow.version  # type: ignore[attr-defined]
    deploy("new", "edited")
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    until_suspended(stage)
    need = f"workflow:reviewed@{old}"
    assert needed() == [(need, {"w": {"need": need}})]
    assert WorkerProcess.objects.latest("started_at").workflows["workflow:reviewed"] == "new"
    deploy(None)
    ran = ended(stage, run)
    assert (ran.tasks["w"].error, ran.tasks["w"].result) == (None, {"whole": 5, "error": "yes"})
    assert [name for name, _ in live_workflows.RAN] == ["add", "add"]


def test_a_run_that_has_not_begun_waits_for_a_worker_that_has_the_workflow(stage: Stage, settings: Settings) -> None:
    task = {"id": "w", "name": "w", "schemas": {"method": "workflow:reviewed"}, "inputs": {"count": 3}}
    run = trees.execute_tree(caller=LOCAL, tasks=[task, {"name": "echo_executor", "parent_id": "w"}]).run
    settings.APFLOW_EXECUTOR_MODULES = ()
    forget_registry()
    until_suspended(stage)
    assert needed() == [("workflow:reviewed", {"w": {"need": "workflow:reviewed"}})]
    settings.APFLOW_EXECUTOR_MODULES = ("tests.live_workflows",)
    forget_registry()
    until_suspended(stage, without=needed)
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    assert run is not None and ended(stage, run).run.status == "completed"


@pytest.mark.parametrize(("what", "whole"), [((), 5), (("edited",), 9)])
def test_a_workflow_that_replays_goes_on_with_other_code(stage: Stage, what: tuple[str, ...], whole: int) -> None:
    run = asked(stage, "replaying")
    deploy("new", *what)
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    ran = ended(stage, run)
    assert (ran.tasks["w"].error, ran.tasks["w"].result) == (None, {"whole": whole, "error": "yes"})
    noted = [(task.id, task.call["version"]) for task in ran.tasks.values() if task.call and "version" in task.call]
    assert noted[1:] == [("w/3", "new")]


def test_a_replay_that_differs_waits_for_the_code_that_it_began_with(stage: Stage) -> None:
    """A worker tries once, and one with other code tries, too."""
    run = asked(stage, "replaying")
    old = plugins().executors["workflow:replaying"].workflow.version  # type: ignore[attr-defined]
    deploy("new", "changed")
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: not needed())
    epoch = Run.objects.get().epoch
    echo = trees.execute_tree(caller=LOCAL, tasks=[{"id": "beside", "name": "echo_executor"}]).run
    assert echo is not None
    stage.until_nothing(lambda: life.woken_for_open_runs().filter(id=echo.id))
    life.kill()
    assert Run.objects.get(id=run.id).epoch == epoch
    [(need, tasks)] = needed()
    assert need == f"workflow:replaying@{old}"
    assert "the run called 2 ask Good?(" in tasks["w"]["difference"]
    assert "and the code now calls 2 ask Really?(" in tasks["w"]["difference"]
    deploy("newer", "edited")
    ran = ended(stage, run)
    assert ran.tasks["w"].result == {"whole": 9, "error": "yes"}


def test_a_workflow_may_fail_in_place_of_waiting(stage: Stage) -> None:
    run = asked(stage, "failing")
    deploy("new")
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    error = ended(stage, run).tasks["w"].error or ""
    assert "failing() began with the version " in error and "and this worker has new" in error
    again = trees.execute_task(caller=LOCAL, task_id="w").run
    assert again is not None and ended(stage, again).run.status == "completed"


def test_a_run_that_waits_for_code_can_be_cancelled_and_goes_on_with_other_code_when_it_is_executed_again(
    stage: Stage,
) -> None:
    run = asked(stage, "reviewed")
    deploy("new", "edited")
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    until_suspended(stage)
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    assert ended(stage, run).statuses() == {"w": "cancelled", "w/1": "completed", "w/2": "completed"}
    again = trees.execute_task(caller=LOCAL, task_id="w").run
    assert again is not None
    assert ended(stage, again).tasks["w"].result == {"whole": 9, "error": "yes"}
    assert Task.objects.get(id="w/3").call["run"] == again.id


def test_all_other_tasks_of_a_run_go_on_while_a_workflow_waits_for_code(stage: Stage) -> None:
    run = asked_beside_others(stage)
    deploy("new")
    questions.answer(caller=LOCAL, task_id="other", answer="yes")
    until_suspended(stage)
    assert {task.id: task.status for task in Task.objects.filter(id__in=("other", "after", "w", "w/2"))} == {
        **{"other": "completed", "after": "completed", "w": "in_progress", "w/2": "in_progress"},
    }
    assert [need for need, _ in needed()] != []
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    until_suspended(stage)
    assert Task.objects.get(id="w/2").status == "completed"
    deploy(None)
    assert ended(stage, run).run.status == "completed"


def asked_beside_others(stage: Stage) -> Run:
    tasks: list[Json] = [
        {"id": "top", "name": "Top"},
        {"id": "w", "name": "w", "schemas": {"method": "workflow:reviewed"}, "inputs": {"count": 3}},
        {"id": "other", "name": "approval_executor", "inputs": {"question": "Other?"}},
        {"id": "after", "name": "echo_executor", "dependencies": ["other"]},
    ]
    run = trees.execute_tree(caller=LOCAL, tasks=[tasks[0], *(each | {"parent_id": "top"} for each in tasks[1:])]).run
    until_suspended(stage)
    assert run is not None
    return run


def test_a_worker_takes_no_run_whose_code_it_does_not_have(stage: Stage) -> None:
    asked(stage, "reviewed")
    deploy("new")
    questions.answer(caller=LOCAL, task_id="w/2", answer="yes")
    until_suspended(stage)
    suspension.resume_needing(lambda needs: False, but=())
    assert len(needed()) == 1
    suspension.resume_needing(lambda needs: True, but=[Run.objects.get().id])
    assert len(needed()) == 1
    suspension.resume_needing(lambda needs: True, but=())
    assert Run.objects.get().lease_owner is None


@pytest.mark.parametrize("has_other", [True, False])
def test_a_cancelled_workflow_whose_code_is_not_there_says_that_it_could_not_clean_up(
    stage: Stage, settings: Settings, has_other: bool
) -> None:
    run = asked(stage, "reviewed")
    deploy("new")
    if not has_other:
        settings.APFLOW_EXECUTOR_MODULES = ()
        forget_registry()
    cancels.ask(caller=LOCAL, task_ids=["w"], force=False, message="enough")
    ran = ended(stage, run)
    assert ran.statuses() == {"w": "cancelled", "w/1": "completed", "w/2": "cancelled"}
    why = "reviewed() began with the version " if has_other else "Executor 'workflow:reviewed' is not registered"
    assert (ran.tasks["w"].error or "").startswith(f"enough (its code could not clean up: {why}")
