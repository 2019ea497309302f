"""The tools that the servers of the configuration offer, for models: `mcp:server.tool`, or `mcp:server` for all of a server.

The description of a tool by its server is data: names, descriptions and schemas are bounded here.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.mcp import operations
from tasks.executors.mcp.operations import LISTINGS, listed, unknown_tool
from tasks.executors.mcp.servers import configured
from tasks.executors.mcp.session import Hearing, opened
from tasks.rules.schema import fault
from tasks.rules.schema_cost import TooCostly, check_cost

PREFIX: Final = "mcp:"
PLACE: Final = "inputs.tools"
NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
DESCRIPTION_CHARACTERS: Final = 1_024
KEPT_SECONDS: Final = 60.0
LIST_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A tool of a server. `problem` says why no model can call it; None if one can."""

    server: str
    tool: str
    description: str
    schema: Json
    problem: str | None
    is_safe: bool = False
    """Whether its server says that it may be called again after a crash."""

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.server}.{self.tool}"


def is_of_server(name: str) -> bool:
    return name.startswith(PREFIX)


def server_and_tool(name: str, *, place: str = PLACE) -> tuple[str, str]:
    """Return the parts of a name; the tool is empty for all tools of the server. Raises ExecutorError.

    `place` is the field that has the name, for errors.
    """
    server, dot, tool = name.removeprefix(PREFIX).partition(".")
    configured(server, place=place)
    if dot and not NAME.fullmatch(tool):
        raise ExecutorError(f"{place}: '{name[:200]}' has no name of a tool after the dot.", permanent=True)
    return server, tool


class OfferedTools:
    """Asks servers for their tools, and keeps the answers for a minute."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Mapping[str, Offered]]] = {}

    async def named(self, name: str, *, place: str = PLACE) -> list[Offered]:
        """Return the tool of this name, or all tools of the server. Raises ExecutorError."""
        server, tool = server_and_tool(name, place=place)
        tools = await self._of(server)
        if not tool:
            return list(tools.values())
        if tool not in tools:
            what = f"{place}: the MCP server '{server}'"
            raise ExecutorError(unknown_tool(tool, list(tools), server=what), permanent=True)
        if problem := tools[tool].problem:
            raise ExecutorError(f"{place}: '{name}' cannot be a tool, because {problem}.", permanent=True)
        return [tools[tool]]

    async def _of(self, server: str) -> Mapping[str, Offered]:
        now = asyncio.get_running_loop().time()
        until, tools = self._known.get(server, (0.0, {}))
        if until <= now:
            tools = await _listed(server)
            self._known[server] = now + KEPT_SECONDS, tools  # as many as the operator has configured
        return tools


async def _listed(server: str) -> Mapping[str, Offered]:
    try:
        async with asyncio.timeout(LIST_SECONDS), opened(configured(server)) as session:
            found = session.target.masked(await listed(session, LISTINGS["list_tools"]))
    except TimeoutError:
        raise ExecutorError(f"The MCP server '{server}' did not list its tools within {LIST_SECONDS:g} s.") from None
    return {each.tool: each for each in (offered_tool(server, tool) for tool in found)}


def offered_tool(server: str, described: Json) -> Offered:
    """Return a tool as its server describes it, within our bounds."""
    name, description, schema = (described.get(field) for field in ("name", "description", "inputSchema"))
    return Offered(
        server=server,
        tool=str(name),
        description=description[:DESCRIPTION_CHARACTERS] if isinstance(description, str) else str(name),
        schema=schema if isinstance(schema, dict) else {},
        problem=_problem(name, schema),
        is_safe=is_safe(described),
    )


def is_safe(described: Json) -> bool:
    """Return whether a tool, as its server describes it, only reads or may be called again (MCP 2025-11-25, ToolAnnotations)."""
    hints = described.get("annotations")
    return isinstance(hints, dict) and (hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True)


def _problem(name: object, schema: object) -> str | None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return "its name has other characters than letters, digits and _ . / -, or more than 128"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "its schema is none of an object"
    try:
        check_cost(schema)
    except TooCostly as error:
        return f"its schema {error}"
    return f"its schema is invalid: {why}" if (why := fault(schema)) else None


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
