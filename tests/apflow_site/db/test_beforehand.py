"""Work that a call of the write pool does before its transaction: on another thread, once, and without a trace of the first try."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

from a2a.methods import crud
from a2a.methods.crud import Copy
from a2a.methods.results import DataResult
from accounts.callers import LOCAL
from apflow_site.db import pools
from apflow_site.db.beforehand import beforehand
from tasks.executors import admission
from tasks.models import Task
from tasks.rules.exceptions import CircularDependency, TaskNotFound
from tasks.rules.specs import TreeSpec
from tasks.rules.strict_json import Json
from tasks.services import trees
from tasks.services.flows import save_flow
from tasks.services.schedules import create_schedule
from tasks.services.trees import copies, editing, forks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_engines]


class Work:
    """Work that records where it was done."""

    def __init__(self) -> None:
        self.done: list[tuple[object, str, bool]] = []

    def of(self, given: object) -> object:
        self.done.append((given, threading.current_thread().name, connection.in_atomic_block))
        return given


@transaction.atomic
def adding_a_user(work: Work, given: Callable[[], object]) -> tuple[int, object]:
    User.objects.create(username="ada")
    value = given()
    return User.objects.count(), beforehand("work", lambda: work.of(value), value)


async def test_a_call_begins_again_with_what_was_worked_out_on_another_thread() -> None:
    work = Work()
    assert await pools.write(adding_a_user, work, lambda: ["given"]) == (1, ["given"])
    assert work.done == [(["given"], "prepare", False)]


async def test_reads_of_the_same_user_do_not_wait_for_such_work() -> None:
    begun, is_read = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def make() -> bool:
        loop.call_soon_threadsafe(begun.set)
        return is_read.wait(60)

    call = asyncio.create_task(pools.write(beforehand, "work", make))
    await begun.wait()
    assert await pools.read(User.objects.count) == 0
    is_read.set()
    assert await call


async def test_work_that_differs_the_second_time_is_done_again() -> None:
    work, given = Work(), iter([1, 2, 2])
    assert await pools.write(adding_a_user, work, lambda: next(given)) == (1, 2)
    assert [value for value, _, _ in work.done] == [1, 2]


async def test_a_call_that_never_asks_for_the_same_ends_all_the_same() -> None:
    work, given = Work(), iter(range(1_000))
    assert await pools.write(adding_a_user, work, lambda: next(given)) == (1, 10)


async def test_what_the_work_raises_is_what_the_call_raises_and_nothing_is_stored() -> None:
    def fails() -> None:
        raise ValueError("no work")

    @transaction.atomic
    def call() -> None:
        User.objects.create(username="ada")
        beforehand("work", fails)

    with pytest.raises(ValueError, match="no work"):
        await pools.write(call)
    assert await pools.read(User.objects.count) == 0


async def test_a_call_may_handle_what_the_work_raises() -> None:
    def fails() -> None:
        raise ValueError("no work")

    @transaction.atomic
    def call() -> str:
        try:
            beforehand("work", fails)
        except ValueError as error:
            User.objects.create(username=str(error))
        return "handled"

    assert await pools.write(call) == "handled"
    assert await pools.read(User.objects.filter(username="no work").count) == 1


def test_outside_of_the_pool_the_work_is_done_at_once() -> None:
    work = Work()
    assert adding_a_user(work, lambda: "given") == (1, "given")
    assert len(work.done) == 1


def large_tree() -> list[Json]:
    return [
        {"id": "root", "name": "root"},
        *({"id": f"t{n}", "name": f"t{n}", "parent_id": "root"} for n in range(trees.LARGE)),
    ]


async def test_a_large_tree_is_checked_before_the_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    monkeypatch.setattr("tasks.services.trees.checked", lambda tasks: admission.checked(work.of(tasks)))
    created = await pools.write(trees.create_tree, caller=LOCAL, tasks=large_tree())
    assert [where for _, *where in work.done] == [["prepare", False]]
    assert await pools.read(Task.objects.tree(created.root.id).count) == trees.LARGE + 1


@pytest.mark.parametrize("verb", ["fork", "copy", "run a copy"])
async def test_a_tree_that_is_deleted_while_it_is_copied_leaves_no_copy(verb: str) -> None:
    created = await pools.write(trees.create_tree, caller=LOCAL, tasks=[{"name": "t"}])
    tries: list[str] = []

    @transaction.atomic
    def copied_late() -> None:
        if tries:
            editing.delete_task(caller=LOCAL, task_id=created.root.id, force=True)
        tries.append(verb)
        if verb == "fork":
            forks.fork(caller=LOCAL, task_id=created.root.id, start=(), inputs={})
        elif verb == "copy":
            copies.copy_tree(caller=LOCAL, task_id=created.root.id)
        else:
            trees.execute_task(caller=LOCAL, task_id=created.root.id, copy_execution=True)

    with pytest.raises(TaskNotFound):
        await pools.write(copied_late)
    assert await pools.read(Task.objects.count) == 1  # the deletion was part of the call that failed


async def test_a_change_of_a_large_tree_is_checked_before_the_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    await pools.write(trees.create_tree, caller=LOCAL, tasks=large_tree())
    monkeypatch.setattr(
        "tasks.services.trees.editing.checked", lambda tasks, **limits: admission.checked(work.of(tasks), **limits)
    )
    task = await pools.write(editing.update_task, caller=LOCAL, task_id="t1", changes={"dependencies": ["t0"]})
    assert task.dependencies == [{"id": "t0", "required": True}]
    assert [where for _, *where in work.done] == [["prepare", False]]


async def test_a_change_is_checked_again_if_the_tree_has_changed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    await pools.write(trees.create_tree, caller=LOCAL, tasks=large_tree())
    others = [("t0", {"dependencies": ["t1"]})]

    def checked(tasks: list[Json], **given: Any) -> TreeSpec:
        spec = admission.checked(tasks, **given)
        if others:
            task_id, changes = others.pop()
            editing.update_task(caller=LOCAL, task_id=task_id, changes=changes)
        return spec

    monkeypatch.setattr("tasks.services.trees.editing.checked", checked)
    with pytest.raises(CircularDependency):
        await pools.write(editing.update_task, caller=LOCAL, task_id="t1", changes={"dependencies": ["t0"]})
    stored = await pools.read(Task.objects.in_bulk, ["t0", "t1"])
    assert stored["t0"].dependencies == [{"id": "t1", "required": True}]
    assert stored["t1"].dependencies == []


async def test_a_preview_of_a_copy_does_not_wait_for_what_is_written() -> None:
    await pools.write(trees.create_tree, caller=LOCAL, tasks=[{"id": "t", "name": "t"}])
    is_previewed = threading.Event()
    writing = asyncio.create_task(pools.write(is_previewed.wait, 60))
    previewed = await crud.copy(LOCAL, Copy(task_id="t", save=False))
    is_previewed.set()
    assert await writing
    assert isinstance(previewed, DataResult)
    assert [request["name"] for request in previewed.native] == ["t"]


@pytest.mark.parametrize(
    "verb",
    [
        partial(save_flow, name="large"),
        lambda *, caller, tasks: create_schedule(caller=caller, fields={"tasks": tasks, "at": "2999-01-01T00:00"}),
    ],
)
async def test_a_large_definition_is_checked_before_the_transaction(
    verb: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work()
    monkeypatch.setattr("tasks.services.trees.checked", lambda tasks: admission.checked(work.of(tasks)))
    await pools.write(verb, caller=LOCAL, tasks=large_tree())
    assert [where for _, *where in work.done] == [["prepare", False]]
