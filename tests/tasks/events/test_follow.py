"""Following a run: all of it from any point, in order, without gap or duplicate, live and afterwards."""

import asyncio
import threading
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db.backends.utils import CursorWrapper

from a2a.methods.execute import Execute
from a2a.methods.execute import execute as execute_method
from accounts.callers import LOCAL
from apflow_site.db import pools
from tasks import events
from tasks.events import hub
from tasks.events.hub import Hub, this_hub
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


async def never() -> str | None:
    pytest.fail("It looks, although it knows")


@pytest.mark.parametrize("is_late", [False, True])
async def test_the_end_of_a_run_is_learned_without_a_query(worker: WorkerThread, is_late: bool) -> None:
    """Also if the wait begins after the end, as it may when a run ends at once."""
    async with this_hub().of_run("any"):
        since = time.monotonic()
        run = (await pools.write(trees.execute_tree, caller=LOCAL, tasks=TREE)).run
        wait = partial(this_hub().end_of, run.id, since=since, look=never)
        end = None if is_late else asyncio.create_task(wait())
        async with this_hub().of_run(run.id) as followed:
            await asyncio.to_thread(worker.work)
            while (await followed.next())[-1]["type"] != "final":
                pass
        assert await asyncio.wait_for(end or wait(), 60) == "completed"


async def test_an_end_is_known_that_came_before_anybody_waited_for_it(
    worker: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a run ends before the request that submitted it begins to wait."""
    monkeypatch.setattr(hub, "LOOK_SECONDS", 60.0)
    own = Hub()
    async with own.of_run("any"):  # it listens from now on, and for some seconds after
        since = time.monotonic()
    run = (await pools.write(trees.execute_tree, caller=LOCAL, tasks=TREE)).run
    await asyncio.to_thread(worker.work)
    look = partial(pools.read, lambda: Run.objects.get(id=run.id).status)  # if the machine has stood still for so long
    assert await asyncio.wait_for(own.end_of(run.id, since=since, look=look), 30) == "completed"


async def test_a_run_that_may_have_ended_before_is_looked_at(worker: WorkerThread, execute: Run) -> None:
    since = time.monotonic()
    await asyncio.to_thread(worker.work)
    assert await asyncio.wait_for(events.end_of(execute), 60) == "completed"
    look = partial(asyncio.sleep, 0, "completed")
    assert await asyncio.wait_for(Hub().end_of(execute.id, since=since, look=look), 60) == "completed"


async def test_ends_that_were_forgotten_are_looked_for(worker: WorkerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MOST_ENDS", 1)
    async with this_hub().of_run("any"):
        since = time.monotonic()
        runs = [(await pools.write(trees.execute_tree, caller=LOCAL, tasks=TREE)).run for _ in range(3)]
        await asyncio.to_thread(worker.work)
        for run in runs:
            assert await asyncio.wait_for(events.end_of(run, since=since), 60) == "completed"


async def test_a_wait_ends_without_a_status_when_the_process_stops(execute: Run) -> None:
    hub = Hub()
    wait = asyncio.create_task(hub.end_of(execute.id, since=0, look=partial(asyncio.sleep, 0)))
    async with hub.of_run("any"):  # so that it listens
        hub.close()
        assert await asyncio.wait_for(wait, 60) is None


async def test_a_request_that_waits_for_its_run_reads_once(
    worker: WorkerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, execute = [], CursorWrapper.execute

    def noted(self: CursorWrapper, *given: Any) -> Any:
        threads.append(threading.current_thread().name)
        return execute(self, *given)

    async with this_hub().of_run("any"):
        monkeypatch.setattr(CursorWrapper, "execute", noted)
        reply = asyncio.create_task(execute_method(LOCAL, Execute.parse({"tasks": TREE, "wait": True})))
        while not reply.done():
            await asyncio.to_thread(worker.work)
    result = reply.result().native
    assert (result["status"], result["task"]["status"]) == ("completed", "completed")
    assert len(result["task"]["children"]) == 2
    assert threads.count("read") == 1
