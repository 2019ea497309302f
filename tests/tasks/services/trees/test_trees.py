"""Storing and executing trees: what is stored, under which ids, for whom; and nothing of what is refused."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django_q.models import OrmQ

from accounts.callers import LOCAL, Caller, Role
from tasks.models import Run, Task
from tasks.rules.exceptions import (
    CircularDependency,
    ExecutorNotFound,
    InvalidDependency,
    InvalidParams,
    InvalidParent,
    InvalidTree,
    TaskNotFound,
    TasksError,
)
from tasks.services import trees
from tests.workers import Json, WorkerThread, group, result_of, run_tree, step

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]
ALICE, BOB, ADMIN = Caller(user_id="alice"), Caller(user_id="bob"), Caller(user_id="admin", role=Role.ADMIN)


def echo(task_id: str, **fields: Any) -> Json:
    return {"id": task_id, "name": "echo_executor", **fields}


def counts() -> tuple[int, int, int]:
    return Task.objects.count(), Run.objects.count(), OrmQ.objects.count()


# --- creating ---


@pytest.mark.both_engines
def test_a_tree_is_stored_as_it_was_sent_and_does_not_run() -> None:
    tasks = [
        {"id": "r", "name": "Root", "priority": 0},
        echo("a", parent_id="r", inputs={"z": 1, "a": [None, 1.5, "ü"]}, params={"timeout_seconds": 3}),
        echo("b", parent_id="r", dependencies=["a", {"id": "r2", "required": False}]),
        echo("r2", parent_id="a"),
    ]
    created = trees.create_tree(caller=LOCAL, tasks=tasks)
    assert created.run is None
    assert created.ids == {"r": "r", "a": "a", "b": "b", "r2": "r2"}
    assert counts() == (4, 0, 0)
    stored = {task.id: task for task in Task.objects.all()}
    assert {task.root_id for task in stored.values()} == {"r"}
    assert [task.id for task in Task.objects.tree("r")] == ["r", "a", "b", "r2"]
    assert (stored["r"].name, stored["r"].priority, stored["r"].executor_id) == ("Root", 0, None)
    assert (stored["r"].has_children, stored["a"].has_children, stored["b"].has_children) == (True, True, False)
    assert list(stored["a"].inputs.items()) == [("z", 1), ("a", [None, 1.5, "ü"])]
    assert stored["b"].dependencies == [{"id": "a", "required": True}, {"id": "r2", "required": False}]
    assert {task.status for task in stored.values()} == {"pending"}


@pytest.mark.both_engines
def test_executing_stores_the_tree_its_run_and_its_wake_up_together() -> None:
    execution = trees.execute_tree(caller=LOCAL, tasks=[echo("a")], context_id="talk")
    assert execution.started
    assert counts() == (1, 1, 1)
    run = Run.objects.get()
    assert (run.root_id, run.target_id, run.context_id, run.number, run.status) == ("a", "a", "talk", 1, "pending")
    assert OrmQ.objects.get().payload == run.id


@pytest.mark.parametrize(
    ("tasks", "error"),
    [
        ([], InvalidTree),
        ([{"id": "a"}], InvalidParams),
        ([{"name": "a", "status": "completed"}], InvalidParams),
        ([echo("a"), echo("b")], InvalidTree),
        ([echo("a"), echo("b", parent_id="nowhere")], InvalidParent),
        ([echo("a", dependencies=["nowhere"])], InvalidDependency),
        ([echo("r"), echo("a", parent_id="r", dependencies=["b"]), echo("b", parent_id="r", dependencies=["a"])], CircularDependency),
        ([{"name": "a", "schemas": {"method": "echo_exekutor"}}], ExecutorNotFound),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", [trees.create_tree, trees.execute_tree])
def test_of_what_is_refused_nothing_is_stored(verb: Any, tasks: list[Json], error: type[TasksError]) -> None:
    with pytest.raises(error):
        verb(caller=LOCAL, tasks=tasks)
    assert counts() == (0, 0, 0)


@pytest.mark.both_engines
def test_a_tree_of_ten_thousand_is_stored_and_one_more_is_refused() -> None:
    tasks = group("g", *(echo(f"t{number}") for number in range(9_999)))
    assert len(trees.create_tree(caller=LOCAL, tasks=tasks).tasks) == 10_000
    with pytest.raises(InvalidTree, match="10,000"):
        trees.create_tree(caller=LOCAL, tasks=[*tasks, echo("more", parent_id="g")])
    assert Task.objects.count() == 10_000


# --- ids ---


@pytest.mark.both_engines
def test_an_id_that_is_taken_gets_a_fresh_one_and_references_follow() -> None:
    tasks = group("g", echo("a"), echo("b", dependencies=["a"]))
    trees.create_tree(caller=LOCAL, tasks=[echo("a")])
    created = trees.create_tree(caller=LOCAL, tasks=tasks)
    assert (created.ids["g"], created.ids["b"]) == ("g", "b")
    assert created.ids["a"] != "a"
    stored = Task.objects.get(id="b")
    assert stored.dependencies == [{"id": created.ids["a"], "required": True, "as": "a"}]
    again = trees.create_tree(caller=LOCAL, tasks=tasks)
    assert not set(again.ids.values()) & set(created.ids.values())


@pytest.mark.usefixtures("test_executors")
def test_the_places_of_results_in_texts_keep_the_names_of_the_request() -> None:
    scripted = {"schemas": {"method": "scripted_executor"}}
    texts = {"inputs": {"text": "{{a.text}} {{b.text}}"}, "params": {"works": {"text": "{a}"}}, **scripted}
    trees.create_tree(caller=LOCAL, tasks=[echo("a")])
    created = trees.create_tree(caller=LOCAL, tasks=group("g", echo("a"), echo("b", dependencies=["a"], **texts)))
    stored = Task.objects.get(id="b")
    assert (stored.inputs, stored.params) == (texts["inputs"], texts["params"])
    assert stored.dependencies == [{"id": created.ids["a"], "required": True, "as": "a"}]


def test_a_name_that_as_does_not_allow_follows_the_stored_id() -> None:
    when = {"task": "a.1", "path": "/x", "op": "exists"}
    trees.create_tree(caller=LOCAL, tasks=[echo("a.1")])
    tasks = group("g", echo("a.1"), echo("b", dependencies=["a.1"], params={"when": when}))
    created = trees.create_tree(caller=LOCAL, tasks=tasks)
    stored = Task.objects.get(id="b")
    assert stored.dependencies == [{"id": created.ids["a.1"], "required": True}]
    assert stored.params == {"when": when | {"task": created.ids["a.1"]}}


def test_results_have_the_names_of_the_request_each_time(worker: WorkerThread) -> None:
    """A task that takes a result by its name finds it at the second submission, and in a copy of it."""
    tasks = group("g", echo("a", inputs={"x": 1}), echo("b", dependencies=["a"]))
    first, second = (run_tree(worker, tasks) for _ in range(2))
    execution = trees.execute_task(caller=LOCAL, task_id=second.run.root_id, copy_execution=True, copy_children=True)
    worker.work()
    for ran in (first, second, result_of(execution.run, ids=execution.ids)):
        (last,) = (task for task in ran.tasks.values() if task.dependencies)
        assert last.result["a"] == {"x": 1}


@pytest.mark.both_engines
def test_who_wants_their_ids_or_nothing_gets_nothing() -> None:
    trees.create_tree(caller=LOCAL, tasks=[echo("a")])
    with pytest.raises(InvalidParams) as refused:
        trees.create_tree(caller=LOCAL, tasks=group("g", echo("a")), id_conflict=trees.REFUSE)
    assert [field for field, _ in refused.value.problems] == ["tasks[1].id"]
    assert Task.objects.count() == 1


def test_without_an_id_a_task_gets_one() -> None:
    created = trees.create_tree(caller=LOCAL, tasks=[{"name": "a"}])
    assert created.root.id
    assert Task.objects.get().id == created.root.id


@pytest.mark.both_engines
def test_requests_that_race_for_an_id_all_succeed() -> None:
    def create(_: int) -> str:
        try:
            return trees.create_tree(caller=LOCAL, tasks=[echo("same")]).root.id
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(create, range(24)))
    assert len(set(ids)) == 24
    assert "same" in ids


@pytest.mark.both_engines
def test_submissions_at_the_same_time_with_the_same_ids_all_succeed_again_and_again() -> None:
    """One that PostgreSQL refuses because another took the id spoils nothing for the next with its connection."""
    together = Barrier(4)

    def submit(_: int) -> list[str]:
        try:
            ids = list[str]()
            for number in range(12):
                together.wait()
                ids.append(trees.execute_tree(caller=LOCAL, tasks=[echo(f"same {number}")]).task.id)
            return ids
        except BaseException:
            together.abort()  # the others would wait for ever
            raise
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        ids = [id_ for some in pool.map(submit, range(4)) for id_ in some]
    assert len(set(ids)) == 48
    assert {f"same {number}" for number in range(12)} <= set(ids)


# --- owners ---


@pytest.mark.parametrize(
    ("caller", "named", "owner"),
    [
        (LOCAL, None, "local"),
        (LOCAL, "user123", "user123"),
        (ALICE, None, "alice"),
        (ALICE, "bob", "alice"),
        pytest.param(ADMIN, "bob", "bob", marks=pytest.mark.both_engines),
        (ADMIN, None, "admin"),
    ],
)
def test_a_tree_belongs_to_its_caller_unless_an_admin_names_another(
    caller: Caller, named: str | None, owner: str
) -> None:
    execution = trees.execute_tree(caller=caller, tasks=[echo("a") | ({"user_id": named} if named else {})])
    assert Task.objects.get().user_id == owner
    assert execution.run.user_id == owner
    replaced = (
        f"user_id '{named}' was replaced by yours, '{owner}': only administrators may create tasks for other users."
    )
    assert execution.warnings == ([replaced] if named not in (None, owner) else [])


@pytest.mark.parametrize("task_id", [pytest.param("alices", marks=pytest.mark.both_engines), "nowhere"])
def test_anothers_task_is_as_missing_as_a_missing_one(task_id: str) -> None:
    trees.create_tree(caller=ALICE, tasks=[echo("alices")])
    with pytest.raises(TaskNotFound) as refused:
        trees.execute_task(caller=BOB, task_id=task_id)
    assert str(refused.value).replace(task_id, "…") == f"Task '…' not found. {TaskNotFound.hint}"
    assert Run.objects.count() == 0
    for caller in (ALICE, ADMIN):
        assert trees.execute_task(caller=caller, task_id="alices").run.user_id == "alice"


# --- executing what is stored ---


@pytest.mark.both_engines
def test_a_running_tree_is_not_started_again() -> None:
    first = trees.execute_tree(caller=LOCAL, tasks=group("g", echo("a")))
    for task_id in ("g", "a"):
        second = trees.execute_task(caller=LOCAL, task_id=task_id)
        assert (second.started, second.run.id) == (False, first.run.id)
    assert counts() == (2, 1, 1)


@pytest.mark.both_engines
def test_requests_that_race_to_start_a_tree_start_it_once() -> None:
    trees.create_tree(caller=LOCAL, tasks=[echo("a")])

    def execute(_: int) -> bool:
        try:
            return trees.execute_task(caller=LOCAL, task_id="a").started
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        started = list(pool.map(execute, range(16)))
    assert started.count(True) == 1
    assert Run.objects.count() == 1


@pytest.mark.both_engines
def test_each_run_of_a_tree_has_the_next_number(worker: WorkerThread) -> None:
    ran = run_tree(worker, [step("a", inputs={"then": "fail"})])
    for number in (2, 3):
        execution = trees.execute_task(caller=LOCAL, task_id="a")
        worker.work()
        assert result_of(execution.run).run.number == number
    assert ran.run.number == 1


@pytest.mark.both_engines
def test_a_failed_task_is_made_new_for_its_next_run(worker: WorkerThread) -> None:
    run_tree(worker, group("g", step("bad", inputs={"then": "fail"}), step("good")))
    trees.execute_task(caller=LOCAL, task_id="g")
    bad, good = Task.objects.get(id="bad"), Task.objects.get(id="good")
    assert (bad.status, bad.error, bad.attempt, bad.started_at, bad.completed_at) == ("pending", None, 0, None, None)
    assert (good.status, good.attempt) == ("completed", 1)


# --- running a copy ---


@pytest.mark.both_engines
def test_a_copy_runs_and_the_original_keeps_its_history(worker: WorkerThread) -> None:
    run_tree(worker, group("g", echo("a"), echo("b", dependencies=["a"])))
    before = list(Task.objects.tree("g").values("id", "status", "result", "started_at", "completed_at"))
    execution = trees.execute_task(caller=LOCAL, task_id="g", copy_execution=True, copy_children=True)
    assert (execution.original_task_id, execution.started) == ("g", True)
    assert execution.task.id != "g"
    assert set(execution.ids) == {"g", "a", "b"}
    worker.work()
    ran = result_of(execution.run, ids=execution.ids)
    assert set(ran.statuses().values()) == {"completed"}
    assert ran.tasks["b"].dependencies == [{"id": execution.ids["a"], "required": True, "as": "a"}]
    assert (ran.tasks["a"].original_task_id, ran.tasks["a"].origin_type) == ("a", "copy")
    assert list(Task.objects.tree("g").values("id", "status", "result", "started_at", "completed_at")) == before
    assert Task.objects.get(id="g").has_copy


def test_a_copy_without_children_is_one_task(worker: WorkerThread) -> None:
    run_tree(worker, group("g", echo("a")))
    execution = trees.execute_task(caller=LOCAL, task_id="g", copy_execution=True)
    assert [task.original_task_id for task in Task.objects.tree(execution.task.id)] == ["g"]
    worker.work()
    assert result_of(execution.run).run.status == "completed"
