"""Workflows that tests of workers run: each kind of call that is no step of their own. `RAN` has the arguments of each call of a function."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from aipartnerupflow.executors import ExecutorError, python_function
from aipartnerupflow.workflows import (
    Again,
    StepFailed,
    agent,
    ask,
    event,
    gather,
    run,
    secret,
    sleep,
    step,
    workflow,
)

RAN: Final[list[tuple[str, Any]]] = []
BROKEN: Final[set[str]] = set()
DEMO: Final = "demo/demo"


@python_function(idempotent=True)
async def noted(a: int) -> int:
    """Note that it was called."""
    RAN.append(("noted", a))
    if a < 0:
        raise ExecutorError("too small")
    return a + 1


@python_function
async def sent(a: int) -> int:
    """Note that it was called, which is not safe to repeat."""
    RAN.append(("sent", a))
    return a


@python_function(idempotent=True)
async def listed(numbers: list[int]) -> list[dict[str, Any]]:
    """Return tasks that call `noted`."""
    noted_by = {"name": "note", "schemas": {"method": "python_executor"}}
    return [{**noted_by, "inputs": {"function": "noted", "arguments": {"a": number}}} for number in numbers]


@step(idempotent=True)
async def signed(a: str, token: str) -> str:
    RAN.append(("signed", token))
    return f"{a} signed with {token}"


@step(idempotent=True)
async def added(a: int, b: int = 1) -> int:
    RAN.append(("added", a))
    return a + b


@step(idempotent=True)
async def hanging(a: int) -> int:
    RAN.append(("hanging", a))
    await asyncio.Event().wait()
    return a


@step(idempotent=True)
async def cleaned(a: int) -> int:
    RAN.append(("cleaned", a))
    return a


@workflow
async def called(count: int) -> dict[str, Any]:
    """Run executors and an agent, and catch the failure of one."""
    numbers = [run("python_executor", function="noted", arguments={"a": n}) for n in range(count)]
    whole = sum(await gather(*numbers, at_most=2))
    said = await agent("poet", prompt="Say {{this}}.", model=DEMO)
    assert said.endswith("You asked: Say {{this}}."), said
    echo = await run("echo_executor", {"name": "{{w.whole}}"}, text="{{secret.crm}} {{run.inputs}} {{{{", name="echo")
    assert echo == {"name": "{{w.whole}}", "text": "{{secret.crm}} {{run.inputs}} {{{{"}, echo
    try:
        await run("python_executor", function="noted", arguments={"a": -1})
    except StepFailed as failed:
        error = str(failed)
    return {"whole": whole, "error": error}


@workflow
async def leaf(a: int) -> int:
    """Take a step."""
    if a < 0:
        raise ValueError(f"{a} is too small")
    return await added(a)


@workflow
async def branch(a: int) -> int:
    """Call a workflow twice."""
    return sum(await gather(leaf(a), leaf(100 + a)))


@workflow
async def nested(count: int) -> dict[str, Any]:
    """Call workflows that call workflows, one of which fails."""
    whole = sum(await gather(*(branch(10 * n) for n in range(count - 1))))
    try:
        await leaf(-1)
    except StepFailed as failed:
        error = str(failed)
    return {"whole": await added(await run("workflow:leaf", a=whole)), "error": error}


@workflow
async def counted(n: int, total: int = 0) -> int:
    """Add numbers up, each in a part of its own."""
    total = await added(total, n)
    if n > 1:
        raise Again(n=n - 1, total=total)
    return total


@workflow
async def in_parts(count: int) -> dict[str, Any]:
    """Call workflows that go on in parts."""
    whole = sum(await gather(counted(count), counted(count, total=100)))
    return {"whole": await added(whole, 0), "error": None}


@workflow
async def deep(count: int) -> int:
    """Call itself so many times."""
    return await added(0 if count == 0 else await deep(count - 1))


@workflow
async def endless(count: int) -> int:
    """Call itself without end."""
    return await endless(count + 1)


@workflow
async def in_time(count: int) -> dict[str, Any]:
    """Stop what takes too long."""
    try:
        async with asyncio.timeout(0.001):
            await hanging(1)
    except TimeoutError:
        error = "late"
    try:
        await ask("Anybody?", timeout=timedelta(milliseconds=1))
    except TimeoutError:
        error += ", not answered"
    try:
        await event("never", timeout=timedelta(milliseconds=1))
    except TimeoutError:
        error += ", not sent"
    async with asyncio.timeout(3600):
        return {"whole": await added(count), "error": error}


@workflow
async def tidy_leaf(a: int) -> int:
    """Clean up when it is cancelled."""
    try:
        return await hanging(a)
    finally:
        await leaf_of_cleaning(a)


@workflow
async def leaf_of_cleaning(a: int) -> int:
    """Clean up in a step below."""
    return await cleaned(a)


@workflow
async def tidy_root(count: int) -> dict[str, Any]:
    """Cancel a workflow that cleans up, when another one has ended."""
    slow = asyncio.ensure_future(tidy_leaf(1))
    await leaf(count)
    await sleep(seconds=0.001)
    slow.cancel()
    await asyncio.wait([slow])
    return {"whole": await added(100 * count), "error": f"{slow.cancelled()}"}


@dataclass
class Order:
    """What to order."""

    packets: int
    kind: Literal["tea", "coffee"] = "tea"


@workflow
async def form(count: int) -> dict[str, Any]:
    """Ask with a form."""
    order = await ask("What?", schema=Order)
    return {"whole": order.packets, "error": order.kind}


@workflow
async def with_secret(count: int) -> dict[str, Any]:
    """Sign with a secret."""
    try:
        result = await signed("{{secret.crm}} is", secret("crm"))
    except StepFailed as failed:
        result = str(failed)
    await run("python_executor", function="noted", arguments={"a": len(result)})
    echo = await run("echo_executor", values=[1, {"a/b~c": secret("crm")}])
    return {"whole": echo, "error": result}


@workflow
async def sends(count: int) -> dict[str, Any]:
    """Do what is not safe to repeat."""
    try:
        await run("python_executor", function="sent", arguments={"a": 1})
        error = None
    except StepFailed as failed:
        error = str(failed)
    return {"whole": await added(count), "error": error}


@workflow
async def wrong(which: str, value: Any = None) -> Any:
    """Make a call that is refused, beside one that hangs."""
    beside = asyncio.ensure_future(hanging(1))
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "unknown": lambda: run("rest", url="https://example.com"),
        "disabled": lambda: run("command_executor", command="ls"),
        "inputs": lambda: run("rest_executor", url=3),
        "params": lambda: run("echo_executor", params={"retries": 3}),
        "range": lambda: run("echo_executor", params={"retry": {"max_attempts": 0}}),
        "if": lambda: run("echo_executor", params={"when": {"task": "run", "op": "exists"}}),
        "step": lambda: run("step_executor", function="x", arguments={}),
        "tools": lambda: agent("buyer", prompt="Buy.", tools=["note"]),
        "input": lambda: agent("buyer", prompt="Buy.", temprature=1),
        "secret": lambda: signed("a", secret("nobodys")),
        "prompt": lambda: agent("buyer", prompt=secret("crm")),
        "verbatim": lambda: run("transform_executor", select=secret("crm")),
        "host": lambda: signed("a", secret("bound")),
        "other host": lambda: run("rest_executor", url="https://example.com", auth={"bearer": secret("bound")}),
        "form": lambda: ask("What?", schema=Table),
        "large": lambda: signed("a" * 2_000_000, "b"),
        "hidden": lambda: hidden(1),
    }
    try:
        return await calls[which]()
    finally:
        beside.cancel()


@dataclass
class Table:
    """No form: a row in it is no text or number."""

    rows: list[Order]


def _hidden() -> Any:
    """Return a workflow that no module has under a name."""

    @workflow
    async def hidden(a: int) -> int:
        return a

    return hidden


def hidden(a: int) -> Any:
    return _hidden()(a)


@workflow
async def many(count: int) -> int:
    """Call steps with 1,000 characters each, one after the other."""
    for number in range(count):
        await signed(f"{number:1000}", "")
    return count


@step(idempotent=True)
async def flaky(a: int) -> int:
    RAN.append(("flaky", a))
    if "flaky" in BROKEN:
        raise ValueError("broken")
    return a


@workflow
async def part(a: int) -> int:
    """Take two steps, of which the second may fail."""
    return await flaky(await added(a))


@workflow
async def parts(count: int) -> dict[str, Any]:
    """Call workflows one after the other."""
    whole = [await part(1), await part(10), await run("workflow:part", a=100)]
    return {"whole": sum(whole), "error": None}


@workflow
async def adding(count: int) -> dict[str, Any]:
    """Run an executor that adds tasks, one of which fails."""
    try:
        await run("python_executor", function="listed", arguments={"numbers": [1, -1]}, params={"spawn": {}})
        error = None
    except StepFailed as failed:
        error = str(failed)
    return {"whole": await added(count), "error": error}
