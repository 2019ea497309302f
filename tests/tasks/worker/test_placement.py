"""Where a run's tasks run, when their params, inputs, executors or the configuration are at fault."""

from collections.abc import Callable
from typing import Any

import pytest
from pytest_django import Settings

from accounts.callers import LOCAL
from tasks.services import trees
from tests.workers import Json, Ran, WorkerThread, group, result_of

Run = Callable[[list[Json]], Ran]


def task(executor: str, inputs: Json, params: Json | None = None) -> list[Json]:
    return [{"id": "t", "name": "t", "schemas": {"method": executor}, "inputs": inputs, "params": params or {}}]


@pytest.mark.parametrize("function", [[], {}, 1, None])
def test_a_function_that_is_no_name_fails_its_task(run: Run, function: Any) -> None:
    found = {"id": "found", "name": "echo_executor", "parent_id": "t", "inputs": {"function": function}}
    (calls,) = task("python_executor", {"function": "{{found.function}}"})
    ran = run([calls | {"dependencies": ["found"]}, found])
    assert ran.run.status == "failed"
    assert str(ran.tasks["t"].error).startswith("The inputs do not match the input schema: function")


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ({}, "raised KeyError"),
        ({"where": "moon"}, "Executor 'lost_executor' chose the pool 'moon', which does not exist here"),
    ],
)
def test_an_executor_that_cannot_choose_a_pool_fails_its_task(run: Run, inputs: Json, error: str) -> None:
    ran = run(task("lost_executor", inputs))
    assert error in str(ran.tasks["t"].error)
    assert ran.run.status == "failed"


@pytest.mark.parametrize(
    ("params", "changes", "error"),
    [
        ({"pool": "process"}, {"size": 0}, "params.pool cannot be had"),
        ({"resources": {"cpus": 1}}, {"size": 0}, "params.resources cannot be had"),
        ({"resources": {"memory_mb": 64}}, {"memory_mb": 32}, "params.resources.memory_mb must be at most 32"),
    ],
)
def test_what_the_configuration_no_longer_has_fails_the_task(
    worker: WorkerThread, settings: Settings, params: Json, changes: Json, error: str
) -> None:
    execution = trees.execute_tree(caller=LOCAL, tasks=task("echo_executor", {}, params))
    process = settings.APFLOW.pools.process.model_copy(update=changes)
    pools = settings.APFLOW.pools.model_copy(update={"process": process})
    settings.APFLOW = settings.APFLOW.model_copy(update={"pools": pools})
    worker.work()
    ran = result_of(execution.run, ids=execution.ids)
    assert error in str(ran.tasks["t"].error)
    assert ran.run.status == "failed"


def test_without_places_for_processes_functions_run_in_the_worker(run: Run, settings: Settings) -> None:
    process = settings.APFLOW.pools.process.model_copy(update={"size": 0})
    pools = settings.APFLOW.pools.model_copy(update={"process": process})
    settings.APFLOW = settings.APFLOW.model_copy(update={"pools": pools})
    ran = run(group("root", *task("lost_executor", {"where": "process"})))
    assert ran.run.status == "completed"
