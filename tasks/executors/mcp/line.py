"""A line to a server: messages of JSON-RPC in both directions, over HTTP or over the pipes of a process."""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

import orjson

from aipartnerupflow.executors import ExecutorError, Json


class Line(Protocol):
    version: str
    """The revision of the protocol that both sides speak; empty before they have agreed."""

    def exchange(self, message: Json) -> AsyncGenerator[Json]:
        """Send a request, and yield the messages that come until its response, which is among them. Raises ExecutorError."""
        ...

    async def send(self, message: Json) -> None:
        """Send a notification or a response. Raises ExecutorError."""
        ...

    async def close(self) -> None:
        """End what the server keeps for this line. Raises nothing."""
        ...


def parsed(text: bytes, *, name: str) -> list[Json]:
    """Return the messages in a text: one, or several as a batch. Raises ExecutorError."""
    try:
        value: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ExecutorError(f"The MCP server '{name}' sent something that is not JSON.") from None
    messages = value if isinstance(value, list) else [value]
    if not all(isinstance(each, dict) and each.get("jsonrpc") == "2.0" for each in messages):
        raise ExecutorError(f"The MCP server '{name}' sent something that is no message of JSON-RPC 2.0.")
    return messages
