"""Following a run: all of it from any point, in order, without gap or duplicate, live and afterwards."""

import asyncio
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest

from accounts.callers import LOCAL
from apflow_site.db import pools
from tasks import events
from tasks.models import Run
from tasks.services import trees
from tests.workers import Json, WorkerThread, group, step

pytestmark = [pytest.mark.both_engines, pytest.mark.django_db(transaction=True)]
TREE = group("g", step("a", inputs={"seconds": 0.1, "steps": 5}), step("b", dependencies=["a"]))
#: start, five times progress and end of a; start and end of b and g; final
SIZE = 12


@pytest.fixture
def execute(worker: WorkerThread) -> Run:
    return trees.execute_tree(caller=LOCAL, tasks=TREE).run


async def all_of(run_id: str, *, after: int = 0) -> list[Json]:
    return [event async for event in events.follow(run_id, after=after)]


def numbers(log: list[Json]) -> list[int]:
    return [event["seq"] for event in log]


async def test_a_run_is_followed_live_to_its_end(worker: WorkerThread, execute: Run) -> None:
    follower = asyncio.create_task(all_of(execute.id))
    await asyncio.to_thread(worker.work)
    log = await asyncio.wait_for(follower, 60)
    assert numbers(log) == list(range(1, SIZE + 1))
    assert log[-1]["type"] == "final"


@pytest.mark.parametrize("after", [0, 1, SIZE - 1])
async def test_a_finished_run_is_replayed_from_any_number(worker: WorkerThread, execute: Run, after: int) -> None:
    await asyncio.to_thread(worker.work)
    assert numbers(await all_of(execute.id, after=after)) == list(range(after + 1, SIZE + 1))


async def test_events_come_before_the_run_is_over(worker: WorkerThread, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    tree = group("g", step("a"), step("b", inputs={"gate": str(gate)}))
    run = (await pools.write(trees.execute_tree, caller=LOCAL, tasks=tree)).run
    work = asyncio.create_task(asyncio.to_thread(worker.work))
    async with aclosing(events.follow(run.id)) as log:
        async for event in log:
            if event["type"] == "task_completed":
                break
    gate.touch()
    await work


async def test_who_comes_back_gets_the_rest(worker: WorkerThread, execute: Run) -> None:
    work = asyncio.create_task(asyncio.to_thread(worker.work))
    seen = []
    async with aclosing(events.follow(execute.id)) as log:
        async for event in log:
            seen.append(event)
            if event["type"] == "progress":
                break
    rest = await all_of(execute.id, after=seen[-1]["seq"])
    await work
    assert numbers(seen + rest) == list(range(1, SIZE + 1))


async def test_fifty_followers_see_the_same(worker: WorkerThread, execute: Run) -> None:
    followers = [asyncio.create_task(all_of(execute.id, after=number % 5)) for number in range(50)]
    await asyncio.to_thread(worker.work)
    logs = await asyncio.wait_for(asyncio.gather(*followers), 60)
    assert {tuple(numbers(log)) for log in logs} == {tuple(range(after + 1, SIZE + 1)) for after in range(5)}


async def test_a_long_run_is_read_in_pages(worker: WorkerThread) -> None:
    leaves = [{"id": f"leaf{number}", "name": "echo_executor"} for number in range(400)]
    execution = await pools.write(trees.execute_tree, caller=LOCAL, tasks=group("g", *leaves))
    follower = asyncio.create_task(all_of(execution.run.id))
    await asyncio.to_thread(worker.work)
    log = await asyncio.wait_for(follower, 60)
    assert numbers(log) == list(range(1, 804))
    assert await pools.read(partial(events.read, run_id=execution.run.id, after=800)) == log[800:]


async def test_runs_are_told_apart(worker: WorkerThread, execute: Run) -> None:
    other = await pools.write(trees.execute_tree, caller=LOCAL, tasks=[step("other")])
    followers = [asyncio.create_task(all_of(run_id)) for run_id in (execute.id, other.run.id)]
    await asyncio.to_thread(worker.work)
    logs = await asyncio.wait_for(asyncio.gather(*followers), 60)
    assert [{event["run_id"] for event in log} for log in logs] == [{execute.id}, {other.run.id}]
    assert [len(log) for log in logs] == [SIZE, 3]
