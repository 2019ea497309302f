"""The life of the processes of a pool: used again, replaced, and never left over."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytest_django import Settings

from aipartnerupflow.executors import ExecutorError
from aipartnerupflow.executors.testing import context
from tasks.executors.python import Python
from tasks.pools.process import ProcessPool
from tasks.rules.pools import Resources

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("environment")]
BOUND_SECONDS = 150
ROOM = {"idle_seconds": 600, "max_tasks": 100, "recycle_mb": 500, "memory_mb": 1000}


@asynccontextmanager
async def pool_of(settings: Settings, *, size: int = 2, **changes: int) -> AsyncIterator[ProcessPool]:
    process = settings.APFLOW.pools.process.model_copy(update={"size": size, **ROOM, **changes})
    pools = settings.APFLOW.pools.model_copy(update={"process": process})
    settings.APFLOW = settings.APFLOW.model_copy(update={"pools": pools})
    pool = ProcessPool()
    try:
        yield pool
    finally:
        await pool.close()


async def call(pool: ProcessPool, function: str, **arguments: Any) -> Any:
    async with asyncio.timeout(BOUND_SECONDS):
        return await pool.execute(Python(), {"function": function, "arguments": arguments}, context())


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not look():  # noqa: ASYNC110  (nothing tells of files and processes)
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_function_begins_when_its_process_has_it_and_that_is_stored(settings: Settings, tmp_path: Path) -> None:
    file, may_begin, is_asked = tmp_path / "ran", asyncio.Event(), asyncio.Event()

    async def begin() -> None:
        is_asked.set()
        await may_begin.wait()

    async with pool_of(settings) as pool, asyncio.timeout(BOUND_SECONDS):
        inputs = {"function": "note_key", "arguments": {"file": str(file)}}
        here = replace(context(), begin=begin)
        running = asyncio.create_task(pool.execute(Python(), inputs, here))
        await is_asked.wait()
        assert not file.exists()
        may_begin.set()
        assert await running == here.idempotency_key == file.read_text()


async def test_a_process_is_replaced_after_its_tasks(settings: Settings) -> None:
    async with pool_of(settings, max_tasks=2) as pool:
        first, second, third = [await call(pool, "process_id") for _ in range(3)]
        assert first == second != third
        await until(lambda: not is_alive(first))


async def test_a_process_is_replaced_when_it_has_grown(settings: Settings) -> None:
    async with pool_of(settings, recycle_mb=50) as pool:
        first = await call(pool, "process_id")
        await call(pool, "keep_memory", megabytes=10)
        assert await call(pool, "process_id") == first
        await call(pool, "keep_memory", megabytes=60)
        assert await call(pool, "process_id") != first


async def test_idle_processes_end_and_so_does_their_nursery(settings: Settings) -> None:
    async with pool_of(settings, idle_seconds=1) as pool:
        pid = await call(pool, "process_id")
        nursery = psutil.Process(pid).ppid()
        await until(lambda: not is_alive(pid) and not is_alive(nursery))
        assert await call(pool, "process_id") != pid


async def test_a_user_with_a_small_share_leaves_places_for_others(settings: Settings) -> None:
    auth = settings.APFLOW.auth.model_copy(update={"enabled": True})
    settings.APFLOW = settings.APFLOW.model_copy(update={"auth": auth, "shares": {"alice": 25}})
    async with pool_of(settings, size=4) as pool, AsyncExitStack() as held:
        place = partial(pool.place, priority=2, resources=Resources())
        await held.enter_async_context(place(user_id="alice"))
        second = asyncio.create_task(place(user_id="alice").__aenter__())
        await asyncio.sleep(0)
        assert not second.done()
        for _ in range(3):
            await held.enter_async_context(place(user_id="bob"))
        second.cancel()


async def test_an_idle_process_that_was_killed_is_not_used(settings: Settings) -> None:
    async with pool_of(settings) as pool:
        pid = await call(pool, "process_id")
        os.kill(pid, signal.SIGKILL)
        assert await call(pool, "process_id") != pid


async def test_a_nursery_that_dies_takes_its_processes_along_and_is_replaced(
    settings: Settings, tmp_path: Path
) -> None:
    async with pool_of(settings) as pool:
        started = tmp_path / "started"
        work = asyncio.create_task(call(pool, "block", started=str(started)))
        await until(lambda: started.exists() and started.read_text())
        pid = int(started.read_text())
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        with pytest.raises(ExecutorError, match="SIGKILL"):
            await work
        await until(lambda: not is_alive(pid))
        assert await call(pool, "add", a=1) == 2


async def test_a_nursery_that_cannot_start_fails_the_task(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pool_of(settings) as pool:
        monkeypatch.setenv("AIPARTNERUPFLOW_LIMITS_NESTING", "many")
        with pytest.raises(ExecutorError, match="No process for the task could be started"):
            await call(pool, "add", a=1)
        monkeypatch.delenv("AIPARTNERUPFLOW_LIMITS_NESTING")
        assert await call(pool, "add", a=1) == 2
