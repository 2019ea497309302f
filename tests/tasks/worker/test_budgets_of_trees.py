"""A budget counts the trees that tasks of the run start, and is a limit of theirs; each counts once, also after a crash."""

from typing import Any

import pytest

from accounts.callers import LOCAL
from tasks.models import Question, Run, RunBudget, Task
from tasks.services import trees
from tasks.services.waits.questions import answer
from tests.tasks.lives import Fuse, Stage, at_any_moment
from tests.workers import Json, WorkerThread, result_of, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
ROUNDS = 20
SPENDS: Json = {"spends": {"model": "openai/gpt", "total_tokens": 15, "cost_usd": 0.25}}


def inner(*tasks: Json, **fields: Any) -> Json:
    """A task that runs these tasks as a tree."""
    return {"schemas": {"method": "run_tree_executor"}, "inputs": {"tasks": list(tasks)}} | fields


def steps(count: int) -> list[Json]:
    """A group of so many tasks, one after the other, which spend 15 tokens each."""
    below = [
        step(f"s{number}", parent_id="s", dependencies=[f"s{number - 1}"] if number else [], inputs=SPENDS)
        for number in range(count)
    ]
    return [{"id": "s", "name": "S"}, *below]


def mapped(items: int, tree: list[Json], budget: Json) -> list[Json]:
    """A map that runs the tree for each item, one after the other."""
    for_each = {"items": list(range(items)), "max_parallel": 1}
    return [
        {"id": "map", "name": "Map", "params": {"budget": budget, "for_each": for_each}},
        {"id": "part", "name": "Part", "parent_id": "map", **inner(*tree)},
    ]


def started(worker: WorkerThread, tasks: list[Json]) -> Run:
    run = trees.execute_tree(caller=LOCAL, tasks=tasks).run
    worked(worker, run)
    return run


def worked(worker: WorkerThread, run: Run) -> None:
    """Work until the run is over or asks: the end of an inner tree wakes it."""
    for _ in range(ROUNDS):
        worker.work()
        if result_of(run).run.finished_at is not None or Question.objects.for_people().unanswered().exists():
            return
    raise AssertionError("The run does not end.")


def parts(run: Run) -> list[Task]:
    return list(Task.objects.filter(root_id=run.root_id, spawned_by="map").order_by("position"))


def used(run: Run) -> tuple[int, int, int]:
    state = RunBudget.objects.get(run_id=run.id).state
    return state["tokens"], state["cost_nanos"], state["tasks"]


@pytest.mark.both_engines
def test_what_trees_use_counts_and_no_further_one_starts(worker: WorkerThread) -> None:
    run = started(worker, mapped(4, steps(1), {"tokens": 30}))
    assert [task.status for task in parts(run)] == ["completed"] * 2 + ["failed"] * 2
    assert str(parts(run)[2].error).startswith("The budget of this run is used up: spent 30 of 30 tokens.")
    assert Run.objects.exclude(id=run.id).count() == 2
    assert used(run) == (30, 500_000_000, 4)


def test_trees_of_trees_count_too(worker: WorkerThread) -> None:
    run = started(worker, mapped(3, [{"name": "Between", **inner(*steps(1))}], {"cost_usd": 0.5}))
    assert [task.status for task in parts(run)] == ["completed"] * 2 + ["failed"]
    assert used(run) == (30, 500_000_000, 6)


@pytest.mark.both_engines
def test_a_tree_uses_no_more_than_was_left_when_it_started(worker: WorkerThread) -> None:
    run = started(worker, mapped(2, steps(2), {"tokens": 45}))
    assert [task.status for task in parts(run)] == ["completed", "failed"]
    assert (
        "The budget of the run that started this tree is used up: spent 15 of 15 tokens that were left of it."
        in str(parts(run)[1].error)
    )
    assert used(run)[0] == 45


def test_the_own_budget_of_a_tree_still_limits_it(worker: WorkerThread) -> None:
    tree = steps(3)
    tree[0]["params"] = {"budget": {"tokens": 30}}
    run = started(worker, mapped(1, tree, {"tokens": 1000}))
    assert "The budget of this run is used up: spent 30 of 30 tokens." in str(parts(run)[0].error)
    assert used(run)[0] == 30


@pytest.mark.both_engines
def test_the_owner_raises_it_and_what_was_refused_begins_again(worker: WorkerThread) -> None:
    run = started(worker, mapped(2, steps(2), {"tokens": 45, "on_exceeded": "ask"}))
    question = Question.objects.for_people().unanswered().get()
    assert question.text.startswith("Spent 45 of 45 tokens. Raise the budget to how much?")
    answer(caller=LOCAL, task_id=question.task_id, answer=1000)
    worked(worker, run)
    assert [task.status for task in parts(run)] == ["completed"] * 2
    assert used(run)[0] == 75
    assert sorted(Run.objects.exclude(id=run.id).values_list("status", flat=True)) == [*["completed"] * 2, "failed"]


def test_it_is_asked_for_the_number_of_tasks_as_well(worker: WorkerThread) -> None:
    run = started(worker, mapped(1, steps(2), {"tasks": 2, "on_exceeded": "ask"}))
    question = Question.objects.for_people().unanswered().get()
    assert question.text.startswith("Spent 2 of 2 tasks.")
    answer(caller=LOCAL, task_id=question.task_id, answer=9)
    worked(worker, run)
    assert [task.status for task in parts(run)] == ["completed"]


def test_a_tree_that_is_executed_again_on_its_own_has_no_limit_of_another_run(worker: WorkerThread) -> None:
    run = started(worker, mapped(1, steps(2), {"tokens": 15}))
    child = Run.objects.exclude(id=run.id).get()
    again = trees.execute_task(caller=LOCAL, task_id=child.root_id).run
    worker.work()
    assert result_of(again).run.status == "completed"
    assert used(run)[0] == 15


@at_any_moment(13, both_engines=range(1, 14, 4))
def test_a_crash_at_any_moment_counts_a_tree_once(stage: Stage, items: int, after: bool) -> None:
    does = {"schemas": {"method": "script_executor"}}
    tree = [
        {"id": "root", "name": "Root", "params": {"budget": {"tokens": 1000}}},
        {
            "id": "part",
            "name": "Part",
            "parent_id": "root",
            **inner({"name": "Spend", "inputs": {"script": "ok", "spends": [SPENDS["spends"]]}, **does}),
        },
        {
            "id": "last",
            "name": "Last",
            "parent_id": "root",
            "dependencies": ["part"],
            "inputs": {"script": "ok"},
            **does,
        },
    ]
    run = trees.execute_tree(caller=LOCAL, tasks=tree).run
    stage.die_and_take_over(Fuse(items=items, after=after))
    (child,) = Run.objects.exclude(id=run.id)
    assert (result_of(run).run.status, child.status) == ("completed", "completed")
    assert used(run)[0] == RunBudget.objects.get(run_id=child.id).state["tokens"] in (15, 30)
