"""The operations of a server, and the tools that the servers of the configuration offer, for models: `mcp:server.tool`, or
`mcp:server` for all of a server.

The description of a tool by its server is data: names, descriptions and schemas are bounded here.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, Protocol

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.mcp.servers import configured
from tasks.executors.mcp.session import INVALID_PARAMS, Hearing, RefusedError, Session, opened
from tasks.rules.schema import TooCostly, check_cost, fault
from tasks.telemetry import tracing

MOST_PAGES: Final = 100
MOST_LISTED: Final = 1_000
SHOWN: Final = 2_000
NAMED: Final = 20
CALL_TOOL, READ_RESOURCE, GET_PROMPT = "call_tool", "read_resource", "get_prompt"
NEEDS: Final[Mapping[str, str]] = MappingProxyType({CALL_TOOL: "tool", READ_RESOURCE: "uri", GET_PROMPT: "prompt"})
"""The input that names what an operation is about."""
PREFIX: Final = "mcp:"
PLACE: Final = "inputs.tools"
NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
DESCRIPTION_CHARACTERS: Final = 1_024
KEPT_SECONDS: Final = 60.0
LIST_SECONDS: Final = 30.0
CALL_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A request whose result is a list, page by page. `field` has it."""

    method: str
    field: str


LISTINGS: Final[Mapping[str, Listing]] = MappingProxyType(
    {
        "list_tools": Listing(method="tools/list", field="tools"),
        "list_resources": Listing(method="resources/list", field="resources"),
        "list_resource_templates": Listing(method="resources/templates/list", field="resourceTemplates"),
        "list_prompts": Listing(method="prompts/list", field="prompts"),
    }
)
OPERATIONS: Final[Sequence[str]] = (*NEEDS, *LISTINGS)


def operation_in(inputs: Json) -> str:
    operation: str = inputs.get("operation", CALL_TOOL)
    return operation


def check(inputs: Json) -> None:
    """Raise ExecutorError, permanent, if the operation lacks the input that it needs."""
    operation = operation_in(inputs)
    needed = NEEDS.get(operation) if isinstance(operation, str) else None
    if needed is not None and not inputs.get(needed):
        raise ExecutorError(f"inputs.{needed}: the operation {operation} needs it.", permanent=True)


async def result_of(session: Session, inputs: Json) -> Json:
    """Do what the inputs ask for. Raises ExecutorError."""
    operation = operation_in(inputs)
    if listing := LISTINGS.get(operation):
        return {"result": await listed(session, listing)}
    if operation == READ_RESOURCE:
        contents = _list_in(session, await session.request("resources/read", {"uri": inputs["uri"]}), "contents")
        return _with_content(_texts_of(contents), contents)
    arguments = inputs.get("arguments", {})
    if operation == GET_PROMPT:
        if not all(isinstance(value, str) for value in arguments.values()):
            raise ExecutorError("inputs.arguments: the arguments of a prompt are texts.", permanent=True)
        params = {"name": inputs["prompt"], "arguments": arguments}
        return {"result": _list_in(session, await session.request("prompts/get", params), "messages")}
    return await _call(session, inputs["tool"], arguments)


async def listed(session: Session, listing: Listing) -> list[Json]:
    """Return all pages of a list. Raises ExecutorError, also for more than 1,000 items."""
    items, params = list[Json](), Json()
    for _ in range(MOST_PAGES):
        page = await session.request(listing.method, params)
        items += _list_in(session, page, listing.field)
        if len(items) > MOST_LISTED:
            break
        if not (cursor := page.get("nextCursor")):
            return items
        params = {"cursor": cursor}
    raise ExecutorError(f"{_what(session)} lists more than {MOST_LISTED:,} {listing.field}.", permanent=True)


async def _call(session: Session, tool: str, arguments: Json) -> Json:
    try:
        answer = await session.request("tools/call", {"name": tool, "arguments": arguments})
    except RefusedError as error:
        if error.code == INVALID_PARAMS:
            await _check_exists(session, tool)
        raise
    content = _list_in(session, answer, "content")
    if answer.get("isError") is True:
        await _check_exists(session, tool)
        said = session.target.masked(_texts_of(content)[:SHOWN])
        raise ExecutorError(f"The tool '{tool}' of {_what(session)} failed: {said or 'it gives no reason.'}")
    structured = answer.get("structuredContent")
    return _with_content(_texts_of(content) if structured is None else structured, content)


async def _check_exists(session: Session, tool: str) -> None:
    """Raise ExecutorError, permanent, if the server lists its tools, and this is none of them."""
    try:
        names = [str(each.get("name")) for each in await listed(session, LISTINGS["list_tools"])]
    except ExecutorError:
        return  # the caller has an error already
    if tool not in names:
        raise ExecutorError(unknown_tool(tool, names, server=_what(session)), permanent=True)


def unknown_tool(tool: str, names: Sequence[str], *, server: str) -> str:
    close = get_close_matches(tool[:100], names, n=2)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    more = ", …" if len(names) > NAMED else ""
    return f"{server} has no tool '{tool[:100]}'.{hint} Its tools are {', '.join(names[:NAMED]) or 'none'}{more}."


def _with_content(result: Any, content: Sequence[Json]) -> Json:
    """Add the parts, unless all of them are texts, which the result has."""
    return {"result": result} | ({} if all(_text_in(each) is not None for each in content) else {"content": content})


def _texts_of(parts: Sequence[Json]) -> str:
    return "\n".join(text for each in parts if (text := _text_in(each)) is not None)


def _text_in(part: Json) -> str | None:
    text = part.get("text")
    return text if isinstance(text, str) and part.get("type", "text") == "text" else None


def _list_in(session: Session, answer: Json, field: str) -> list[Json]:
    items = answer.get(field, [])
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        raise ExecutorError(f"{_what(session)} sent an invalid response: {field} is no list of objects.")
    return items


def _what(session: Session) -> str:
    return f"the MCP server '{session.target.name}'"


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
        now = asyncio.get_running_loop().time()
        until, tools = self._known.get(server, (0.0, {}))
        if until <= now:
            try:
                async with asyncio.timeout(LIST_SECONDS), opened(configured(server)) as session:
                    found = session.target.masked(await listed(session, LISTINGS["list_tools"]))
            except TimeoutError:
                raise ExecutorError(
                    f"The MCP server '{server}' did not list its tools within {LIST_SECONDS:g} s."
                ) from None
            tools = {each.tool: each for each in (offered_tool(server, described) for described in found)}
            self._known[server] = now + KEPT_SECONDS, tools  # as many as the operator has configured
        if not tool:
            return list(tools.values())
        if tool not in tools:
            what = f"{place}: the MCP server '{server}'"
            raise ExecutorError(unknown_tool(tool, list(tools), server=what), permanent=True)
        if problem := tools[tool].problem:
            raise ExecutorError(f"{place}: '{name}' cannot be a tool, because {problem}.", permanent=True)
        return [tools[tool]]


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
        facts = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool, "gen_ai.tool.type": "extension"}
        try:
            with tracing.span(f"execute_tool {tool}", facts, kind="client"):
                async with asyncio.timeout(CALL_SECONDS), opened(target, hearing) as session:
                    inputs = {"tool": tool, "arguments": arguments}
                    result: Json = target.masked(await result_of(session, inputs))
                    return result
        except TimeoutError:
            raise ExecutorError(f"The MCP server '{server}' did not answer within {CALL_SECONDS:g} s.") from None


SERVERS: Final[ContextVar[Servers]] = ContextVar("the way to the MCP servers", default=_Direct())  # noqa: B039  (it keeps lists only)
