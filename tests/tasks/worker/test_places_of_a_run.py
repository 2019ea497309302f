"""Results flow into the inputs of every executor, and a failure that is allowed fails no run."""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.callers import LOCAL
from aipartnerupflow.executors import ExecutorError
from tasks.executors import executor_ids, get_executor
from tasks.executors.command.executor import Command
from tasks.models import Task
from tasks.rules.exceptions import InvalidParams
from tasks.services import trees
from tasks.services.history.task_detail import detail
from tasks.services.trees.copies import copy_tree
from tasks.services.trees.editing import update_task
from tasks.services.upkeep.demo import as_demo
from tests.workers import Json, Ran, WorkerThread, result_of, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
FETCHED: Json = {"id": "fetch", "name": "echo_executor", "parent_id": "show", "inputs": {"title": "Tea", "count": 3}}


def show(value: Any, **fields: Any) -> list[Json]:
    """A task that returns the value, after one that fetches something."""
    return [{"id": "show", "name": "echo_executor", "inputs": {"value": value}, "dependencies": ["fetch"]} | fields, FETCHED]  # fmt: skip


def shown(ran: Ran) -> Any:
    return ran.tasks["show"].result["value"]


def refused(tasks: list[Json]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidParams) as refusal:
        trees.create_tree(caller=LOCAL, tasks=tasks)
    assert not Task.objects.exists()
    return list(refusal.value.problems)


def test_places_in_any_input_get_the_values_of_results(run: RunTree) -> None:
    value = {
        "whole": "{{fetch.count}}",
        "text": ["{{fetch.title}} × {{fetch.count}}"],
        "kept": "{{{{fetch}} {{other.x}}",
    }
    assert shown(run(show(value))) == {"whole": 3, "text": ["Tea × 3"], "kept": "{{fetch}} {{other.x}}"}


def test_a_group_returns_its_inputs_filled(run: RunTree) -> None:
    ran = run([{"id": "g", "name": "all", "inputs": {"n": "{{fetch.count}}"}, "dependencies": ["fetch"]}, FETCHED | {"parent_id": "g"}])  # fmt: skip
    assert ran.tasks["g"].result["n"] == 3


def test_a_task_without_an_id_is_named_by_its_name(run: RunTree) -> None:
    ran = run(
        [
            {"id": "show", "name": "echo_executor", "inputs": {"value": "{{page.n}}"}, "dependencies": ["page"]},
            {"name": "page", "schemas": {"method": "echo_executor"}, "inputs": {"n": 1}, "parent_id": "show"},
        ]
    )
    assert shown(ran) == 1


def test_a_place_without_a_value_fails_the_task_and_says_where(run: RunTree) -> None:
    ran = run(show("{{fetch.titel}}"))
    assert ran.run.status == "failed"
    assert ran.tasks["show"].error is not None
    assert ran.tasks["show"].error.startswith(
        "Cannot fill the inputs: inputs.value: '{{fetch.titel}}' has no value: the value at 'fetch' has no 'titel'. Correct the inputs"
    )


def test_a_place_needs_a_dependency() -> None:
    ((place, problem),) = refused(show({"x": "{{fetch.title}}"}, dependencies=[]))
    assert place == "tasks[0].inputs.value.x"
    assert problem.startswith(
        "'{{fetch.title}}' stands for a result of task 'fetch', which is no dependency of this task."
    )


def test_a_place_with_the_name_of_two_tasks_is_refused() -> None:
    page = {"name": "page", "schemas": {"method": "echo_executor"}, "parent_id": "show"}
    tasks = [{"id": "show", "name": "echo_executor", "inputs": {"x": "{{page}}"}, "dependencies": []}, page, page]
    assert [place for place, _ in refused(tasks)] == ["tasks[0].inputs.x"]


def test_an_update_is_held_to_the_same() -> None:
    stored = trees.create_tree(caller=LOCAL, tasks=show("x", dependencies=[]))
    with pytest.raises(InvalidParams, match="no dependency of this task"):
        update_task(caller=LOCAL, task_id=stored.root.id, changes={"inputs": {"value": "{{fetch.title}}"}})


@pytest.mark.parametrize("children", [True, False])
def test_a_copy_has_the_same_values_also_without_the_dependency(
    run: RunTree, worker: WorkerThread, children: bool
) -> None:
    ran = run(
        [{"id": "all", "name": "all"}, *({"parent_id": "all"} | task for task in show("{{fetch.title}} {{{{fetch}}"))]
    )
    task_id = ran.tasks["all" if children else "show"].id
    copy = copy_tree(caller=LOCAL, task_id=task_id, children=children)
    again = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    copied = Task.objects.tree(copy.root.id).get(original_task_id=ran.tasks["show"].id)
    assert copied.result["value"] == "Tea {{fetch}}"
    assert result_of(again.run).run.status == "completed"
    resolved = detail(caller=LOCAL, task_id=copied.id).resolved_inputs
    assert resolved is not None
    assert resolved["value"] == "Tea {{fetch}}"


def test_a_command_line_with_places_has_to_be_a_list() -> None:
    Command().check_with_inputs({}, {"argv": ["/bin/echo", "{{fetch.title}}"]})
    with pytest.raises(ExecutorError, match="must be a list"):
        Command().check_with_inputs({}, {"argv": "/bin/echo {{fetch.title}}"})


def test_a_transformation_picks_and_renames(run: RunTree) -> None:
    select = {"names": "{title: fetch.title, twice: [fetch.count, fetch.count]}", "n": "length(keys(fetch))"}
    ran = run([{"id": "t", "name": "transform_executor", "inputs": {"select": select}, "dependencies": ["fetch"]}, FETCHED | {"parent_id": "t"}])  # fmt: skip
    assert ran.tasks["t"].result == {"names": {"title": "Tea", "twice": [3, 3]}, "n": 2}


def test_an_expression_that_is_none_is_refused() -> None:
    ((place, problem),) = refused([{"name": "transform_executor", "inputs": {"select": "a[?"}}])
    assert (place, problem.startswith("is not a JMESPath expression")) == ("tasks[0].inputs.select", True)


def with_a_failure(run: RunTree, *, is_allowed: bool, is_needed: bool) -> Ran:
    bad = step("bad", parent_id="end", inputs={"then": "fail"}, params={"allow_failure": is_allowed})
    return run([{"id": "end", "name": "echo_executor", "dependencies": [{"id": "bad", "required": is_needed}]}, bad])


def test_an_allowed_failure_does_not_fail_the_run(run: RunTree) -> None:
    ran = with_a_failure(run, is_allowed=True, is_needed=False)
    assert (ran.run.status, ran.statuses()) == ("completed", {"end": "completed", "bad": "failed"})
    assert with_a_failure(run, is_allowed=False, is_needed=False).run.status == "failed"


def test_what_requires_an_allowed_failure_fails(run: RunTree) -> None:
    ran = with_a_failure(run, is_allowed=True, is_needed=True)
    assert (ran.run.status, ran.statuses()["end"]) == ("failed", "failed")


def test_every_executor_leaves_only_inputs_that_it_has() -> None:
    for executor_id in executor_ids():
        executor = get_executor(executor_id)
        known = executor.input_schema.get("properties", {}).keys()
        assert executor.templates | executor.verbatim <= known, executor_id


def test_a_demo_run_needs_no_values(worker: WorkerThread) -> None:
    run = as_demo(trees.execute_tree, caller=LOCAL, tasks=show("{{fetch.no.such.value}}")).run
    worker.work()
    assert result_of(run).run.status == "completed"
