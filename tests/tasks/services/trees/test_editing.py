from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext

from accounts.callers import Caller
from tasks.models import Run, Task, TaskEvent
from tasks.rules.exceptions import (
    CannotDelete,
    CircularDependency,
    ExecutorNotFound,
    InvalidDependency,
    InvalidParams,
    StatusConflict,
    TaskNotFound,
    TasksError,
)
from tasks.services.trees.editing import delete_task, update_task
from tasks.status import Status
from tests.tasks.trees import ADMIN, ALICE, BOB, ROOT, ends, finish, group, start, step, store, stored_ids, task

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]


def update(task_id: str, caller: Caller = ALICE, **changes: Any) -> Task:
    return update_task(caller=caller, task_id=task_id, changes=changes)


# --- update ---


@pytest.mark.both_engines
def test_an_update_changes_what_it_names_and_nothing_else() -> None:
    store(ROOT, step("a", inputs={"x": 1}), step("b", "a"))
    before = task("a")
    update("a", inputs={"x": 2}, priority=0, params={"timeout_seconds": 5}, name="first")
    after = task("a")
    assert (after.inputs, after.priority, after.params, after.name) == ({"x": 2}, 0, {"timeout_seconds": 5}, "first")
    assert after.updated_at > before.updated_at
    same = ("parent_id", "position", "dependencies", "status", "created_at", "user_id", "schemas")
    assert all(getattr(after, name) == getattr(before, name) for name in same)
    assert task("b").updated_at == before.updated_at


@pytest.mark.both_engines
def test_an_update_finds_the_executor_again() -> None:
    store(ROOT, step("a"))
    assert update("a", name="just a name").executor_id is None
    assert update("a", schemas={"method": "sleep_executor"}).executor_id == "sleep_executor"
    assert update("a", params={"executor_id": "echo_executor"}).executor_id == "echo_executor"
    assert update("a", params=None, schemas=None).executor_id is None
    assert (task("a").params, task("a").schemas) == (None, None)


@pytest.mark.both_engines
def test_dependencies_are_ids_or_unique_names_of_the_tree() -> None:
    store(ROOT, step("a", name="first"), step("b"), step("c"))
    update("c", dependencies=["first", {"id": "b", "required": False}])
    assert task("c").dependencies == [{"id": "a", "required": True}, {"id": "b", "required": False}]
    update("c", dependencies=[])
    assert task("c").dependencies == []


@pytest.mark.parametrize(
    ("changes", "error", "part"),
    [
        ({}, InvalidParams, "no changes"),
        ({"name": None}, InvalidParams, "name: must be a string"),
        ({"name": ""}, InvalidParams, "name: must have 1 to 255"),
        ({"priority": 4}, InvalidParams, "priority: must be an integer from 0 to 3"),
        ({"inputs": []}, InvalidParams, "inputs: must be an object"),
        ({"params": {"timeout_seconds": 0}}, InvalidParams, "params.timeout_seconds: must be"),
        ({"schemas": {"method": 7}}, InvalidParams, "schemas.method: must be"),
        ({"dependencies": None}, InvalidParams, "dependencies: must be a list"),
        ({"dependencies": [{"id": "a", "needed": True}]}, InvalidParams, "dependencies[0].needed: unknown field"),
        ({"dependencies": ["nowhere"]}, InvalidDependency, "'nowhere' is neither the id nor the name"),
        ({"dependencies": ["b"]}, InvalidDependency, "depends on itself"),
        pytest.param({"dependencies": ["c"]}, CircularDependency, "b -> c -> b", marks=pytest.mark.both_engines),
        ({"dependencies": ["root"]}, CircularDependency, "'root' is a group"),
        ({"dependencies": ["a", "a"]}, InvalidDependency, "twice"),
        ({"dependencies": ["of another tree"]}, InvalidDependency, "'of another tree'"),
        ({"params": {"executor_id": "ecko_executor"}}, ExecutorNotFound, "Task 'b': executor 'ecko_executor'"),
        ({"schemas": {"method": "nope"}}, ExecutorNotFound, "Task 'b': executor 'nope'"),
    ],
)
def test_an_update_that_breaks_a_rule_changes_nothing(
    changes: dict[str, Any], error: type[TasksError], part: str
) -> None:
    store(group("of another tree", parent=None))
    store(ROOT, step("a"), step("b", "a"), step("c", "b"))
    before = list(Task.objects.order_by("id").values())
    with pytest.raises(error) as caught:
        update("b", **changes)
    assert part in caught.value.message
    assert list(Task.objects.order_by("id").values()) == before


@pytest.mark.parametrize(
    "status",
    [
        Status.IN_PROGRESS,
        pytest.param(Status.COMPLETED, marks=pytest.mark.both_engines),
        Status.FAILED,
        Status.CANCELLED,
    ],
)
def test_only_a_pending_task_can_be_changed(status: Status) -> None:
    store(ROOT, step("a"))
    ends(status, "a")
    with pytest.raises(StatusConflict, match=f"is {status}") as caught:
        update("a", name="x")
    assert caught.value.data == {"task_id": "a", "status": status}


@pytest.mark.both_engines
def test_a_pending_task_of_a_tree_that_runs_cannot_be_changed() -> None:
    store(ROOT, step("a"))
    run = start()
    with pytest.raises(StatusConflict, match="while its tree is running"):
        update("a", name="x")
    finish(run)
    assert update("a", name="x").name == "x"


@pytest.mark.parametrize("task_id", [pytest.param("a", marks=pytest.mark.both_engines), "nowhere"])
def test_another_ones_task_is_as_good_as_none(task_id: str) -> None:
    store(ROOT, step("a"))
    with pytest.raises(TaskNotFound):
        update(task_id, caller=BOB, name="x")
    with pytest.raises(TaskNotFound):
        delete_task(caller=BOB, task_id=task_id)
    assert stored_ids() == {"root", "a"}


@pytest.mark.both_engines
def test_an_administrator_may_change_and_delete_all() -> None:
    store(ROOT, step("a"))
    assert update("a", caller=ADMIN, name="x").user_id == "alice"
    assert delete_task(caller=ADMIN, task_id="root").deleted_count == 2


# --- delete ---


@pytest.mark.both_engines
def test_a_task_goes_with_all_below_it() -> None:
    store(ROOT, group("g"), step("a", parent="g"), step("b", "a", parent="g"), step("c"))
    assert delete_task(caller=ALICE, task_id="g").deleted_count == 3
    assert stored_ids() == {"root", "c"}


@pytest.mark.both_engines
def test_a_parent_without_children_says_so() -> None:
    store(ROOT, step("a"), step("b", parent="a"), step("c", parent="a"))
    delete_task(caller=ALICE, task_id="b")
    assert task("a").has_children
    delete_task(caller=ALICE, task_id="c")
    assert not task("a").has_children
    assert task("root").has_children


@pytest.mark.parametrize("force", [pytest.param(False, marks=pytest.mark.both_engines), True])
def test_what_others_depend_on_stays(force: bool) -> None:
    store(ROOT, group("g"), step("a", parent="g"), step("b", {"id": "a", "required": False}))
    with pytest.raises(CannotDelete, match="'b'") as caught:
        delete_task(caller=ALICE, task_id="g", force=force)
    assert caught.value.data == {"task_id": "g", "in_the_way": ["b"]}
    delete_task(caller=ALICE, task_id="b")
    delete_task(caller=ALICE, task_id="g", force=force)
    assert stored_ids() == {"root"}


@pytest.mark.parametrize(
    "status", [pytest.param(Status.COMPLETED, marks=pytest.mark.both_engines), Status.FAILED, Status.CANCELLED]
)
def test_what_has_run_goes_by_force_only(status: Status) -> None:
    store(ROOT, group("g"), step("a", parent="g"))
    ends(status, "a")
    with pytest.raises(CannotDelete, match="'a'"):
        delete_task(caller=ALICE, task_id="g")
    assert stored_ids() == {"root", "g", "a"}
    assert delete_task(caller=ALICE, task_id="g", force=True).deleted_count == 2


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("task_id", ["root", pytest.param("a", marks=pytest.mark.both_engines)])
def test_nothing_of_a_tree_that_runs_can_be_deleted(task_id: str, force: bool) -> None:
    store(ROOT, step("a"))
    run = start()
    with pytest.raises(CannotDelete, match="its tree is running") as caught:
        delete_task(caller=ALICE, task_id=task_id, force=force)
    assert caught.value.data == {"task_id": task_id, "in_the_way": ["root"]}
    finish(run)
    delete_task(caller=ALICE, task_id=task_id, force=force)


@pytest.mark.both_engines
@pytest.mark.parametrize("force", [True, False])
def test_a_whole_tree_is_deleted_without_reading_its_tasks(force: bool) -> None:
    """Meanwhile no other process can write to SQLite."""

    def values_sent(tasks: int) -> int:
        store(ROOT, *(step(str(number)) for number in range(tasks - 1)))
        with CaptureQueriesContext(connection) as sent, loaded() as rows:
            assert delete_task(caller=ALICE, task_id="root", force=force).deleted_count == tasks
        return sum(len(query["sql"]) for query in sent) + rows["tasks"]

    assert abs(values_sent(100) - values_sent(10)) < 50


@contextmanager
def loaded() -> Iterator[Counter[str]]:
    """Counts the tasks that are made of rows."""
    rows = Counter[str]()

    def count(**_: Any) -> None:
        rows["tasks"] += 1

    post_init.connect(count, sender=Task)
    try:
        yield rows
    finally:
        post_init.disconnect(count, sender=Task)


@pytest.mark.both_engines
def test_a_root_takes_its_runs_and_their_events_along_and_no_others() -> None:
    store(ROOT, step("a"))
    store(group("other", parent=None))
    for run in (start(), start("other")):
        finish(run)
        TaskEvent.objects.create(
            run_id=run.id, seq=1, type="final", task_id=run.root_id, payload={}, created_at=run.created_at
        )
    delete_task(caller=ALICE, task_id="root")
    assert set(Run.objects.values_list("root_id", flat=True)) == {"other"}
    assert TaskEvent.objects.get().task_id == "other"
    store(ROOT)
    assert start().number == 1


@pytest.mark.both_engines
def test_a_tree_of_ten_thousand_is_deleted() -> None:
    store(ROOT, *(step(str(number)) for number in range(9_999)))
    assert delete_task(caller=ALICE, task_id="root").deleted_count == 10_000
    assert stored_ids() == set()
