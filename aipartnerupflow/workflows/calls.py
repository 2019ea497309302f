"""The calls of a workflow other than steps: agents, executors, questions, events, timers, and values that stay the same in a replay."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from random import Random
from typing import Any, Final, TypeVar, overload
from uuid import UUID

from aipartnerupflow.executors import Json
from aipartnerupflow.workflows.drive import Call, Drive, Kind, caller, current
from aipartnerupflow.workflows.functions import made
from aipartnerupflow.workflows.values import encoded_with_secrets, inlined, schema_of

FLOW: Final = "flow:"
"""The beginning of the name of a flow where an executor is named."""
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event that a workflow has waited for."""

    event: str
    payload: Any
    id: str | None
    """The id that its sender gave it."""
    received_at: datetime


def _here(name: str) -> Drive:
    if (drive := current()) is None:
        raise RuntimeError(f"{name}() works only in the code of a workflow. In a step, use what Python has.")
    return drive


def _call(kind: Kind, target: str, inputs: Json, **options: Any) -> Call:
    """Return a call of a function of this module, which the code of a workflow calls. Raises TypeError that names the place."""
    place = caller(2)
    try:
        stored, secrets = encoded_with_secrets({name: value for name, value in inputs.items() if value is not None})
    except TypeError as error:
        raise TypeError(f"{place}: the inputs of {kind} '{target}' cannot be stored: {error}.") from None
    given = {name: value for name, value in options.items() if value is not None}
    return Call(kind=kind, target=target, inputs=stored, secrets=secrets, options=given, place=place)


@lru_cache(maxsize=256)
def _form_of(kind: Any) -> Json:
    """Return the JSON Schema of a type as people and models fill it in."""
    return inlined(schema_of(kind))


@overload
def agent(
    name: str, /, *, prompt: str, returns: type[T], params: Json | None = None, **options: Any
) -> Coroutine[None, None, T]: ...
@overload
def agent(
    name: str, /, *, prompt: str, returns: None = None, params: Json | None = None, **options: Any
) -> Coroutine[None, None, str]: ...
def agent(
    name: str, /, *, prompt: str, returns: Any = None, params: Json | None = None, **options: Any
) -> Coroutine[None, None, Any]:
    """Ask an agent, and return its answer: a text, or a value of the type `returns`, whose JSON Schema the model gets.

    On a server it is a task of `llm_executor` with this `name`, which traces and costs show. `options` are inputs of it, such as `system`,
    the instructions, `model`, `temperature`, and `tools`: names, or functions with `@python_function`. `params` are those of the task,
    such as `retry`, `timeout_seconds` and `conversation`. A flow is not an agent: run it with `run("flow:NAME", …)`.
    """
    if name.startswith(FLOW):
        raise ValueError(
            f"{caller(1)}: agent({name!r}) names a flow. Run it with run({name!r}, …): its inputs are arguments."
        )
    tools = options.get("tools")
    if isinstance(tools, Sequence) and not isinstance(tools, str):
        options["tools"] = [tool.__name__ if inspect.isroutine(tool) else tool for tool in tools]
    schema = None if returns is None else _form_of(returns)
    call = _call("agent", name, {"prompt": prompt, **options}, schema=schema, params=params)
    return made(_here("agent"), call, str if returns is None else returns)


def run(
    executor: str, inputs: Json | None = None, /, *, name: str | None = None, params: Json | None = None, **more: Any
) -> Coroutine[None, None, Any]:
    """Run a task of an executor, and return its result. `more` are its inputs, which are literal: nothing in them is a place.

    Inputs that are called `name` or `params` are in `inputs`: `run("rest_executor", {"params": {"page": 2}}, url=url)`. `params` are those of
    the task, such as `retry`, `timeout_seconds` and `pool`. `run("flow:NAME", …)` runs a flow, whose inputs they are, as a tree of its own.
    """
    return made(_here("run"), _call("run", executor, (inputs or {}) | more, name=name, params=params), Any)


@overload
def ask(
    question: str, /, *, assignees: Sequence[str] | None = None, timeout: timedelta | None = None
) -> Coroutine[None, None, Any]: ...
@overload
def ask(
    question: str,
    /,
    *,
    options: Sequence[str],
    assignees: Sequence[str] | None = None,
    timeout: timedelta | None = None,
) -> Coroutine[None, None, str]: ...
@overload
def ask(
    question: str,
    /,
    *,
    schema: type[T],
    assignees: Sequence[str] | None = None,
    timeout: timedelta | None = None,
) -> Coroutine[None, None, T]: ...
def ask(
    question: str,
    /,
    *,
    options: Sequence[str] | None = None,
    schema: Any = None,
    assignees: Sequence[str] | None = None,
    timeout: timedelta | None = None,
) -> Coroutine[None, None, Any]:
    """Ask people, and return the answer: one of `options`, a value of the type `schema`, or any JSON value.

    Raises TimeoutError without an answer after `timeout`.
    """
    inputs = {"options": options, "schema": None if schema is None else _form_of(schema), "assignees": assignees}
    call = _call("ask", question, inputs, timeout=timeout and timeout.total_seconds())
    return made(_here("ask"), call, Any if schema is None else schema, (TimeoutError,))


def event(name: str, /, *, match: Json | None = None, timeout: timedelta | None = None) -> Coroutine[None, None, Event]:
    """Wait for an event. `match` maps JSON Pointers to the values that its payload must have there.

    Raises TimeoutError without one after `timeout`.
    """
    call = _call("event", name, {"match": match}, timeout=timeout and timeout.total_seconds())
    return made(_here("event"), call, Event, (TimeoutError,))


def sleep(
    *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0, until: datetime | None = None
) -> Coroutine[None, None, None]:
    """Wait for this long, or `until` a moment with a time zone. No worker is occupied meanwhile."""
    if until is not None and until.tzinfo is None:
        raise ValueError(f"{caller(1)}: until={until} has no time zone. Use now() + timedelta(…), or give it one.")
    total = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days).total_seconds()
    inputs: Json = {"seconds": total} if until is None else {"until": until}
    return made(_here("sleep"), _call("sleep", "timer", inputs), Any)


@overload
def gather(
    first: Awaitable[T1], second: Awaitable[T2], /, *, at_most: int | None = None
) -> Coroutine[None, None, tuple[T1, T2]]: ...
@overload
def gather(
    first: Awaitable[T1], second: Awaitable[T2], third: Awaitable[T3], /, *, at_most: int | None = None
) -> Coroutine[None, None, tuple[T1, T2, T3]]: ...
@overload
def gather(*works: Awaitable[T], at_most: int | None = None) -> Coroutine[None, None, list[T]]: ...
async def gather(*works: Awaitable[Any], at_most: int | None = None) -> Any:
    """Do the works beside each other, `at_most` so many at a time, and return their results in order.

    If one fails, the others are cancelled, and its exception is raised.
    """
    branches = _branches(works, at_most)
    try:
        return await asyncio.gather(*branches)
    except (Exception, asyncio.CancelledError):
        if left := [branch for branch in branches if not branch.done()]:
            for branch in left:
                branch.cancel()
            await asyncio.wait(left)
        raise
    finally:
        for work in works:
            if isinstance(work, Coroutine):
                work.close()  # one that has not begun, since the workflow is put aside


class as_completed(AsyncIterator[T]):
    """Yields the results in the order in which the works end: `async for note in as_completed(works, at_most=5)`."""

    def __init__(self, works: Iterable[Awaitable[T]], *, at_most: int | None = None) -> None:
        self._ended = asyncio.Queue[asyncio.Future[T]]()
        branches = _branches(works, at_most)
        for branch in branches:
            branch.add_done_callback(self._ended.put_nowait)
        self._left = len(branches)

    def __aiter__(self) -> "as_completed[T]":
        return self

    async def __anext__(self) -> T:
        if self._left == 0:
            raise StopAsyncIteration
        self._left -= 1
        return await (await self._ended.get())


def _branches(works: Iterable[Awaitable[T]], at_most: int | None) -> list[asyncio.Future[T]]:
    """Start a branch for each work; at most `at_most` run at a time."""
    if at_most is None:
        return [asyncio.ensure_future(work) for work in works]
    if at_most < 1:
        raise ValueError(f"at_most is {at_most}. Give 1 or more, or leave it out.")
    room, branches = asyncio.Semaphore(at_most), list[asyncio.Future[T]]()
    for work in works:
        branch = asyncio.ensure_future(_within(room, work))
        if isinstance(work, Coroutine):
            branch.add_done_callback(partial(_close, work))  # it may be cancelled before it begins
        branches.append(branch)
    return branches


def _close(work: Coroutine[Any, Any, Any], _: object) -> None:
    work.close()


async def _within(room: asyncio.Semaphore, work: Awaitable[T]) -> T:
    try:
        async with room:
            return await work
    finally:
        if isinstance(work, Coroutine):
            work.close()  # of a workflow that is put aside


def now() -> datetime:
    """Return the time of the workflow: when it was started or, later, when the last call ended that it has seen."""
    return _here("now").now


def random() -> Random:
    """Return a source of random numbers that are the same in a replay: `random().choice(names)`."""
    return _here("random").random()


def uuid() -> UUID:
    """Return a random UUID, which is the same in a replay."""
    return UUID(int=random().getrandbits(128), version=4)


def patched(name: str, /) -> bool:
    """Return whether this run takes the new branch of a changed workflow: False in a replay of what the code did before the change."""
    return _here("patched").patched(name)
