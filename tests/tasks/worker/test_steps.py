"""Steps: a task adds tasks, and is called again with how they ended, once for each step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from aipartnerupflow.executors import Spawn
from tasks.models import Run, Task
from tasks.services import trees
from tasks.services.trees.copies import FULL, copy_tree
from tasks.services.waits import questions
from tests.documents import text
from tests.sections import replace
from tests.tasks.executors.conftest import forget_registry
from tests.tasks.lives import Fuse, Stage
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
ECHO: Json = {"schemas": {"method": "echo_executor"}}
A: Json = {"id": "a", "name": "A", "inputs": {"x": 1}, **ECHO}
BAD: Json = {"id": "bad", "name": "Bad", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "fail"}}
FAILED: Json = {"status": "failed", "error": "It failed, as it was told to."}
DONE: Json = {"status": "completed", "result": {"x": 1}}


def stepping(*steps: list[Json] | Json, **fields: Any) -> list[Json]:
    """A task that takes these steps, and one that follows it."""
    given = [step if isinstance(step, dict) else {"tasks": step} for step in steps]
    task = {"id": "s", "name": "S", "parent_id": "end", "inputs": {"steps": given}, **fields}
    return [
        {"id": "end", "name": "End", "dependencies": ["s"], **ECHO},
        {"schemas": {"method": "stepping_executor"}, **task},
    ]


def spawned() -> list[tuple[str, str]]:
    """The tasks that were added, and how they stand."""
    return list(Task.objects.exclude(spawned_by=None).order_by("position").values_list("id", "status"))


def again(ran: Ran, worker: WorkerThread) -> Ran:
    execution = trees.execute_task(caller=LOCAL, task_id=ran.run.root_id)
    worker.work()
    return result_of(execution.run)


@pytest.mark.both_engines
def test_a_task_is_called_again_after_each_step(run: RunTree) -> None:
    ran = run(stepping([A, {"name": "No id", **ECHO}], [A]))
    assert ran.run.status == "completed"
    assert ran.tasks["s"].result == {"got": [{"a": DONE, "1": {"status": "completed", "result": {}}}, {"a": DONE}]}
    assert [task_id for task_id, _ in spawned()] == ["s/1/a", "s/1/1", "s/2/a"]
    steps = [event["result"].get("step") for event in ran.events if event["type"] == "task_spawned"]
    assert steps == [1, 2]
    assert [event["task_id"] for event in ran.events if event["type"] == "task_start"].count("s") == 1
    assert ran.tasks["s"].attempt == 1


def test_a_task_that_fails_in_a_step_is_a_result_and_does_not_fail_the_run(run: RunTree) -> None:
    follows = {"id": "after", "name": "After", "dependencies": ["bad"], **ECHO}
    ran = run(stepping([A, BAD, follows]))
    (got,) = ran.tasks["s"].result["got"]
    assert got == {
        "a": DONE,
        "bad": FAILED,
        "after": {"status": "failed", "error": "Not run: required dependency 's/1/bad' failed"},
    }
    assert (ran.run.status, ran.tasks["end"].status) == ("completed", "completed")


def test_the_memo_is_gone_when_the_task_has_completed(run: RunTree) -> None:
    run(stepping([A]))
    assert Task.objects.get(id="s").steps == {"number": 1, "tasks": 1}
    assert Task.objects.get(id="end").steps is None


@pytest.mark.both_engines
def test_the_next_attempt_goes_on_from_the_last_step(run: RunTree) -> None:
    second: Json = {"tasks": [A], "then": "fail", "until": 3}
    ran = run(stepping([A], second, params={"retry": {"max_attempts": 3, "backoff_seconds": 0}}))
    assert ran.tasks["s"].result == {"got": [{"a": DONE}, {"a": DONE}]}
    assert [task_id for task_id, _ in spawned()] == ["s/1/a", "s/2/a"]
    assert ran.tasks["s"].attempt == 3


@pytest.mark.both_engines
def test_another_run_goes_on_from_the_last_step(run: RunTree, worker: WorkerThread) -> None:
    second: Json = {"tasks": [A], "then": "fail", "until": 9}
    ran = run(stepping([A, BAD], second))
    assert (ran.run.status, ran.tasks["s"].error) == ("failed", "It failed between two steps.")
    Task.objects.filter(id="s").update(inputs={"steps": [{"tasks": []}, {"tasks": [A]}]})
    ended = again(ran, worker)
    assert ended.tasks["s"].result == {"got": [{"a": DONE, "bad": FAILED}, {"a": DONE}]}
    assert ended.order() == ["s", "s/2/a", "end"]


@pytest.mark.both_engines
def test_another_run_does_not_repeat_what_failed_in_a_step_of_a_completed_task(
    run: RunTree, worker: WorkerThread
) -> None:
    tree = stepping([BAD])
    tree[0]["schemas"], tree[0]["inputs"] = {"method": "scripted_executor"}, {"then": "fail"}
    ran = run(tree)
    assert (ran.run.status, ran.tasks["s"].status) == ("failed", "completed")
    Task.objects.filter(id__in=["end", "s/1/bad"]).update(inputs={"then": "ok"})
    assert again(ran, worker).order() == ["end"]
    assert spawned() == [("s/1/bad", "failed")]


@pytest.mark.parametrize("copied", [pytest.param("end", marks=pytest.mark.both_engines), "s"])
def test_a_copy_begins_with_the_first_step(run: RunTree, worker: WorkerThread, copied: str) -> None:
    run(stepping([A, BAD], [A]))
    copy = copy_tree(caller=LOCAL, task_id=copied, copy_mode=FULL)
    assert sorted(task.name for task in copy.tasks) == ["End", "S"]
    execution = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    ended = result_of(execution.run)
    assert ended.tasks[copy.ids["s"]].result == {"got": [{"a": DONE, "bad": FAILED}, {"a": DONE}]}


@pytest.mark.parametrize("ends", [pytest.param("completed", marks=pytest.mark.both_engines), "failed"])
def test_a_copy_that_keeps_the_task_repeats_no_step(run: RunTree, worker: WorkerThread, ends: str) -> None:
    """One that has failed begins again, and one that has completed is as it was."""
    tree = stepping([A, BAD], *([{"tasks": [A], "then": "fail", "until": 9}] if ends == "failed" else []))
    tree.append({"id": "other", "name": "Other", "parent_id": "end", **ECHO})
    run(tree)
    copy = copy_tree(caller=LOCAL, task_id="other", copy_mode=FULL)
    names = sorted(task.name for task in copy.tasks)
    assert names == (["A", "End", "Other", "S"] if ends == "completed" else ["End", "Other", "S"])
    execution = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    ended = result_of(execution.run)
    assert ended.tasks[copy.ids["s"]].status == ends
    assert ended.tasks[copy.ids["other"]].status == "completed"
    assert Task.objects.filter(name="Bad").count() == (1 if ends == "completed" else 2)


def test_a_task_of_a_step_is_copied_without_what_took_the_step(run: RunTree) -> None:
    """Whether that has completed or not, and however the task of the step ended."""
    run(stepping([A, BAD], {"tasks": [A], "then": "fail", "until": 9}))
    for task_id in ("s/1/a", "s/1/bad"):
        (copied,) = copy_tree(caller=LOCAL, task_id=task_id, copy_mode="custom", custom_task_ids=[task_id]).tasks
        assert (copied.name, copied.status, copied.spawned_by) == (Task.objects.get(id=task_id).name, "pending", None)


def test_a_last_step_may_be_joined_or_left(run: RunTree) -> None:
    """It is over with the tasks of that step alone: those before it may have failed."""
    joined = run(stepping([BAD], {"tasks": [A], "again": False}))
    assert joined.tasks["s"].result == {"a": {"x": 1}}
    failed = run(stepping([A], {"tasks": [BAD], "again": False}))
    error = next(task.error for task in failed.tasks.values() if task.name == "S")
    assert (error or "").startswith("1 of 1 tasks below this one did not complete")


@pytest.mark.both_engines
def test_a_task_may_ask_between_steps(run: RunTree, worker: WorkerThread) -> None:
    ran = run(stepping([A], {"then": "ask"}, [A]))
    assert ran.run.lease_owner == "parked"
    questions.answer(caller=LOCAL, task_id="s", answer="yes")
    worker.work()
    ended = result_of(ran.run)
    assert ended.tasks["s"].result == {"got": [{"a": DONE}, "yes", {"a": DONE}]}


def test_a_step_that_cannot_be_stored_fails_the_task(run: RunTree, settings: Settings) -> None:
    limits = replace(settings.APFLOW.limits, result_bytes=300)
    settings.APFLOW = replace(settings.APFLOW, limits=limits)
    large = A | {"inputs": {"x": "y" * 100}}
    ran = run(stepping([large], [large], [large], [large]))
    assert (ran.tasks["s"].error or "").startswith("The memo of this step cannot be stored. The result has")


@pytest.mark.parametrize("wrong", [{"tasks": []}, {"tasks": [A], "join": False}])
def test_a_step_waits_for_tasks(wrong: Json) -> None:
    with pytest.raises(ValueError, match="waits for its tasks"):
        Spawn(again=True, **wrong)


def test_a_spawn_may_name_its_executors(run: RunTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.executors_for_tests.Spawn", lambda **fields: Spawn(**fields, executors=["scripted_executor"])
    )
    error = "The tasks that this one adds are refused: 'a' is for echo_executor, which params.spawn.executors does not"
    assert (run(stepping([A])).tasks["s"].error or "").startswith(error)


def test_the_executor_of_the_page_counts_down(
    run: RunTree, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "countdown.py").write_text(text("docs/how-to/repeat-and-spawn.md", "Go step by step", "python"))
    monkeypatch.syspath_prepend(tmp_path)
    settings.APFLOW_EXECUTOR_MODULES = ("countdown",)
    forget_registry()
    count = {"id": "count", "name": "Count", "schemas": {"method": "countdown_executor"}, "inputs": {"from": 2}}
    for pool in ("loop", "thread"):
        ran = run([count | {"id": pool, "params": {"pool": pool}}])
        assert ran.tasks[pool].result == {"counted": 2}, pool
    assert {"loop/1/echo", "loop/2/echo"} < {task_id for task_id, _ in spawned()}


@pytest.mark.both_engines
def test_a_cancellation_reaches_the_tasks_of_a_step(stage: Stage) -> None:
    inputs = {"script": "steps", "steps": 2, "tasks": {"x": "ok", "h": "hang"}}
    run = trees.execute_tree(caller=LOCAL, tasks=stepping(schemas={"method": "script_executor"}, inputs=inputs)).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: not Task.objects.filter(id="s/1/h", status="in_progress"))
    stage.until_nothing(lambda: not Task.objects.filter(id="s/1/x", status="completed"))
    life.cancel(run.id, "s")
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    statuses = {"end": "failed", "s": "cancelled", "s/1/x": "completed", "s/1/h": "cancelled"}
    assert result_of(run).statuses() == statuses
    execution = trees.execute_task(caller=LOCAL, task_id="end")
    life.tell(execution.run.id, "s/1/h", "ok")
    life.tell(execution.run.id, "s/2/h", "ok")
    stage.until_nothing(life.woken_for_open_runs)
    assert result_of(execution.run).run.status == "completed"
    assert life.executed.count((execution.run.id, "s/1/x")) == 0
    assert life.executed.count((execution.run.id, "s/1/h")) == 1


@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.both_engines), True])
@pytest.mark.parametrize("items", range(1, 20))
def test_a_crash_at_any_moment_takes_no_step_twice(stage: Stage, items: int, after: bool) -> None:
    inputs = {"script": "steps", "steps": 3, "tasks": {"x": "ok", "y": "fail"}}
    run = trees.execute_tree(caller=LOCAL, tasks=stepping(schemas={"method": "script_executor"}, inputs=inputs)).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    ended = result_of(run)
    assert ended.run.status == "completed"
    numbers = (1, 2, 3)
    assert sorted(ended.tasks) == sorted(["end", "s", *(f"s/{n}/{name}" for n in numbers for name in "xy")])
    taken = ended.tasks["s"].result["taken"]
    for number, step in zip(numbers, taken, strict=True):  # what was decided is what was done
        assert ended.tasks[f"s/{number}/x"].result["got"]["word"] == step["word"]
        assert step["answer"]["x"]["result"] == ended.tasks[f"s/{number}/x"].result
        assert step["answer"]["y"] == {"status": "failed", "error": "Told to fail"}
    types = [event["type"] for event in ended.events]
    assert (types.count("task_spawned"), types.count("final"), types.count("task_completed")) == (3, 1, 5)
    assert types.count("task_failed") == 3
