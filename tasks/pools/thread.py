"""The pool `thread`: a thread with an event loop of its own for each task, so that code that blocks holds up no other task.

A thread cannot be killed. One that does not stop in time is left behind, and its result is dropped.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any, Final

from django.db import connections

from aipartnerupflow.executors import Context, Executor, ExecutorError, HttpResponse, Json, on_a_thread
from aipartnerupflow.executors.files import Files
from tasks.executors.llm.client import MODELS, Models, ignore, with_own_calls
from tasks.executors.llm.prompt import Completion, Prompt
from tasks.executors.other_loop import run_on
from tasks.executors.states import STATES, States
from tasks.pools.base import Pool, executed
from tasks.pools.line import STOP_SECONDS
from tasks.rules.pools import THREAD
from tasks.telemetry import metrics

MOST_LEFT: Final = 100
"""The number of threads of stopped tasks that may still run in a worker process."""
Work = Callable[[], Coroutine[Any, Any, Any]]


class ThreadPool(Pool):
    def __init__(self) -> None:
        self._left: set[asyncio.Future[Any]] = set()

    async def execute(self, executor: Executor, inputs: Json, context: Context) -> Any:
        if len(self._left) >= MOST_LEFT:
            raise ExecutorError(
                f"The task was not begun: {MOST_LEFT} threads of stopped tasks still run in this worker process. "
                "Restart the workers to be rid of them, or use params.pool 'process', which can be killed."
            )
        errand = _Errand(executor, inputs, context)
        run = partial(copy_context().run, errand.run)
        thread = asyncio.wrap_future(on_a_thread(run, name=f"pool: {executor.id}"))
        with metrics.one_in_pool(THREAD):
            try:
                return _unpacked(*await asyncio.shield(thread))
            except asyncio.CancelledError:
                if thread.done():
                    raise
                errand.cancel()
                await asyncio.wait([thread], timeout=STOP_SECONDS)
                if not thread.done():
                    errand.is_over = True
                    self._left.add(thread)
                    thread.add_done_callback(self._left.discard)
                    raise
                return _unpacked(*thread.result())


class _Errand:
    """A task on its thread. Create it on the loop of the worker."""

    def __init__(self, executor: Executor, inputs: Json, context: Context) -> None:
        self.is_over = False
        self._executor = executor
        self._inputs = inputs
        self._context = context
        self._worker = asyncio.get_running_loop()
        self._models = MODELS.get()
        self._state = STATES.get()
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._stop: Callable[[], object] | None = None

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            if self._stop is not None:
                self._stop()

    def run(self) -> tuple[Any, BaseException | None]:
        """Execute on this thread; return the result, or what was raised."""
        try:
            with asyncio.Runner() as runner:
                return runner.run(self._execute()), None
        except BaseException as error:  # noqa: BLE001  (the pool raises it on the loop of the worker)
            return None, error
        finally:
            connections.close_all()  # of this thread, which ends

    async def _execute(self) -> Any:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (this is a coroutine of a task)
        own = asyncio.get_running_loop()
        with self._lock:
            if self._is_cancelled:
                raise asyncio.CancelledError
            self._stop = partial(own.call_soon_threadsafe, task.cancel)
        MODELS.set(_ModelsThere(self._models, self._there))
        STATES.set(_StateThere(self._state, self._there))
        try:
            return await executed(self._executor, self._inputs, self._here())
        finally:
            with self._lock:
                self._stop = None

    def _here(self) -> Context:
        """Return the context for this thread: what it calls happens on the loop of the worker."""
        context = self._context

        async def fetch(method: str, url: str, **options: Any) -> HttpResponse:
            response: HttpResponse = await self._there(partial(context.fetch, method, url, **options))
            return response

        async def secret(name: str, *, host: str | None = None) -> str:
            value: str = await self._there(partial(context.secret, name, host=host))
            return value

        async def file_call(name: str, arguments: Json) -> Any:
            return await self._there(partial(context.files.call, name, arguments))

        here = replace(
            context,
            report=partial(self._post, context.report),
            log=partial(self._post, context.log),
            spent=partial(self._post, context.spent),
            fetch=fetch,
            secret=secret,
            files=Files(file_call),
            begin=partial(self._there, context.begin),
        )
        return with_own_calls(here)

    def _post(self, call: Callable[..., object], *arguments: Any) -> None:
        def on_the_loop() -> None:
            if not self.is_over:
                call(*arguments)

        self._worker.call_soon_threadsafe(on_the_loop)

    async def _there(self, work: Work) -> Any:
        return await run_on(self._worker, work)


class _ModelsThere:
    """Models that are called on the loop of the worker."""

    def __init__(self, models: Models, there: Callable[[Work], Coroutine[Any, Any, Any]]) -> None:
        self._models = models
        self._there = there

    async def ask(
        self,
        prompt: Prompt,
        *,
        spent: Callable[[Json], None],
        heard: Callable[[str], None],
        thought: Callable[[str], None] = ignore,
    ) -> Completion:
        own = asyncio.get_running_loop()

        def posted(call: Callable[..., object]) -> Callable[..., None]:
            def post(argument: Any) -> None:
                with suppress(RuntimeError):  # the thread's loop is closed: the task is over
                    own.call_soon_threadsafe(call, argument)

            return post

        answer: Completion = await self._there(
            partial(self._models.ask, prompt, spent=posted(spent), heard=posted(heard))
        )
        return answer

    async def check(self, prompt: Prompt) -> None:
        await self._there(partial(self._models.check, prompt))


class _StateThere:
    """The state of the task, which is kept on the loop of the worker."""

    def __init__(self, state: States, there: Callable[[Work], Coroutine[Any, Any, Any]]) -> None:
        self._state = state
        self._there = there

    async def load(self) -> dict[str, bytes]:
        found: dict[str, bytes] = await self._there(self._state.load)
        return found

    async def save(self, stored: Mapping[str, bytes], *, deleted: Sequence[str] = ()) -> None:
        await self._there(partial(self._state.save, stored, deleted=deleted))


def _unpacked(result: Any, error: BaseException | None) -> Any:
    if error is not None:
        raise error
    return result
