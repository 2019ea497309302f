"""The operations of a server: each with its request, and its result in our shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.mcp.session import INVALID_PARAMS, RefusedError, Session

MOST_PAGES: Final = 100
MOST_LISTED: Final = 1_000
SHOWN: Final = 2_000
NAMED: Final = 20


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
CALL_TOOL, READ_RESOURCE, GET_PROMPT = "call_tool", "read_resource", "get_prompt"
NEEDS: Final[Mapping[str, str]] = MappingProxyType({CALL_TOOL: "tool", READ_RESOURCE: "uri", GET_PROMPT: "prompt"})
"""The input that names what an operation is about."""
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
        params = {"name": inputs["prompt"], "arguments": {name: _text(value) for name, value in arguments.items()}}
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


def _text(value: Any) -> str:
    """Return the argument of a prompt, which is a text."""
    if not isinstance(value, str):
        raise ExecutorError("inputs.arguments: the arguments of a prompt are texts.", permanent=True)
    return value


def _list_in(session: Session, answer: Json, field: str) -> list[Json]:
    items = answer.get(field, [])
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        raise ExecutorError(f"{_what(session)} sent an invalid response: {field} is no list of objects.")
    return items


def _what(session: Session) -> str:
    return f"the MCP server '{session.target.name}'"
