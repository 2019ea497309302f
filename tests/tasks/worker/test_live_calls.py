"""The calls of workflows as code on a worker, besides steps: executors, agents, secrets, workflows, questions and timers."""

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from django.apps import apps
from django.db.models.functions import Now
from pytest_django import Settings

from accounts.callers import LOCAL, Caller
from llmkeys import named_secrets
from llmkeys.secret import Secret
from tasks.models import Question, Run, Task
from tasks.queue import leases
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.runs import cancels
from tasks.services.trees import forks
from tasks.services.waits import questions
from tests import live_calls
from tests.sections import replace
from tests.sizes import size
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Fuse, Stage
from tests.workers import Json, Ran, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
ALICE, BOB = Caller(user_id="alice"), Caller(user_id="bob")
VALUE = "s3cret-of-alice-and-nobody-else"
HERE = re.escape(str(Path(live_calls.__file__)))


def workflow(name: str, task_id: str = "w", **inputs: Any) -> Json:
    return {"id": task_id, "name": "w", "schemas": {"method": f"workflow:{name}"}, "inputs": inputs or {"count": 3}}


@pytest.fixture(autouse=True)
def modules(stage: Stage, settings: Settings) -> None:
    settings.APFLOW_EXECUTOR_MODULES = (live_calls.__name__,)
    forget_registry()
    live_calls.RAN.clear()
    live_calls.BROKEN.clear()


def run_with_a_death(stage: Stage, name: str, fuse: Fuse | None = None) -> tuple[Ran, set[str], bool]:
    """Run the workflow; return the tasks that had ended when its first worker died, too, and whether that died."""
    live_calls.RAN.clear()
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


def end_of(stage: Stage, task: Json, caller: Caller = LOCAL) -> Ran:
    run = trees.execute_tree(caller=caller, tasks=[task]).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    return result_of(run)


def test_executors_and_agents_are_tasks_below_the_workflow(stage: Stage) -> None:
    ran, _, _ = run_with_a_death(stage, "called")
    root = ran.tasks.pop("w")
    assert (root.error, root.result) == (None, {"whole": 6, "error": "too small"})
    assert {task.id: (task.name, task.executor_id, task.status) for task in ran.tasks.values()} == {
        **{f"w/{path}": ("run python_executor", "python_executor", "completed") for path in ("1.1", "2.1", "3.1")},
        "w/4": ("poet", "llm_executor", "completed"),
        "w/5": ("echo", "echo_executor", "completed"),
        "w/6": ("run python_executor", "python_executor", "failed"),
    }
    assert ran.run.status == "completed"
    assert ran.tasks["w/4"].token_usage["total_tokens"] > 0


@pytest.mark.parametrize(
    ("name", "whole", "error", "calls"),
    [
        ("called", 6, "too small", 6),
        ("nested", 226, "leaf() raised ValueError: -1 is too small", 14),
        ("in_parts", 112, None, 5),
        ("in_time", 4, "late, not answered, not sent", 6),
        ("tidy_root", 301, "True", 8),
    ],
)
def test_a_worker_that_dies_at_any_moment_makes_no_call_again_that_has_ended(
    stage: Stage, name: str, whole: int, error: str | None, calls: int
) -> None:
    item, has_died = 0, True
    while has_died and item < size(12, full=200):
        item += 1
        for after in (False, True):
            ran, ended, has_died = run_with_a_death(stage, name, Fuse(items=item, after=after))
            root = ran.tasks.pop("w")
            assert (ran.run.status, root.error) == ("completed", None), (item, after)
            assert root.result == {"whole": whole, "error": error}, (item, after)
            assert len(ran.tasks) == calls or (name == "tidy_root" and len(ran.tasks) < calls), (item, after)
            counts = Counter(live_calls.RAN)
            functions = [task for task in ran.tasks.values() if "function" in task.inputs and task.id in ended]
            called = [(task.inputs["function"].rpartition(":")[2], task.inputs["arguments"]["a"]) for task in functions]
            assert [call for call in called if counts[call] > Counter(called)[call]] == [], (item, after)


@pytest.mark.parametrize("after", [False, True])
def test_an_executor_that_is_not_safe_to_repeat_is_called_once(stage: Stage, after: bool) -> None:
    """The workflow learns that the call was interrupted."""
    outcomes = set[str | None]()
    for item in range(1, 7):
        ran, _, _ = run_with_a_death(stage, "sends", Fuse(items=item, after=after))
        root = ran.tasks["w"]
        assert (root.error, root.result["whole"]) == (None, 4), item
        assert Counter(live_calls.RAN)[("sent", 1)] <= 1, item
        outcomes.add(root.result["error"] and root.result["error"].partition(":")[0])
    assert None in outcomes


def test_workflows_below_each_other_need_no_place(stage: Stage, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, worker=replace(settings.APFLOW.worker, max_tasks=1))
    ran = end_of(stage, workflow("deep", count=13))
    assert (ran.run.status, ran.tasks["w"].error, ran.tasks["w"].result) == ("completed", None, 14)
    assert "w" + "/1" * 13 in ran.tasks


def test_a_workflow_that_calls_itself_without_end_stops_at_the_depth_of_a_tree(
    stage: Stage, settings: Settings
) -> None:
    limits = replace(settings.APFLOW.limits, tree_depth=5)
    settings.APFLOW = replace(settings.APFLOW, limits=limits)
    ran = end_of(stage, workflow("endless", count=0))
    assert (ran.run.status, len(ran.tasks)) == ("failed", 5)
    assert "(limits.tree_depth). Does a workflow call itself without end?" in (ran.tasks["w"].error or "")


def test_a_cancellation_reaches_the_steps_of_workflows_below_and_lets_them_clean_up(stage: Stage) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow("tidy_root")]).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(run)
    assert (ran.tasks["w"].error, ran.tasks["w"].result) == (None, {"whole": 301, "error": "True"})
    assert {task_id: task.status for task_id, task in ran.tasks.items() if task_id.startswith("w/1")} == {
        **{"w/1.1": "cancelled", "w/1.1/1": "cancelled", "w/1.1/2": "completed", "w/1.1/2/1": "completed"},
    }
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow("tidy_leaf", "v", a=7)]).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: ("hanging", 7) not in live_calls.RAN)
    cancels.ask(caller=LOCAL, task_ids=["v"], force=False, message="enough")
    stage.until_nothing(life.woken_for_open_runs)
    statuses = result_of(run).statuses()
    assert statuses == {"v": "cancelled", "v/1": "cancelled", "v/2": "completed", "v/2/1": "completed"}


def test_a_run_goes_on_in_the_workflow_below_that_failed(stage: Stage) -> None:
    live_calls.BROKEN.add("flaky")
    ran = end_of(stage, workflow("parts"))
    assert ran.tasks["w"].error == (
        "parts() raised StepFailed: part() raised StepFailed: flaky() raised ValueError: broken"
    )
    assert ran.statuses() == {"w": "failed", "w/1": "failed", "w/1/1": "completed", "w/1/2": "failed"}
    live_calls.BROKEN.clear()
    again = trees.execute_task(caller=LOCAL, task_id="w").run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    ran = result_of(again)
    result = {"whole": 114, "error": None}
    assert (ran.run.status, ran.tasks["w"].error, ran.tasks["w"].result) == ("completed", None, result)
    assert Counter(live_calls.RAN) == {
        **{("added", 1): 1, ("flaky", 2): 2, ("added", 10): 1, ("flaky", 11): 1},
        **{("added", 100): 1, ("flaky", 101): 1},
    }


@pytest.mark.parametrize(("start", "ran_again"), [("w/2/2", [11, 101]), ("w/3", [101])])
def test_a_fork_from_a_step_of_a_workflow_below_keeps_those_before_it(
    stage: Stage, start: str, ran_again: list[int]
) -> None:
    end_of(stage, workflow("parts"))
    live_calls.RAN.clear()
    run = forks.fork(caller=LOCAL, task_id="w", start=[start], inputs={}).run
    stage.until_nothing(stage.bear().woken_for_open_runs)
    root = next(task for task in result_of(run).tasks.values() if task.parent_id is None)
    assert (root.status, root.error, root.result) == ("completed", None, {"whole": 114, "error": None})
    assert [a for name, a in live_calls.RAN if name == "flaky"] == ran_again


def test_a_run_completes_if_its_workflow_catches_the_failure_of_what_an_executor_has_added(stage: Stage) -> None:
    ran = end_of(stage, workflow("adding"))
    root = ran.tasks["w"]
    assert (ran.run.status, root.error, root.result["whole"]) == ("completed", None, 4)
    assert "1 of 2 tasks below this one did not complete, the first being 'w/1/" in root.result["error"]
    assert sorted(task.status for task in ran.tasks.values() if task.spawned_by == "w/1") == ["completed", "failed"]


def test_a_form_is_made_of_a_type_and_its_answer_is_a_value_of_it(stage: Stage) -> None:
    run = trees.execute_tree(caller=LOCAL, tasks=[workflow("form")]).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: Run.objects.exclude(lease_owner=leases.SUSPENDED))
    assert Question.objects.get().schema["properties"]["kind"] == {"enum": ["coffee", "tea"], "default": "tea"}
    questions.answer(caller=LOCAL, task_id="w/1", answer={"packets": 3})
    stage.until_nothing(life.woken_for_open_runs)
    assert result_of(run).tasks["w"].result == {"whole": 3, "error": "tea"}


def test_a_secret_reaches_the_step_and_nothing_that_is_stored(stage: Stage) -> None:
    named_secrets.set_secret(user_id="alice", name="crm", value=Secret(VALUE))
    ran = end_of(stage, workflow("with_secret"), ALICE)
    root = ran.tasks["w"]
    assert (root.error, root.result["error"]) == (None, "{{secret.crm}} is signed with …")
    assert root.result["whole"] == {"values": [1, {"a/b~c": "…"}]}
    assert live_calls.RAN[0] == ("signed", VALUE)
    arguments = {"a": "{{secret.crm}} is", "token": None}
    assert ran.tasks["w/1"].inputs["arguments"] == arguments
    assert ran.tasks["w/1"].inputs["secrets"] == {"/token": "{{secret.crm}}"}
    assert VALUE not in everything_stored()
    refused = end_of(stage, workflow("with_secret", "v"), BOB)
    assert len(refused.tasks) == 1
    assert re.fullmatch(
        rf"{HERE}:\d+: an argument of signed\(\) is refused: There is no secret 'crm' that the owner of this task may use\. .*",
        refused.tasks["v"].error or "",
    )


def test_a_secret_is_in_nothing_that_a_worker_has_stored_when_it_dies(stage: Stage) -> None:
    """The worker that takes over masks what steps have said before, too."""
    named_secrets.set_secret(user_id=LOCAL.user_id, name="crm", value=Secret(VALUE))
    for item in range(1, size(6, full=20)):
        ran, _, _ = run_with_a_death(stage, "with_secret", Fuse(items=item, after=True))
        root = ran.tasks["w"]
        assert (root.error, root.result["error"]) == (None, "{{secret.crm}} is signed with …"), item
        assert VALUE not in everything_stored(), item


def everything_stored() -> str:
    stored = [list(model._default_manager.values()) for model in apps.get_models()]
    return orjson.dumps(stored, default=str).decode()


def test_a_place_in_the_inputs_of_a_workflow_is_no_secret(stage: Stage) -> None:
    """Its code would pass it to steps, whose rows have their arguments."""
    named_secrets.set_secret(user_id="alice", name="crm", value=Secret(VALUE))
    with pytest.raises(InvalidParams, match="a secret cannot be used in this input of workflow:leaf"):
        trees.execute_tree(caller=ALICE, tasks=[workflow("leaf", a="{{secret.crm}}")])


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("unknown", r"run 'rest' is refused: Executor 'rest' is not registered .* Did you mean 'rest_executor'\?"),
        ("disabled", r"run 'command_executor' is refused: .* Enable it with: executors\.command\.allow: .*"),
        ("inputs", r"run 'rest_executor' is refused: inputs do not fit the schema of rest_executor: url: .*"),
        ("params", r"run 'echo_executor' is refused: params\.retries unknown field; did you mean 'retry'\?"),
        (
            "range",
            r"run 'echo_executor' is refused: params\.retry\.max_attempts must be an integer from 1 to 100, not 0",
        ),
        ("if", r"run 'echo_executor' is refused: params\.when: the code decides: write `if`"),
        ("step", r"run 'step_executor' is refused: .*only that code adds them.*"),
        ("tools", r"agent 'buyer' is refused: inputs\.tools.* there is no tool 'note'\. Did you mean 'noted'.*"),
        ("input", r"agent 'buyer' is refused: inputs\.temprature .*Did you mean 'temperature'.*"),
        ("secret", r"an argument of signed\(\) is refused: There is no secret 'nobodys' .*"),
        ("prompt", r"agent 'buyer' is refused: inputs\.prompt a secret cannot be used in this input of llm_executor.*"),
        ("verbatim", r"run 'transform_executor' is refused: inputs\.select: nothing is filled in here, .*"),
        ("host", r"an argument of signed\(\) is refused: The secret 'bound' may only be sent to crm\.example\.com .*"),
        ("other host", r"run 'rest_executor' is refused: The secret 'bound' may only be sent to crm\.example\.com .*"),
        ("form", r"ask 'What\?' is refused: inputs\.schema is not flat at properties\.rows\.type.*"),
        ("large", r"an argument of signed\(\) is refused: 'a' is too large: .* limits\.result_bytes allows.*"),
        ("hidden", r"workflow '.*hidden' is refused: it is not registered\. Add its module to executors\.modules"),
    ],
)
def test_a_call_that_is_refused_fails_the_workflow_with_file_and_line(stage: Stage, which: str, said: str) -> None:
    """It stores nothing of the call, and what the workflow has begun is cancelled."""
    named_secrets.set_secret(user_id="alice", name="crm", value=Secret(VALUE))
    named_secrets.set_secret(
        user_id="alice",
        name="bound",
        value=Secret(VALUE),
        allow_hosts=["crm.example.com"],
        allow_in=["secrets", "auth"],
    )
    ran = end_of(stage, workflow("wrong", which=which), ALICE)
    assert re.fullmatch(rf"{HERE}:\d+: {said}\.?", ran.tasks["w"].error or ""), ran.tasks["w"].error
    assert set(ran.statuses().items()) <= {("w", "failed"), ("w/1.1", "cancelled")}


def test_the_inputs_of_all_calls_count_against_the_limit_of_the_run(stage: Stage, settings: Settings) -> None:
    limits = replace(settings.APFLOW.limits, run_bytes=100_000)
    settings.APFLOW = replace(settings.APFLOW, limits=limits)
    ran = end_of(stage, workflow("many", count=100))
    error = ran.tasks["w"].error or ""
    assert "more than the 100,000 bytes that limits.run_bytes allows" in error
    assert 20 < len(ran.tasks) < 50
