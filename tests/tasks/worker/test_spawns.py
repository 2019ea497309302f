"""Spawned tasks: what a task adds to its tree runs as part of it, once, and within the limits."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.models import Run, Task
from tasks.services import trees
from tasks.services.trees.copies import copy_tree
from tests.sections import replace
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
ECHO: Json = {"schemas": {"method": "echo_executor"}}
TWO: list[Json] = [
    {"id": "b", "name": "B", "dependencies": ["a"], "inputs": {"of": "{{a.x}}", "again": "{{a}}"}, **ECHO},
    {"id": "a", "name": "A", "inputs": {"x": [1]}, **ECHO},
]

TREE: list[Json] = [
    {"id": "y", "name": "Y", "schemas": {"method": "run_tree_executor"}, "inputs": {"copy_of": "other"}}
]
SECRET: list[Json] = [
    {
        "id": "x",
        "name": "X",
        "schemas": {"method": "rest_executor"},
        "inputs": {"url": "http://x/", "json": "{{{{secret.key}}"},
    }
]


def spawning(tasks: list[Any], **fields: Any) -> list[Json]:
    """A task that spawns others, and one that follows it."""
    return [
        {"id": "end", "name": "End", "dependencies": ["s"], **ECHO},
        {
            "id": "s",
            "name": "Spawn",
            "parent_id": "end",
            "priority": 1,
            "schemas": {"method": "spawning_executor"},
            "inputs": {"tasks": tasks},
            **fields,
        },
    ]


@pytest.mark.both_engines
def test_a_task_that_joins_ends_with_the_results_of_what_it_spawned(run: RunTree) -> None:
    ran = run(spawning(TWO))
    assert ran.run.status == "completed"
    assert ran.tasks["s"].result == {"a": {"x": [1]}, "b": {"of": [1], "again": {"x": [1]}, "a": {"x": [1]}}}
    assert ran.tasks["end"].result == {"s": ran.tasks["s"].result}
    tree = {task.id: task for task in Task.objects.tree("end")}
    assert list(tree) == ["end", "s", "s/b", "s/a"]
    assert tree["s/b"].dependencies == [{"id": "s/a", "required": True, "as": "a"}]
    assert {(task.spawned_by, task.parent_id, task.priority) for task in tree.values() if task.spawned_by} == {
        ("s", "s", 1)
    }
    assert tree["s"].has_children
    types = [(event["type"], event["task_id"]) for event in ran.events]
    assert types.index(("task_spawned", "s")) < types.index(("task_completed", "s/a"))
    assert types.index(("task_completed", "s/b")) < types.index(("task_completed", "s"))


@pytest.mark.both_engines
def test_a_task_that_does_not_join_completes_at_once(run: RunTree) -> None:
    ran = run(spawning(TWO, inputs={"tasks": TWO, "join": False, "result": "mine"}))
    assert ran.run.status == "completed"
    assert ran.tasks["s"].result == "mine"
    assert Task.objects.get(id="s/b").status == "completed"
    order = [event["task_id"] for event in ran.events if event["type"] == "task_completed"]
    assert order.index("s") < order.index("s/a")


def test_what_was_spawned_may_spawn(run: RunTree) -> None:
    inner = {"id": "in", "name": "In", "schemas": {"method": "spawning_executor"}, "inputs": {"tasks": TWO[1:]}}
    assert run(spawning([inner])).tasks["s"].result == {"in": {"a": {"x": [1]}}}


def test_a_spawned_task_that_fails_fails_its_spawner(run: RunTree) -> None:
    bad = {"id": "bad", "name": "Bad", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "fail"}}
    ran = run(spawning([bad, TWO[1]]))
    assert ran.run.status == "failed"
    assert (ran.tasks["s"].error or "").startswith(
        "1 of 2 tasks below this one did not complete, the first being 's/bad': "
    )
    spared = run(spawning([bad | {"params": {"allow_failure": True}}, TWO[1]]))
    assert spared.run.status == "completed"
    assert next(iter(spared.tasks.values())).result is not None


@pytest.mark.both_engines
def test_a_full_copy_from_an_added_task_runs_what_added_it_again(run: RunTree, worker: WorkerThread) -> None:
    """Else the copy would have the results of tasks that it has not."""
    run([*spawning(TWO), {"id": "before", "name": "Before", "parent_id": "s", **ECHO}])
    copy = copy_tree(caller=LOCAL, task_id="s/a", copy_mode="full")
    assert {each: Task.objects.get(id=copy.ids[each]).status for each in copy.ids} == {
        "end": "pending",
        "s": "pending",
        "before": "completed",
    }
    execution = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    assert result_of(execution.run).tasks[copy.ids["s"]].result.keys() == {"a", "b"}


@pytest.mark.both_engines
def test_executed_again_it_spawns_nothing_anew(run: RunTree, worker: WorkerThread) -> None:
    bad = {"id": "bad", "name": "Bad", "schemas": {"method": "scripted_executor"}, "inputs": {"then": "fail"}}
    run(spawning([bad]))
    Task.objects.filter(id="s/bad").update(inputs={"then": "ok"})
    again = trees.execute_task(caller=LOCAL, task_id="end")
    worker.work()
    ended = result_of(again.run)
    assert ended.run.status == "completed"
    assert list(ended.tasks) == ["end", "s", "s/bad"]
    assert ended.order() == ["s/bad", "end"]


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        ([{"name": "x", "inputs": 1}], "Invalid params"),
        (["x"], "Invalid params"),
        ([{"name": "x", "schemas": {"method": "no_executor"}}], "Task 'x': executor 'no_executor' is not registered"),
        ([{"name": "x", "user_id": "root", **ECHO}], "one has a user_id. They belong to the owner of the tree."),
        ([{"id": "x", "name": "x", "dependencies": ["s"], **ECHO}], "Circular dependency: x -> s -> x."),
        ([{"id": "x", "name": "x", "dependencies": ["end"], **ECHO}], "Task 'x': dependency 'end' is neither"),
    ],
)
def test_what_is_no_tree_is_refused(run: RunTree, tasks: list[Any], error: str) -> None:
    ran = run(spawning(tasks))
    assert (ran.tasks["s"].error or "").startswith(f"The tasks that this one adds are refused: {error}")
    assert len(Task.objects.tree(ran.run.root_id)) == 2


def test_a_tree_may_grow_by_so_many_tasks_and_levels_only(run: RunTree, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, spawned_tasks=1))
    assert (run(spawning(TWO)).tasks["s"].error or "").startswith("2 tasks are more than the 1 that may still be added")
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, spawned_tasks=10, tree_depth=2))
    error = str(next(iter(run(spawning(TWO[1:])).tasks.values())).error)
    assert "required dependency" in error
    assert Task.objects.filter(error__contains="a tree has at most 1 levels").count() == 1


def test_tasks_in_a_result_run_where_the_params_say_so(run: RunTree) -> None:
    answer = {"plan": {"$spawn": {"tasks": TWO}}}
    fields: Json = {"schemas": {"method": "echo_executor"}, "inputs": {"answer": answer}}
    ran = run(spawning([], **fields, params={"spawn": {"path": "/answer/plan", "executors": ["echo_executor"]}}))
    assert list(ran.tasks["s"].result) == ["b", "a"]
    plain = run(spawning([], **fields))
    assert next(task for task in plain.tasks.values() if task.name == "Spawn").result == {"answer": answer}


@pytest.mark.parametrize(
    ("spawn", "error"),
    [
        ({"path": "/none"}, "params.spawn finds no tasks: what is at '/none' in the result is no list"),
        ({"path": "/tasks", "max_tasks": 1}, "The result has 2 tasks, more than the 1 of params.spawn.max_tasks."),
        (
            {"path": "/secret"},
            "The tasks that this one adds are refused: 'x' uses the secret 'key' in inputs.json, which",
        ),
        ({"executors": ["rest_executor"]}, "The tasks that this one adds are refused: 'b' is for echo_executor"),
        (
            {"path": "/tree"},
            "The tasks that this one adds are refused: 'y' is for run_tree_executor, which params.spawn",
        ),
    ],
)
def test_a_result_without_tasks_that_may_run_fails_the_task(run: RunTree, spawn: Json, error: str) -> None:
    fields: Json = {"schemas": {"method": "echo_executor"}, "inputs": {"tasks": TWO, "secret": SECRET, "tree": TREE}}
    ran = run(spawning([], **fields, params={"spawn": spawn}))
    assert (ran.tasks["s"].error or "").startswith(error)


@pytest.mark.both_engines
def test_what_an_executor_spawns_uses_no_secret_that_its_task_does_not_name(run: RunTree) -> None:
    error = "The tasks that this one adds are refused: 'x' uses the secret 'key' in inputs.json, which"
    assert (run(spawning(SECRET)).tasks["s"].error or "").startswith(error)
    allowed = run(spawning(SECRET, params={"spawn": {"secrets": ["key"]}}))
    assert "There is no secret 'key'" in str([task.error for task in Task.objects.tree(allowed.run.root_id)])


def test_no_tasks_are_no_spawning(run: RunTree) -> None:
    fields: Json = {"schemas": {"method": "echo_executor"}, "inputs": {"tasks": []}}
    assert run(spawning([], **fields, params={"spawn": {}})).tasks["s"].result == {"tasks": []}
    joined = run(spawning([]))
    assert next(task for task in joined.tasks.values() if task.name == "Spawn").result == {}


@pytest.mark.both_engines
def test_a_cancellation_reaches_what_was_spawned(stage: Stage) -> None:
    hang = {"id": "h", "name": "H", "schemas": {"method": "script_executor"}, "inputs": {"script": "hang"}}
    inputs = {"script": "spawn", "tasks": [hang, hang | {"id": "i", "dependencies": ["h"]}]}
    tree = spawning([], schemas={"method": "script_executor"}, inputs=inputs)
    run = trees.execute_tree(caller=LOCAL, tasks=tree).run
    life = stage.bear()
    life.wake()
    stage.until_nothing(lambda: not Task.objects.filter(id="s/h", status="in_progress"))
    life.cancel(run.id, "s")
    stage.until_nothing(lambda: Run.objects.filter(finished_at=None))
    statuses = result_of(run).statuses()
    assert statuses == {"end": "failed", "s": "cancelled", "s/h": "cancelled", "s/i": "cancelled"}


@pytest.mark.parametrize("join", [True, False])
@at_any_moment(9, both_engines=(3, 6))
def test_a_crash_at_any_moment_spawns_nothing_twice(stage: Stage, items: int, after: bool, join: bool) -> None:
    tasks = [{"id": name, "name": name, **ECHO, "inputs": {"n": name}} for name in "xyz"]
    inputs = {"script": "spawn", "tasks": tasks, "join": join}
    tree = spawning([], schemas={"method": "script_executor"}, inputs=inputs)
    run = trees.execute_tree(caller=LOCAL, tasks=tree).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    ended = result_of(run)
    assert ended.run.status == "completed"
    assert sorted(ended.tasks) == ["end", "s", "s/x", "s/y", "s/z"]
    assert ended.tasks["s"].result == ({name: {"n": name} for name in "xyz"} if join else "own")
    types = [event["type"] for event in ended.events]
    assert (types.count("task_spawned"), types.count("final"), types.count("task_completed")) == (1, 1, 5)
