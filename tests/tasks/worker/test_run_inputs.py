"""Inputs of a run: what `{{run.inputs.…}}` stands for, in every place, and again in each run."""

from collections.abc import Callable
from functools import partial

import pytest

from accounts.callers import LOCAL
from tasks.models import Run, RunInputs, Task
from tasks.rules.exceptions import InvalidParams
from tasks.services import flows, trees
from tasks.services.runs.run_inputs import NOT_USED, with_inputs
from tasks.services.trees import editing, forks
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
TOPIC_AND_PATH: list[Json] = [
    {"id": "end", "name": "End", "inputs": {"of": "{{run.inputs.topic}}", "at": "{{run.inputs.path}}"}, **ECHO}
]


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
    for ran in (run(TREE), run_with(worker, {"urls": []})):
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


def test_inputs_of_a_further_run_are_merged_over_those_of_the_run_before(worker: WorkerThread) -> None:
    ran = run_with(worker, {"topic": "tea"}, TOPIC_AND_PATH)
    assert ran.tasks["end"].status == "failed"
    again = with_inputs(trees.execute_task, {"path": "/orders"}, caller=LOCAL, task_id="end")
    worker.work()
    assert result_of(again.run).tasks["end"].result == {"of": "tea", "at": "/orders"}
    forked = with_inputs(forks.fork, {"topic": None}, caller=LOCAL, task_id="end", start=("end",), inputs={})
    worker.work()
    assert result_of(forked.run, ids=forked.ids).tasks["end"].result == {"of": None, "at": "/orders"}
    only = with_inputs(
        forks.fork, {"path": "/"}, replace_inputs=True, caller=LOCAL, task_id="end", start=("end",), inputs={}
    )
    worker.work()
    assert result_of(only.run, ids=only.ids).tasks["end"].status == "failed"


def test_a_further_run_of_a_flow_has_its_defaults_and_fits_its_schema(worker: WorkerThread) -> None:
    schema = {"properties": {"topic": {"type": "string"}, "path": {"default": "/news"}}, "required": ["topic"]}
    flows.save_flow(caller=LOCAL, name="papers", tasks=TOPIC_AND_PATH, inputs_schema=schema)
    execution = flows.run_flow(caller=LOCAL, name="papers", inputs={"topic": "tea", "path": "/fail"})
    worker.work()
    root = execution.task.id
    copied = partial(trees.execute_task, caller=LOCAL, task_id=root, copy_execution=True, copy_children=True)
    for inputs, replaces, expected in (
        ({"path": "/orders"}, False, {"of": "tea", "at": "/orders"}),
        ({"topic": "cups"}, False, {"of": "cups", "at": "/fail"}),
        ({"topic": "pots"}, True, {"of": "pots", "at": "/news"}),
    ):
        again = with_inputs(copied, inputs, replace_inputs=replaces)
        worker.work()
        assert result_of(again.run).tasks[again.task.id].result == expected
    runs = Run.objects.count()
    for wrong, replaces, message in (
        ({"topic": 5}, False, "run_inputs: do not fit the schema of this flow"),
        ({"topik": "x"}, False, "run_inputs.topik: 'topik' is no input of this flow; did you mean 'topic'?"),
        ({"path": "/x"}, True, "run_inputs.topic: is required"),
    ):
        with pytest.raises(InvalidParams) as raised:
            with_inputs(copied, wrong, replace_inputs=replaces)
        assert message in str(raised.value)
    assert Run.objects.count() == runs


def test_inputs_that_no_task_uses_are_refused(worker: WorkerThread) -> None:
    whole: Json = {"name": "All", "inputs": {"of": "{{run.inputs}}"}, **ECHO}
    adds: Json = {"name": "Adds", "inputs": {"tasks": []}, "params": {"spawn": {}}, **ECHO}
    pick: Json = {"name": "Pick", "inputs": {"select": "run.inputs.topic"}, "schemas": {"method": "transform_executor"}}
    for tasks, inputs, message in (
        (TREE, {"topik": 1}, "run_inputs.topik: 'topik' is no input of this tree; did you mean 'topic'?"),
        (TREE, {"other": 1}, "'other' is no input of this tree; its inputs: topic, urls"),
        ([{"name": "No", **ECHO}], {"topic": 1}, "'topic' is no input of this tree, which has none"),
        ([pick], {"path": 1}, "its inputs: topic"),
    ):
        with pytest.raises(InvalidParams) as raised:
            with_inputs(trees.execute_tree, inputs, caller=LOCAL, tasks=tasks)
        assert message in str(raised.value)
    assert (Run.objects.count(), Task.objects.count()) == (0, 0)
    for tasks in ([whole], [adds], [pick | {"inputs": {"select": "run"}}]):
        assert with_inputs(trees.execute_tree, {"any": 1}, caller=LOCAL, tasks=tasks, id_conflict=trees.NEW).started
    flows.save_flow(caller=LOCAL, name="open", tasks=[{"name": "No", **ECHO}])
    with pytest.raises(InvalidParams, match=r"inputs\.topic"):
        flows.run_flow(caller=LOCAL, name="open", inputs={"topic": 1})


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
