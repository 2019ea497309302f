"""Inputs of a run: what `{{run.inputs.…}}` stands for, in every place, and again in each run."""

from collections.abc import Callable

import pytest

from accounts.callers import LOCAL
from tasks.models import RunInputs
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.runs.run_inputs import NOT_USED, with_inputs
from tasks.services.trees import editing
from tasks.services.trees.copies import copy_tree
from tests.workers import Json, Ran, WorkerThread, result_of

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
ECHO: Json = {"schemas": {"method": "echo_executor"}}
TREE: list[Json] = [
    {"id": "end", "name": "End", "dependencies": [{"id": "each", "on_skip": "run"}], "inputs": {"of": "{{run.inputs.topic}}", "run": 1}, **ECHO},
    {"id": "each", "name": "Each", "parent_id": "end", "params": {
        "for_each": {"items": {"task": "run", "path": "/inputs/urls"}},
        "when": {"task": "run", "path": "/inputs/urls", "op": "exists"},
    }},
    {"id": "page", "name": "Page", "parent_id": "each", "schemas": {"method": "transform_executor"},
     "inputs": {"select": "join(' ', [run.inputs.topic, item])"}},
]  # fmt: skip


def run_with(worker: WorkerThread, inputs: Json, tasks: list[Json] = TREE) -> Ran:
    execution = with_inputs(trees.execute_tree, inputs, caller=LOCAL, tasks=tasks)
    worker.work()
    return result_of(execution.run, ids=execution.ids)


def test_places_conditions_maps_and_expressions_know_the_inputs(worker: WorkerThread) -> None:
    ran = run_with(worker, {"topic": "tea {{x}}", "urls": ["a", "b"]})
    assert ran.tasks["each"].result == ["tea {{x}} a", "tea {{x}} b"]
    assert ran.tasks["end"].result["of"] == "tea {{x}}"
    assert ran.tasks["end"].inputs["of"] == "{{run.inputs.topic}}"
    assert run_with(worker, {"topic": "tea"}).tasks["each"].status == "skipped"


def test_a_missing_input_fails_the_task_by_name(run: RunTree, worker: WorkerThread) -> None:
    for ran in (run(TREE), run_with(worker, {"other": 1})):
        assert ran.tasks["end"].error is not None
        assert (
            "inputs.of: '{{run.inputs.topic}}' has no value: the value at 'run.inputs' has no 'topic'"
            in ran.tasks["end"].error
        )


def test_each_run_has_its_own_inputs_and_a_running_one_keeps_them(worker: WorkerThread) -> None:
    ran = run_with(worker, {})
    again = with_inputs(trees.execute_task, {"topic": "cups"}, caller=LOCAL, task_id=ran.tasks["end"].id)
    late = with_inputs(trees.execute_task, {"topic": "pots"}, caller=LOCAL, task_id=ran.tasks["end"].id)
    assert late.warnings == [NOT_USED]
    worker.work()
    assert result_of(again.run).tasks[ran.tasks["end"].id].result["of"] == "cups"


def test_a_copy_asks_for_inputs_again(worker: WorkerThread) -> None:
    ran = run_with(worker, {"topic": "tea", "urls": []})
    copy = copy_tree(caller=LOCAL, task_id=ran.tasks["end"].id)
    again = with_inputs(trees.execute_task, {"topic": "cups", "urls": ["c"]}, caller=LOCAL, task_id=copy.root.id)
    worker.work()
    assert result_of(again.run).tasks[copy.root.id].result["of"] == "cups"


def test_a_dependency_with_the_name_run_keeps_its_meaning(worker: WorkerThread) -> None:
    tasks = [
        {"id": "end", "name": "End", "dependencies": ["run"], "inputs": {"x": "{{run.inputs}}"}, **ECHO},
        {"id": "run", "name": "Run", "parent_id": "end", "inputs": {"inputs": 5}, **ECHO},
    ]
    assert run_with(worker, {"topic": 1}, tasks).tasks["end"].result["x"] == 5


def test_they_are_bounded_and_deleted_with_their_tree(worker: WorkerThread) -> None:
    ran = run_with(worker, {"topic": "tea"})
    assert RunInputs.objects.count() == 1
    editing.delete_task(caller=LOCAL, task_id=ran.tasks["end"].id, force=True)
    assert RunInputs.objects.count() == 0
    with pytest.raises(InvalidParams, match="run_inputs"):
        run_with(worker, {"topic": "x" * 2_000_000})
