"""Results on their way: how much of them a run may have, and how much memory and work they cost."""

import asyncio
from typing import Any

import pytest
from pytest_django import Settings

from aipartnerupflow.executors import ExecutorError
from tasks.rules.stored_results import is_longer
from tasks.status import Status
from tasks.worker.outcomes import Outcome, ResultMemory, completed_in_turn
from tests.sections import replace
from tests.work import calls_of
from tests.workers import Json, WorkerThread, group, run_tree

KILOBYTES = "x" * 1000


def echo(name: str, *needs: str, **fields: Any) -> Json:
    return {"id": name, "name": name, "schemas": {"method": "echo_executor"}, "dependencies": list(needs), **fields}


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
def test_the_results_of_a_run_are_limited_together(worker: WorkerThread, settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, run_bytes=10_000))
    source = echo("source", inputs={"text": KILOBYTES})
    ran = run_tree(worker, group("g", source, *(echo(f"e{number}", "source") for number in range(20))))
    statuses = ran.statuses()
    completed = [name for name in statuses if statuses[name] == "completed" and name != "g"]
    assert len(completed) == 9  # 1,011 bytes of the source, and 1,023 of each echo
    failed = next(name for name in statuses if statuses[name] == "failed")
    error = ran.tasks[failed].error or ""
    assert "together, more than the 10000 that limits.run_bytes allows" in error
    assert ran.run.status == "failed"


@pytest.mark.django_db(transaction=True)
def test_results_that_double_with_each_layer_end_at_the_limit_and_nothing_else_does(
    worker: WorkerThread, settings: Settings
) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, value_bytes=2**20))
    layers: list[Json] = [echo("0-a", inputs={"text": "x" * 200_000}), echo("0-b", inputs={"text": "x" * 200_000})]
    for layer in range(1, 8):
        layers += [echo(f"{layer}-{side}", f"{layer - 1}-a", f"{layer - 1}-b") for side in "ab"]
    statuses = run_tree(worker, group("g", *layers)).statuses()
    assert [statuses[f"{layer}-a"] for layer in range(8)] == ["completed"] * 3 + ["failed"] * 5


async def test_results_wait_for_each_other_when_there_are_too_many_at_once() -> None:
    memory = ResultMemory(size=100_000)
    result = "x" * 40_000
    waiting_for_commit = 0
    most = 0

    async def complete(is_committed: asyncio.Event) -> Outcome:
        nonlocal waiting_for_commit, most
        with memory.hold():
            outcome = await completed_in_turn(result, max_bytes=2**20, is_composed=False)
            waiting_for_commit += 1
            most = max(most, waiting_for_commit)
            await is_committed.wait()
            waiting_for_commit -= 1
            return outcome

    is_committed = asyncio.Event()
    jobs = [asyncio.create_task(complete(is_committed)) for _ in range(20)]
    cancelled = jobs[10:15]
    await asyncio.sleep(0)
    for job in cancelled:
        job.cancel()
    await asyncio.wait(cancelled)
    assert waiting_for_commit == 2
    is_committed.set()
    outcomes = await asyncio.gather(*jobs[:10], *jobs[15:])
    assert {outcome.status for outcome in outcomes} == {Status.COMPLETED}
    assert most == 2
    assert memory.has_room(100_000)


async def test_a_result_larger_than_the_memory_goes_alone() -> None:
    memory = ResultMemory(size=30_000)
    with memory.hold():
        assert (await completed_in_turn("x" * 90_000, max_bytes=2**20, is_composed=False)).status is Status.COMPLETED
        assert not memory.has_room(1)
    assert memory.has_room(30_000)


async def test_a_result_made_of_many_others_is_refused_without_encoding_them_all() -> None:
    part = "x" * 100_000
    few = {str(number): part for number in range(30)}
    many = {"results": {str(number): part for number in range(3000)}}
    assert is_longer(few, than=2**20)
    assert calls_of(lambda: is_longer(many, than=2**20)) <= calls_of(lambda: is_longer(few, than=2**20)) + 5
    assert not is_longer(few, than=2**22)
    assert not is_longer({"a": {1, 2}}, than=2**20)  # not JSON, which is another error
    with pytest.raises(ExecutorError, match=r"limits\.result_bytes"):
        await completed_in_turn(many, max_bytes=2**20, is_composed=True)
