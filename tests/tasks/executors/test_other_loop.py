"""Work on the loop of another thread, and how it is cancelled."""

import asyncio
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from aipartnerupflow.executors import Stopped
from tasks.executors.other_loop import run_on


@pytest.fixture
def other() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def test_the_result_comes_back(other: asyncio.AbstractEventLoop) -> None:
    async def work() -> bool:
        return asyncio.get_running_loop() is other

    assert await run_on(other, work)


async def test_what_is_raised_comes_back(other: asyncio.AbstractEventLoop) -> None:
    async def work() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        await run_on(other, work)


async def test_work_that_is_cancelled_before_it_begins_ends(other: asyncio.AbstractEventLoop) -> None:
    held, begun = Event(), Event()

    async def work() -> None:
        begun.set()

    other.call_soon_threadsafe(held.wait)
    waiting = asyncio.create_task(run_on(other, work))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    held.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not begun.is_set()


@pytest.mark.parametrize("raised", [Stopped(result="so far"), RuntimeError("not now")])
async def test_of_cancelled_work_only_stopped_counts(other: asyncio.AbstractEventLoop, raised: Exception) -> None:
    begun = asyncio.Event()
    here = asyncio.get_running_loop()

    async def work() -> None:
        here.call_soon_threadsafe(begun.set)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise raised from None

    waiting = asyncio.create_task(run_on(other, work))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(Stopped if isinstance(raised, Stopped) else asyncio.CancelledError):
        await waiting
