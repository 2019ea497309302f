"""Steps whose functions only the code of their workflow has, such as those of agents, on a worker that dies."""

import pytest
from pytest_django import Settings

from tasks.models import Task
from tests import agent_workflows
from tests.sizes import size
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Fuse, Stage
from tests.tasks.worker.test_live import run_with_a_death

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
