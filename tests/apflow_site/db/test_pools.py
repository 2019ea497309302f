"""The thread pools: the work of many requests on few threads. Calls that wait together are committed together, and each fails alone."""

import asyncio

import pytest

from accounts.callers import LOCAL
from apflow_site.db import pools
from tasks.models import Task
from tasks.rules.exceptions import TaskNotFound
from tasks.services.trees import create_tree, execute_task, queries

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_engines]


def created(name: str) -> str:
    return create_tree(caller=LOCAL, tasks=[{"id": name, "name": "echo_executor"}]).root.id


async def test_of_many_calls_at_once_each_gets_its_own_answer() -> None:
    names = [f"task{number}" for number in range(100)]
    assert await asyncio.gather(*(pools.write(created, name) for name in names)) == names
    assert await pools.read(Task.objects.count) == 100


async def test_a_call_that_fails_takes_nothing_of_the_others_with_it() -> None:
    def half_done(name: str) -> None:
        created(name)
        raise ValueError(name)

    calls = [pools.write(half_done if number % 3 == 0 else created, f"task{number}") for number in range(30)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, ValueError) for answer in answers] == [number % 3 == 0 for number in range(30)]
    stored = await pools.read(lambda: set(Task.objects.values_list("id", flat=True)))
    assert {f"task{number}" for number in range(30) if number % 3} <= stored


async def test_an_answer_comes_after_the_commit() -> None:
    async def create_and_look(name: str) -> str:
        await pools.write(created, name)
        task = await pools.read(queries.get_task, caller=LOCAL, task_id=name)  # on another connection
        return task.id

    names = [f"task{number}" for number in range(50)]
    assert await asyncio.gather(*map(create_and_look, names)) == names


async def test_a_named_error_arrives_as_it_is() -> None:
    others = [pools.write(created, f"task{number}") for number in range(5)]
    missing = pools.write(execute_task, caller=LOCAL, task_id="missing")
    answers = await asyncio.gather(*others, missing, return_exceptions=True)
    assert isinstance(answers[-1], TaskNotFound)
    assert await pools.read(Task.objects.count) == 5
