"""Whose code a process executes: step by step, in the tasks and on the threads that an executor starts."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from aipartnerupflow.executors import on_a_thread
from tasks.queue import black_box
from tasks.queue.black_box import BlackBox
from tasks.worker.footprints import Footprints, Work

OWNER = "this-machine/1/1.00"
RUN = Work(run_id="run-1", task_id="a", executor_id="x", user_id="u")


@pytest.fixture
def footprints() -> Iterator[Footprints]:
    yield Footprints(BlackBox(OWNER))
    black_box.discard_all(lambda owner: owner != OWNER)


def executing() -> frozenset[str]:
    return frozenset(black_box.runs_in(OWNER))


async def test_each_step_is_recorded_and_no_wait(footprints: Footprints) -> None:
    footprints.install(asyncio.get_running_loop())
    is_waiting, may_go_on = asyncio.Event(), asyncio.Event()

    async def child() -> tuple[frozenset[str], Work | None]:
        return executing(), footprints.current

    async def job() -> list[object]:
        seen: list[object] = [executing()]
        is_waiting.set()
        await may_go_on.wait()
        seen += [executing(), *(await asyncio.gather(child(), child()))]
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except TimeoutError:
            seen.append(executing())
        return seen

    task = asyncio.create_task(job(), context=footprints.context_for(RUN))
    await is_waiting.wait()
    assert executing() == frozenset()
    assert footprints.current is None
    may_go_on.set()
    mine = frozenset({"run-1"})
    assert await task == [mine, mine, (mine, RUN), (mine, RUN), mine]
    assert executing() == frozenset()
    assert footprints.take_loop_seconds().keys() == {"x"}
    assert footprints.take_loop_seconds() == {}


async def test_a_job_that_is_cancelled_before_its_first_step_leaves_nothing(footprints: Footprints) -> None:
    footprints.install(asyncio.get_running_loop())

    async def job() -> None:
        raise AssertionError("It was cancelled before.")

    task = asyncio.create_task(job(), context=footprints.context_for(RUN))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert executing() == frozenset()


@pytest.mark.parametrize("kind", ["to_thread", "on_a_thread"])
async def test_a_thread_is_recorded_for_as_long_as_it_runs(footprints: Footprints, kind: str) -> None:
    footprints.install(asyncio.get_running_loop())
    is_on, may_end = threading.Event(), threading.Event()

    def work() -> str:
        is_on.set()
        may_end.wait(60)
        return "done"

    async def job() -> str:
        if kind == "to_thread":
            return await asyncio.to_thread(work)
        return await asyncio.wrap_future(on_a_thread(work, name="work"))

    task = asyncio.create_task(job(), context=footprints.context_for(RUN))
    while not is_on.is_set():  # noqa: ASYNC110  (a few rounds of the loop)
        await asyncio.sleep(0)
    assert executing() == {"run-1"}
    may_end.set()
    assert await task == "done"
    assert executing() == frozenset()


async def test_tasks_that_block_all_of_their_threads_leave_some_to_the_worker_and_for_names(
    footprints: Footprints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.worker.footprints.MOST_THREADS", 2)
    loop = asyncio.get_running_loop()
    footprints.install(loop)
    may_end = threading.Event()

    async def block() -> None:
        await asyncio.to_thread(may_end.wait, 60)

    async def look_up() -> int:
        return len(await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80))

    blocked = [asyncio.create_task(block(), context=footprints.context_for(RUN)) for _ in range(5)]
    await asyncio.sleep(0)
    assert await asyncio.create_task(look_up(), context=footprints.context_for(RUN))
    assert await asyncio.to_thread(lambda: "done") == "done"
    assert not any(task.done() for task in blocked)
    may_end.set()
    await asyncio.gather(*blocked)


async def test_what_is_no_work_for_a_task_is_not_recorded(footprints: Footprints) -> None:
    footprints.install(asyncio.get_running_loop())

    async def job() -> frozenset[str]:
        return executing() | await asyncio.to_thread(executing)

    assert await asyncio.create_task(job()) == frozenset()
