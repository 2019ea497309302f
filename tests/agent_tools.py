"""Tools for agents: what they were called with is in a file that the environment names."""

import asyncio
import json
import os
from typing import Any, Literal

from aipartnerupflow.executors import ExecutorError, current_context, python_function
from aipartnerupflow.workflows import StepFailed, agent, gather, run, workflow

CALLS = "AGENT_CALLS"
GATE = "AGENT_GATE"


def _note(name: str, arguments: dict[str, Any]) -> None:
    """One line, in one write."""
    file = os.open(os.environ[CALLS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{json.dumps([name, arguments])}\n".encode())
    finally:
        os.close(file)


@python_function
def polite(value: str) -> Any:
    """Check that a text says nothing impolite."""
    if value == "raise":
        raise ValueError(value)
    if value == "nothing":
        return "It is polite."
    return {"ok": "away" not in value, "reason": "it says away", "redacted": value.replace("away", "[redacted]")}


@python_function
async def weather(city: str, unit: Literal["C", "F"] = "C") -> dict[str, Any]:
    """Return the weather of a city."""
    _note("weather", {"city": city, "unit": unit})
    return {"city": city, "degrees": 21, "unit": unit}


@python_function
async def send_email(to: str, text: str) -> str:
    """Send an e-mail."""
    _note("send_email", {"to": to, "text": text})
    return "sent"


@python_function
async def broken(why: str) -> None:
    """Fail."""
    _note("broken", {"why": why})
    raise ExecutorError(f"It broke: {why}")


@python_function
async def wait_for_gate(number: int) -> int:
    """Return when there is a file `gate`."""
    _note("wait_for_gate", {"number": number})
    while not os.path.exists(os.environ[GATE]):  # noqa: ASYNC110, ASYNC240, PTH110  (no event reports a file)
        await asyncio.sleep(0.01)
    return number


@python_function(idempotent=True)
async def safe_wait(number: int) -> int:
    """Return when there is a file `gate`. Calling it again does no harm."""
    _note("safe_wait", {"number": number, "key": current_context().idempotency_key})
    while not os.path.exists(os.environ[GATE]):  # noqa: ASYNC110, ASYNC240, PTH110  (no event reports a file)
        await asyncio.sleep(0.01)
    return number


@python_function
async def long_text(characters: int) -> str:
    """Return a long text."""
    return "x" * characters


@python_function(schema={"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}, "required": ["n"]})
async def given(**arguments: Any) -> dict[str, Any]:
    return arguments


@workflow
async def whose() -> list[str]:
    """Return what two agents hear."""
    return await gather(*(agent(name, prompt="Who am I?") for name in ("first", "second")))


@workflow
async def forecast(city: str) -> list[str]:
    """Let an agent with a tool answer with a list."""
    return await agent("forecaster", prompt=f"How is {city}?", tools=[weather], returns=list[str])


@workflow
async def discreet(city: str) -> str:
    """Let an agent answer without addresses."""
    checks = [{"on": "output", "with": "addresses", "then": "redact"}]
    return await agent("speaker", prompt=f"Who lives in {city}?", params={"checks": checks})


@workflow
async def parroted(text: str, flow: str = "flow:parrot") -> Any:
    """Run a flow."""
    return await run(flow, text=text)


@workflow
async def posted(url: str) -> Any:
    """Post, and catch the error of a second request."""
    auth = {"bearer": "of-the-author"}
    params = {"retry": {"max_attempts": 2, "backoff_seconds": 0.01}}
    first = await run("rest_executor", {"params": {"page": 2}}, url=url, method="POST", auth=auth, params=params)
    try:
        await run("rest_executor", url=url)
    except StepFailed as failed:
        return [first["status_code"], str(failed)]


@workflow
async def spending() -> list[str]:
    """Ask two agents one after the other."""
    return [await agent("first", prompt="Hello?"), await agent("second", prompt="Hello?")]
