"""Branches: `params.when` runs a task or skips it, and what depends on it."""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.callers import LOCAL
from tasks.models import Task
from tasks.rules.exceptions import InvalidDependency, InvalidParams
from tasks.services import trees
from tasks.services.trees.copies import copy_tree
from tasks.services.trees.queries import count
from tests.workers import Json, Ran, WorkerThread, result_of, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
RunTree = Callable[[list[Json]], Ran]
YES: Json = {"task": "ask", "path": "/answer", "op": "eq", "value": "yes"}


def branches(answer: Any, **fields: Any) -> list[Json]:
    """Two ways after an answer, and a task that follows each of them."""
    return [
        {"id": "end", "name": "echo_executor", "dependencies": [{"id": "then-yes", "required": False}, {"id": "no", "required": False}]},
        {"id": "ask", "name": "echo_executor", "parent_id": "end", "inputs": {"answer": answer}},
        {"id": "yes", "name": "echo_executor", "parent_id": "end", "dependencies": ["ask"], "params": {"when": YES}},
        {"id": "then-yes", "name": "echo_executor", "parent_id": "end", "dependencies": ["yes"]} | fields,
        {"id": "no", "name": "echo_executor", "parent_id": "end", "dependencies": ["ask"], "params": {"when": {"not": YES}}},
    ]  # fmt: skip


@pytest.mark.both_engines
def test_one_way_is_taken_and_the_other_is_skipped_to_its_end(run: RunTree) -> None:
    ran = run(branches("no"))
    assert ran.run.status == "completed"
    assert ran.statuses() == {"end": "completed", "ask": "completed", "yes": "skipped", "then-yes": "skipped", "no": "completed"}  # fmt: skip
    assert ran.tasks["yes"].error == "Skipped, because this condition is false: /answer of 'ask' equals the value"
    assert ran.tasks["then-yes"].error == "Skipped: required dependency 'yes' was skipped"
    assert (ran.tasks["yes"].started_at, ran.tasks["yes"].attempt, ran.tasks["yes"].progress) == (None, 0, 1.0)
    assert ran.order("task_skipped") == ["yes", "then-yes"]
    assert ran.events[-1]["tree_progress"] == 1.0
    assert count(caller=LOCAL)["skipped"] == 2
    assert run(branches("yes")).statuses()[next(iter(ran.tasks))] == "completed"


def test_a_dependency_may_say_that_skipping_is_enough(run: RunTree) -> None:
    ran = run(branches("no", dependencies=[{"id": "yes", "on_skip": "run"}]))
    assert (ran.statuses()["yes"], ran.statuses()["then-yes"]) == ("skipped", "completed")
    assert ran.tasks["then-yes"].dependencies == [{"id": ran.tasks["yes"].id, "required": True, "on_skip": "run"}]


def test_a_dependency_that_failed_has_no_value(run: RunTree) -> None:
    tasks = [
        step("end", dependencies=[{"id": "bad", "required": False}], params={"when": {"task": "bad", "op": "exists"}}),
        step("bad", parent_id="end", inputs={"then": "fail"}, params={"allow_failure": True}),
    ]
    ran = run(tasks)
    assert (ran.run.status, ran.statuses()) == ("completed", {"end": "skipped", "bad": "failed"})
    assert ran.events[-1]["type"] == "final"


def test_a_long_chain_of_skipped_tasks_ends(run: RunTree) -> None:
    never = {"task": "t0", "op": "eq", "value": "no"}
    chain = [
        {"id": f"t{number}", "name": "echo_executor", "parent_id": "t1200" if number != 1200 else None,
         "dependencies": ["t0", {"id": f"t{number - 1}", "on_skip": "run"}][: 2 if number > 1 else number],
         "params": {"when": never} if number else None}
        for number in range(1_201)
    ]  # fmt: skip
    ran = run(chain)
    assert ran.run.status == "completed"
    assert sum(status == "skipped" for status in ran.statuses().values()) == 1_200


def test_another_run_decides_anew(run: RunTree, worker: WorkerThread) -> None:
    ran = run(branches("no"))
    Task.objects.filter(id=ran.tasks["ask"].id).update(result={"answer": "yes"})
    again = trees.execute_task(caller=LOCAL, task_id=ran.tasks["end"].id)
    worker.work()
    statuses = result_of(again.run).statuses()
    assert statuses[ran.tasks["yes"].id] == "completed"


@pytest.mark.parametrize("children", [True, False])
def test_a_copy_has_the_condition_with_its_own_ids(run: RunTree, worker: WorkerThread, children: bool) -> None:
    ran = run(branches("yes"))
    copy = copy_tree(caller=LOCAL, task_id=ran.tasks["yes"].id, children=children)
    again = trees.execute_task(caller=LOCAL, task_id=copy.root.id)
    worker.work()
    copied = Task.objects.tree(copy.root.id).get(original_task_id=ran.tasks["yes"].id)
    assert (copied.status, result_of(again.run).run.status) == ("completed", "completed")


def test_a_condition_needs_a_dependency(run: RunTree) -> None:
    tasks = branches("yes")
    tasks[2]["dependencies"] = []
    with pytest.raises(InvalidDependency, match=r"Task 'yes': params\.when asks about 'ask', which is no dependency"):
        trees.create_tree(caller=LOCAL, tasks=tasks)
    tasks = branches("yes")
    tasks[2]["params"] = {"when": YES | {"op": "equals"}}
    with pytest.raises(InvalidParams, match=r"tasks\[2\]\.params\.when\.op: must be one of eq, ne, lt"):
        trees.create_tree(caller=LOCAL, tasks=tasks)
