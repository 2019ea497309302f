"""A line to a server: messages of JSON-RPC in both directions, over HTTP or over the pipes of a process."""

from collections.abc import AsyncGenerator
from typing import Any, Final, Protocol

import orjson

from aipartnerupflow.executors import ExecutorError, Json

MOST_BYTES: Final = 16 * 2**20
MOST_MESSAGES: Final = 10_000


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


class Intake:
    """Parses what a server sends in one session, up to so many bytes and messages."""

    def __init__(self, name: str) -> None:
        self._what = f"The MCP server '{name}'"
        self._bytes = 0
        self._messages = 0

    def parsed(self, text: bytes) -> list[Json]:
        """Return the messages in a text: one, or several as a batch. Raises ExecutorError."""
        self._bytes += len(text)
        if self._bytes > MOST_BYTES:
            raise ExecutorError(f"{self._what} sent more than {MOST_BYTES:,} bytes.", permanent=True)
        try:
            value: Any = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise ExecutorError(f"{self._what} sent something that is not JSON.") from None
        messages = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) and each.get("jsonrpc") == "2.0" for each in messages):
            raise ExecutorError(f"{self._what} sent something that is no message of JSON-RPC 2.0.")
        self._messages += len(messages)
        if self._messages > MOST_MESSAGES:
            raise ExecutorError(f"{self._what} sent more than {MOST_MESSAGES:,} messages.", permanent=True)
        return messages
