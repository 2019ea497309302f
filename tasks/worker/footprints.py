"""Footprints: whose code this process executes, written to its black box step by step.

A coroutine runs in steps, from one `await` that waits to the next. Each step of a task's job is
recorded for the time it takes, and so are the asyncio tasks and threads that the executor starts.
"""

import asyncio
import socket
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Final, ParamSpec, TypeVar, cast

from aipartnerupflow.executors.functions import WRAPPER
from tasks.queue.black_box import BlackBox, encoded
from tasks.telemetry.metrics import GROUP

P = ParamSpec("P")
T = TypeVar("T")
MOST_THREADS: Final = 1000
"""The number of threads of `asyncio.to_thread` for tasks, in one process. Threads are started when they are needed."""
MOST_OF_OUR_OWN: Final = 32
"""The number of threads of the worker itself, and for names of hosts: code of tasks that blocks cannot take these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The task that code works for."""

    run_id: str
    task_id: str
    executor_id: str | None
    user_id: str
    key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", encoded(self.run_id))


CURRENT: ContextVar[Work | None] = ContextVar("the task that this code works for", default=None)


class Footprints:
    """Records the steps on one event loop, and the threads that they start."""

    def __init__(self, box: BlackBox) -> None:
        self._box = box
        self.current: Work | None = None
        """The work whose step the event loop executes at this moment. Other threads may read it."""
        self._entered_at = 0.0
        self._loop_seconds: defaultdict[str, float] = defaultdict(float)

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Record on this loop from now on."""
        loop.set_task_factory(cast(Any, self._make_task))  # in the types of Python 3.11, generators are coroutines, too
        loop.set_default_executor(RecordedThreads(self, max_workers=MOST_THREADS))

    def context_for(self, work: Work) -> Context:
        """Return a context whose asyncio tasks and threads are recorded as work for that task."""
        context = copy_context()
        context.run(CURRENT.set, work)
        context.run(WRAPPER.set, partial(self._on_thread, work))
        return context

    def enter(self, work: Work) -> None:
        self.current = work
        self._box.enter(work.key)
        self._entered_at = perf_counter()

    def leave(self, work: Work) -> None:
        self._loop_seconds[work.executor_id or GROUP] += perf_counter() - self._entered_at
        self._box.leave()
        self.current = None

    def take_loop_seconds(self) -> dict[str, float]:
        """Return for how long each executor has occupied the event loop since the last call."""
        taken, self._loop_seconds = self._loop_seconds, defaultdict(float)
        return taken

    def on_thread(self, work: Work, call: Callable[[], T]) -> T:
        """Call it on this thread, and record the thread meanwhile."""
        with self._box.thread(work.key):
            return call()

    def _on_thread(self, work: Work, call: Callable[[], T]) -> Callable[[], T]:
        return partial(self.on_thread, work, call)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], **options: Any
    ) -> "asyncio.Task[T]":
        context = options.get("context")
        work = CURRENT.get() if context is None else context.get(CURRENT)
        steps = coroutine if work is None else RecordedSteps(coroutine, work, self)
        return asyncio.Task(steps, loop=loop, **options)


class RecordedSteps(Coroutine[Any, Any, T]):
    """A coroutine, each step of which is recorded."""

    __slots__ = ("_coroutine", "_footprints", "_work")

    def __init__(self, coroutine: Coroutine[Any, Any, T], work: Work, footprints: Footprints) -> None:
        self._coroutine = coroutine
        self._work = work
        self._footprints = footprints

    def send(self, value: Any) -> Any:
        self._footprints.enter(self._work)
        try:
            return self._coroutine.send(value)
        finally:
            self._footprints.leave(self._work)

    def throw(self, *error: Any) -> Any:
        self._footprints.enter(self._work)
        try:
            return self._coroutine.throw(*error)
        finally:
            self._footprints.leave(self._work)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()


class RecordedThreads(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread`."""

    def __init__(self, footprints: Footprints, *, max_workers: int) -> None:
        super().__init__(max_workers, thread_name_prefix="to-thread")
        self._footprints = footprints
        self._own = ThreadPoolExecutor(MOST_OF_OUR_OWN, thread_name_prefix="own")

    def submit(self, function: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> Future[T]:
        if (work := CURRENT.get()) is None:
            return self._own.submit(function, *args, **options)
        submit = self._own.submit if function is socket.getaddrinfo else super().submit
        return submit(self._footprints.on_thread, work, partial(function, *args, **options))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._own.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)
