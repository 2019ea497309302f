"""Work on the event loop of another thread."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from aipartnerupflow.executors import Stopped

T = TypeVar("T")


async def run_on(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work` on a loop of another thread and return its result, or raise what it raises.

    If this is cancelled, so is the work, and its end is waited for. A Stopped that the work then raises counts.
    """
    done: Future[T] = Future()
    jobs: list[asyncio.Task[T]] = []

    def begin() -> None:
        job = loop.create_task(work())
        jobs.append(job)
        job.add_done_callback(partial(_settle, done))

    loop.call_soon_threadsafe(begin)
    waiting = asyncio.wrap_future(done)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        loop.call_soon_threadsafe(lambda: jobs[0].cancel())
        await asyncio.wait([waiting])
        if not waiting.cancelled() and isinstance(waiting.exception(), Stopped):
            waiting.result()
        raise


def _settle(done: "Future[T]", job: "asyncio.Task[T]") -> None:
    """Pass the end of the job on: also of one that was cancelled before it began, whose code never ran."""
    if job.cancelled():
        done.cancel()
    elif error := job.exception():
        done.set_exception(error)
    else:
        done.set_result(job.result())
