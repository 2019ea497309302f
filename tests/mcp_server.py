"""A server of MCP by the official SDK: `python -m tests.mcp_server` over pipes, or with a port over HTTP.

What its tools were called with is in a file that the environment names.
"""

import asyncio
import json
import os
import sys
from typing import Any

from mcp.server.fastmcp import Context, FastMCP, Image
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

from tests.mcp_site import CALLS, GATE, IDEMPOTENCY_KEY, PNG

server = FastMCP("tools of a test", port=int(sys.argv[1]) if len(sys.argv) > 1 and __name__ == "__main__" else 8000)


def note(*what: Any) -> None:
    """One line, in one write."""
    file = os.open(os.environ[CALLS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{json.dumps(what)}\n".encode())
    finally:
        os.close(file)


class Sum(BaseModel):
    sum: int


@server.tool()
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    note("add", a, b)
    return Sum(sum=a + b)


@server.tool(structured_output=False)
def shout(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ValueError(why)


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """Return a picture with a title."""
    return ["a dot", Image(data=PNG, format="png")]


@server.tool(structured_output=False)
async def count(context: Context[Any, Any, Any], to: int) -> str:
    """Count, with progress and log lines."""
    for number in range(1, to + 1):
        await context.info(f"at {number}")
        await context.report_progress(number, to, f"{number} of {to}")
    return "done"


@server.tool(structured_output=False)
async def wait_for_gate(number: int) -> str:
    """Return when there is a file `gate`."""
    note("wait_for_gate", number)
    try:
        while not os.path.exists(os.environ[GATE]):  # noqa: ASYNC110, ASYNC240, PTH110  (no event reports a file)
            await asyncio.sleep(0.01)
    except BaseException:
        note("cancelled", number)
        raise
    return f"passed {number}"


@server.tool(structured_output=False, annotations=ToolAnnotations(idempotentHint=True))
async def safe_wait(context: Context[Any, Any, Any], number: int) -> str:
    """Return when there is a file `gate`. Calling it again does no harm."""
    meta = context.request_context.meta
    note("safe_wait", number, ((meta and meta.model_extra) or {}).get(IDEMPOTENCY_KEY))
    while not os.path.exists(os.environ[GATE]):  # noqa: ASYNC110, ASYNC240, PTH110  (no event reports a file)
        await asyncio.sleep(0.01)
    return f"passed {number}"


@server.tool(structured_output=False)
def trace(context: Context[Any, Any, Any]) -> str:
    """Return the trace that the call is part of: of its fields and, over HTTP, of its headers."""
    meta, request = context.request_context.meta, context.request_context.request
    found = [(meta.model_extra or {}).get("traceparent") if meta else None]
    found += [] if request is None else [request.headers.get("traceparent")]
    return " ".join(map(str, found))


@server.tool(structured_output=False)
def credentials(context: Context[Any, Any, Any]) -> str:
    """Return the credentials of the call, as no server should."""
    request = context.request_context.request
    return str(os.environ.get("API_TOKEN") if request is None else request.headers.get("authorization"))


@server.tool(structured_output=False)
def leave() -> str:
    """End the server."""
    os._exit(3)


class Order(BaseModel):
    packets: int = Field(title="How many packets?", ge=1)
    express: bool = False


class Nothing(BaseModel):
    pass


@server.tool(structured_output=False)
async def order(context: Context[Any, Any, Any], product: str) -> str:
    """Order packets of a product, after two questions."""
    note("order", product)
    wanted = await context.elicit(f"How much {product}?", Order)
    if wanted.action != "accept":
        return "declined"
    sure = await context.elicit("Are you sure?", Nothing)
    note("answered", wanted.data.packets, sure.action)
    return f"{wanted.data.packets} of {product}" if sure.action == "accept" else "not ordered"


class Guest(BaseModel):
    email: str = Field(json_schema_extra={"format": "email"})


@server.tool(structured_output=False)
async def invite(context: Context[Any, Any, Any]) -> str:
    """Ask for an address, in a form with a format."""
    wanted = await context.elicit("Whom?", Guest)
    return wanted.data.email if wanted.action == "accept" else wanted.action


class Stop(BaseModel):
    city: str
    nights: int = 1


@server.tool(structured_output=False)
def travel(stops: list[Stop]) -> str:
    """Return a journey; the schema has an optional field within a definition."""
    return " - ".join(stop.city for stop in stops)


@server.tool(name="an odd name", structured_output=False)
def odd() -> str:
    """Have a name that no model can call."""
    return "odd"


@server.resource("note://today")
def today() -> str:
    """The note of the day."""
    return "Water the plants."


@server.prompt()
def greeting(name: str) -> str:
    """Ask for a greeting."""
    return f"Greet {name}."


if __name__ == "__main__":
    server.run("streamable-http" if len(sys.argv) > 1 else "stdio")
