"""The event loop on which models are called, on a thread of its own.

LiteLLM takes the better part of a millisecond for each part of an answer, and now and then seconds.
On its own loop it keeps no lease from being renewed, and no other task waiting.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, TypeVar

from aipartnerupflow.executors import Stopped

T = TypeVar("T")
LOOKUPS: Final = 1_000
"""How many names may be looked up at once: a slow name server of one user must not delay others."""


class ModelLoop:
    """The loop starts with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` there and return its result, or raise what it raises.

        If this is cancelled, so is the work, and its end is waited for.
        """
        there = self._started()
        done: Future[T] = Future()
        jobs: list[asyncio.Task[None]] = []

        def begin() -> None:
            jobs.append(there.create_task(_settle(work, done)))

        there.call_soon_threadsafe(begin, context=copy_context())
        waiting = asyncio.wrap_future(done)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            there.call_soon_threadsafe(lambda: jobs[0].cancel())
            await asyncio.wait([waiting])
            waiting.exception()  # the cancellation counts, not how the work took it
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._loop.set_default_executor(ThreadPoolExecutor(LOOKUPS, "look-up for a model"))
                threading.Thread(target=self._loop.run_forever, name="models", daemon=True).start()
            return self._loop


async def _settle(work: Callable[[], Coroutine[Any, Any, T]], done: "Future[T]") -> None:
    try:
        result = await work()
    except asyncio.CancelledError:
        done.set_exception(Stopped())
    except BaseException as error:  # noqa: BLE001  (the loop of the caller raises it)
        done.set_exception(error)
    else:
        done.set_result(result)


class Heard:
    """Passes texts from the thread of the models to the loop that made it, those of one turn together."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._home = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._texts: list[str] = []

    def add(self, text: str) -> None:
        with self._lock:
            self._texts.append(text)
            is_first = len(self._texts) == 1
        if is_first:
            self._home.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            text = "".join(self._texts)
            self._texts.clear()
        self._heard(text)


MODEL_LOOP: Final = ModelLoop()
