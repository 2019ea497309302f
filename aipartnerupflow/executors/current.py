"""The task for which code works that no context was passed to: the nodes of a graph, and functions of `@python_function`."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from aipartnerupflow.executors.base import Context, ExecutorError

T = TypeVar("T")
CODE: Final = "failed_call_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """A task at work. `loop` is the event loop on which the functions of its context are awaited."""

    context: Context
    loop: asyncio.AbstractEventLoop
    caller: Callable[[], tuple[str | None, int | None]] = lambda: (None, None)
    """Returns what the records of model calls name: the agent or node, and its step."""
    failures: list[ExecutorError] = field(default_factory=list)
    """The reasons why model calls failed. A client raises errors of its own instead, with the code of one of these in their text."""

    def code_of(self, failure: ExecutorError) -> str:
        """Note the failure, and return its code."""
        self.failures.append(failure)
        return f"{CODE}{len(self.failures)}"

    def failure_in(self, error: BaseException) -> ExecutorError | None:
        """Return the failure whose code the error has; None if it has another cause."""
        found = re.search(rf"{CODE}(\d+)", str(error))
        return self.failures[int(found[1]) - 1] if found and 0 < int(found[1]) <= len(self.failures) else None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work on the loop of the context, from any loop."""
        if asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Block this thread until the work is done on the loop of the context.

        Raises RuntimeError on that loop itself, which must not block.
        """
        try:
            is_there = asyncio.get_running_loop() is self.loop
        except RuntimeError:  # no loop runs on this thread
            is_there = False
        if is_there:
            work.close()
            raise RuntimeError(
                "This blocks the event loop of the task. Use the async form, such as `await model.ainvoke(…)`."
            )
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


CURRENT: Final[ContextVar[Current]] = ContextVar("the task at work")


def enter_task(
    context: Context, *, caller: Callable[[], tuple[str | None, int | None]] = lambda: (None, None)
) -> Current:
    """Let `current_context` return the context from here on, on threads too. Call it on the event loop of the context."""
    loop = asyncio.get_running_loop()

    def posted(call: Callable[..., None]) -> Callable[..., None]:
        def post(*arguments: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed: the task is over
                loop.call_soon_threadsafe(call, *arguments)

        return post

    there = replace(context, log=posted(context.log), report=posted(context.report), spent=posted(context.spent))
    task = Current(context=there, loop=loop, caller=caller)
    CURRENT.set(task)
    return task


def current() -> Current:
    """Return the task at work. Raises RuntimeError outside of one."""
    try:
        return CURRENT.get()
    except LookupError:
        raise RuntimeError(
            "No task is at work here: this can be called only while a graph or a function runs as a task."
        ) from None


def current_context() -> Context:
    """Return the context of the task for which the code works, within the nodes of a graph and in functions of `@python_function`.

    `log`, `report` and `spent` may be called on any thread, the others awaited on the event loop; a plain node calls
    `wait_for` for these. Raises RuntimeError outside of a task.
    """
    return current().context


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Block until the work is done, and return its result: `wait_for(current_context().secret("crm_token"))` in a plain node.

    Raises what the work raises, and RuntimeError in an async node, where it is to be awaited instead.
    """
    return current().wait(work)
