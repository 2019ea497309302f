"""Steps whose functions only the code of their workflow has, such as those of agents, on a worker that dies."""

from datetime import timedelta
from typing import Any, Final

import pytest
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import Run, Task
from tasks.queue import leases
from tasks.services import trees
from tasks.services.trees import forks
from tests import agent_workflows
from tests.sizes import size
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Fuse, Stage
from tests.tasks.worker.test_live import run_with_a_death
from tests.workers import result_of

WORKFLOW: Final[dict[str, Any]] = {"id": "w", "name": "w", "inputs": {"count": 3}}
pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def modules(stage: Stage, settings: Settings) -> None:
    settings.APFLOW_EXECUTOR_MODULES = ("tests.agent_workflows",)
    forget_registry()
    agent_workflows.RAN.clear()


def test_a_worker_that_dies_at_any_moment_repeats_no_step_of_an_agent(stage: Stage) -> None:
    item, has_died, most = 0, True, size(12, full=60)
    while has_died and item < most:
        item += 1
        for after in (False, True):
            agent_workflows.RAN.clear()
            ran, ended, has_died = run_with_a_death(stage, "counted", Fuse(items=item, after=after))
            root = ran.tasks.pop("w")
            assert (ran.run.status, root.error) == ("completed", None), (item, after)
            assert root.result == {"whole": "The sum is 6.", "error": None, "requests": 3}
            names = ["counting: function:scripted:", *["count"] * 3, *["counting: function:scripted:"] * 2]
            assert sorted(task.name for task in ran.tasks.values()) == sorted(names), (item, after)
            calls = {
                "count 1": "-a",
                "count 2": "-b2",
                "count 3": "-b3",
                "model 1": "-1",
                "model 3": "-2",
                "model 5": "-3",
            }
            for call, suffix in calls.items():
                (task,) = [each for each in ran.tasks.values() if each.id.endswith(suffix)]
                if task.id in ended:
                    assert agent_workflows.RAN.count(call) == 1, (item, after, call)


def test_the_steps_of_an_agent_show_what_was_asked(stage: Stage) -> None:
    run_with_a_death(stage, "counted", None)
    first, tool, *_ = Task.objects.filter(parent_id="w").order_by("position")
    assert first.inputs["arguments"] == {
        "agent": "counting",
        "messages": [{"kind": "user-prompt", "content": "Add."}],
    }
    assert tool.inputs["arguments"] == {"agent": "counting", "arguments": {"number": 1}, "tool_call_id": "a"}


def test_a_fork_from_a_step_of_an_agent_keeps_those_before_it(stage: Stage) -> None:
    run_with_a_death(stage, "counted", None)
    agent_workflows.RAN.clear()
    start = Task.objects.get(id__endswith="-b2").id
    run = forks.fork(caller=LOCAL, task_id="w", start=[start], inputs={}).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    root = next(task for task in result_of(run).tasks.values() if task.parent_id is None)
    assert (root.status, root.error, root.result["whole"]) == ("completed", None, "The sum is 6.")
    assert {"count 2", "model 5"} <= set(agent_workflows.RAN)
    assert "model 1" not in agent_workflows.RAN


def test_code_that_no_longer_makes_a_call_does_not_wait_for_its_step(stage: Stage) -> None:
    """The step of a worker that died has no function any more: its workflow fails, and it is cancelled."""
    run = trees.execute_tree(caller=LOCAL, tasks=[{**WORKFLOW, "schemas": {"method": "workflow:counted"}}]).run
    first = stage.bear()
    first.fuse = Fuse(items=5, after=True)
    stage.until_nothing(lambda: not first.journal_ended.is_set() and first.woken_for_open_runs())
    first.kill()
    step = Task.objects.filter(parent_id="w").earliest("position")
    Task.objects.filter(id=step.id).update(call={**step.call, "hash": "0"}, status="in_progress", completed_at=None)
    Run.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    leases.sweep()
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert "the code now calls" in (ran.tasks["w"].error or "")
    assert ran.tasks[step.id].status in ("cancelled", "failed")
