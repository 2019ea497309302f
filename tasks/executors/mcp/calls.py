"""Calls of tools by executors whose code runs in another process: the worker makes them, because it has the credentials."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.mcp import operations
from tasks.executors.mcp.offered import Offered, OfferedTools
from tasks.executors.mcp.servers import configured
from tasks.executors.mcp.session import Hearing, opened

CALL_SECONDS: Final = 60.0


class Servers(Protocol):
    """The servers of the configuration."""

    async def named(self, name: str, *, place: str) -> list[Offered]:
        """Return the tool of this name, or all tools of the server. Raises ExecutorError."""
        ...

    async def call(self, server: str, tool: str, arguments: Json, *, key: str, log: Callable[[str], None]) -> Json:
        """Return {result, content?}, as mcp_executor does; the server may ask no questions. Raises ExecutorError.

        `key` is the idempotency key of the call, and `log` gets the log lines of the server.
        """
        ...


class _Direct:
    """Calls them from this process."""

    def __init__(self) -> None:
        self._offered = OfferedTools()

    async def named(self, name: str, *, place: str) -> list[Offered]:
        return await self._offered.named(name, place=place)

    async def call(self, server: str, tool: str, arguments: Json, *, key: str, log: Callable[[str], None]) -> Json:
        target = configured(server)
        hearing = Hearing(report=lambda fraction, message: None, log=log, key=key)
        try:
            async with asyncio.timeout(CALL_SECONDS), opened(target, hearing) as session:
                inputs = {"tool": tool, "arguments": arguments}
                result: Json = target.masked(await operations.result_of(session, inputs))
                return result
        except TimeoutError:
            raise ExecutorError(f"The MCP server '{server}' did not answer within {CALL_SECONDS:g} s.") from None


SERVERS: Final[ContextVar[Servers]] = ContextVar("the way to the MCP servers", default=_Direct())  # noqa: B039  (it keeps lists only)
