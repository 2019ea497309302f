"""The methods of MCP: one function each, and the eras that have it."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final

from a2a.core.errors import rule_of
from a2a.core.exceptions import UnknownMethod
from a2a.core.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST
from a2a.core.process import software_version
from a2a.live import stream_limits
from a2a.mcp import calls, handles, sessions, skills, subscriptions
from a2a.mcp.catalogue import PAGE, Catalogue, completed
from a2a.mcp.eras import LEGACY, MODERN, Exchange, check_params
from a2a.mcp.inputs import accepted_in, answer_all, form_of
from a2a.mcp.messages import McpError, Messages, Result, tool_error
from a2a.mcp.tools import app
from a2a.methods.dispatch import require
from a2a.methods.sent_files import SentFiles, with_saved
from accounts.callers import Role
from apflow_site.db import pools
from tasks.rules.exceptions import InvalidParams
from tasks.rules.files import named_once
from tasks.rules.strict_json import Json
from tasks.services.runs import cancels

SERVER: Final = "aipartnerupflow"
TITLE: Final = "aipartnerupflow: trees of tasks"
INSTRUCTIONS: Final = (
    "This server runs trees of tasks and keeps their results. Start one with run_tree, run_flow or a tool of its own. A call "
    "returns when the run has ended; if it takes long, the result has status in_progress and a run_id: call get_run with "
    "it, and wait_seconds. A run that waits for a person lists its questions: answer them with answer_question."
)
NEEDS_SESSION: Final = (
    f"Send the header {sessions.HEADER} that initialize has answered: the session gets the notifications."
)
RESOURCE_NOT_FOUND: Final = -32002
"""Up to 2025-11-25."""
EXTENSIONS: Final = (handles.EXTENSION, sessions.APPS, skills.EXTENSION)
"""The extensions for clients of 2026-07-28."""
ARGUMENTS: Final = "arguments"
"""The request by which a client asks its user for the arguments of a prompt."""
TTL_MS: Final = 60_000
"""The time that clients may keep a list."""

Function = Callable[[Catalogue, Exchange, Json], Messages]
Answer = Callable[[Catalogue, Exchange, Json], Awaitable[Json]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method. `function` returns its messages; `is_legacy` and `is_modern` are the eras in which it exists."""

    function: Function
    is_legacy: bool = True
    is_modern: bool = True


def method_of(name: str, exchange: Exchange) -> Method:
    """Raise UnknownMethod."""
    found = METHODS.get(name)
    if found is None or not (found.is_modern if exchange.is_modern else found.is_legacy):
        raise UnknownMethod(f"Method '{name[:100]}' not found in MCP {exchange.version}.")
    return found


# --- the handshake, and its successor ---


async def initialize(catalogue: Catalogue, exchange: Exchange, params: Json) -> Messages:
    """Agree on a version with a client of an earlier era, and give it a session."""
    wanted = params.get("protocolVersion")
    if not isinstance(wanted, str) or not isinstance(params.get("clientInfo"), dict):
        raise InvalidParams([("protocolVersion", "required, a string"), ("clientInfo", "required, an object")])
    version = wanted if wanted in LEGACY else LEGACY[0]
    await pools.write(calls.delete_expired)
    declared = params.get("capabilities")
    session = sessions.begun(declared if isinstance(declared, dict) else {}, exchange.caller)
    found = {
        "protocolVersion": version,
        "capabilities": capabilities() | {"extensions": {sessions.APPS: {}}},
        "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    }
    yield Result(value=found, headers={sessions.HEADER: session})


async def discover(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Say which versions and capabilities the server has."""
    return {
        "supportedVersions": list(MODERN),
        "capabilities": capabilities() | {"extensions": {name: {} for name in EXTENSIONS}},
        "instructions": INSTRUCTIONS,
        "_meta": {"io.modelcontextprotocol/serverInfo": server_info()},
    } | caching("public")


async def nothing(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Acknowledge."""
    return {}


def capabilities() -> Json:
    """Return the capabilities of the server."""
    return {"tools": {}, "resources": {"subscribe": True}, "prompts": {}, "completions": {}, "logging": {}}


def server_info() -> Json:
    return {"name": SERVER, "title": TITLE, "version": software_version()}


def caching(scope: str) -> Json:
    """Return how long a client may keep a result, and whether for its user only."""
    return {"ttlMs": TTL_MS, "cacheScope": scope}


# --- tools ---


async def list_tools(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return a page of the caller's tools, by name."""
    found = await catalogue.tools(exchange.caller, after=_cursor(params))
    page = {"tools": [tool.listed() for tool in found[:PAGE]]} | caching("private")
    return page if len(found) <= PAGE else page | {"nextCursor": found[PAGE - 1].name}


def _cursor(params: Json) -> str:
    """Return the position where a page begins. Raises InvalidParams."""
    cursor = params.get("cursor")
    if cursor is None:
        return ""
    if not isinstance(cursor, str):
        raise InvalidParams([("cursor", "must be the nextCursor of an earlier page")])
    return cursor


async def call_tool(catalogue: Catalogue, exchange: Exchange, params: Json) -> Messages:
    """Call a tool. A refusal is its result: the model reads the reason."""
    name, arguments = params.get("name"), params.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict | None):
        raise InvalidParams([("name", "required, a string; arguments, if given, must be an object")])
    tool = await catalogue.tool(exchange.caller, name)
    if tool is None:
        raise InvalidParams([("name", f"there is no tool '{name[:100]}'; call tools/list")])
    check_params(exchange, tool.input_schema, arguments or {})
    stream_limits.open_streams().refuse_if_full(exchange.caller)
    require(exchange.caller, tool.role, what=name)
    try:
        async with SentFiles(exchange.caller) as sent:
            if arguments and named_once(arguments):
                arguments = await with_saved(arguments, sent, field="arguments")
            async with aclosing(tool.call(exchange, arguments or {})) as messages:
                async for message in messages:
                    yield message
    except McpError:
        raise
    except Exception as error:
        if rule_of(error).code == INTERNAL_ERROR:
            raise
        yield Result(value=tool_error(getattr(error, "message", str(error))))


# --- the extension for tasks ---


async def get_task(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return a run with its status and, once it is over, its result."""
    handles.require_extension(exchange)
    return await pools.read(partial(handles.detail, caller=exchange.caller, run_id=params.get("taskId")))


async def update_task(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Record the answers of the client's user."""
    handles.require_extension(exchange)
    require(exchange.caller, Role.OPERATOR, what="tasks/update")
    run = await pools.read(handles.known_run, exchange.caller, params.get("taskId"))
    responses = params.get("inputResponses")
    await pools.write(answer_all, caller=exchange.caller, run_id=run.id, responses=responses)
    return {}


async def cancel_task(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Request the end of a run; of one that is over, nothing."""
    handles.require_extension(exchange)
    require(exchange.caller, Role.OPERATOR, what="tasks/cancel")
    run = await pools.read(handles.known_run, exchange.caller, params.get("taskId"))
    if run.finished_at is None:
        ask = partial(cancels.ask, caller=exchange.caller, task_ids=[run.target_id], force=False)
        await pools.write(ask, message=cancels.BY_REQUEST)
    return {}


# --- resources ---


async def list_resources(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return a page of the caller's resources."""
    found, following = await catalogue.resources.page(exchange.caller, _cursor(params))
    page = {"resources": list(found)} | caching("private")
    return page if following is None else page | {"nextCursor": following}


async def list_templates(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return the templates of the resources' URIs."""
    return {"resourceTemplates": list(catalogue.resources.templates())} | caching("public")


async def read_resource(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return the contents of a resource. The state of a run may change at any time, so that no client keeps them."""
    uri = params.get("uri")
    if not isinstance(uri, str):
        raise InvalidParams([("uri", "required, a string")])
    contents = await catalogue.resources.read(exchange.caller, uri)
    if contents is None:
        raise _not_found(uri, exchange)
    return {"contents": list(contents)} | (
        caching("public") if uri == app.URI else {"ttlMs": 0, "cacheScope": "private"}
    )


async def subscribe(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Send the session of the client a notification when a resource changes."""
    session, uri = _watched(exchange, params)
    run_id = await catalogue.resources.run_of(exchange.caller, uri)
    if run_id is None:
        raise _not_found(uri, exchange)
    await pools.write(subscriptions.watch, caller=exchange.caller, session=session, run_id=run_id, uri=uri)
    return {}


async def unsubscribe(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Send no further notifications."""
    session, uri = _watched(exchange, params)
    await pools.write(subscriptions.unwatch, session=session, uri=uri)
    return {}


def _watched(exchange: Exchange, params: Json) -> tuple[str, str]:
    """Return the session, and the URI in the parameters. Raises InvalidParams or McpError."""
    uri = params.get("uri")
    if not isinstance(uri, str):
        raise InvalidParams([("uri", "required, a string")])
    if exchange.session is None:
        raise McpError(INVALID_REQUEST, NEEDS_SESSION)
    return exchange.session, uri


# --- skills ---


async def list_skills(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return a page of the caller's skills, by name."""
    found, following = await skills.page(exchange.caller, _cursor(params))
    page = {"skills": list(found)} | caching("private")
    return page if following is None else page | {"nextCursor": following}


async def get_skill(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return one of the caller's skills."""
    uri = params.get("uri")
    found = await skills.get(exchange.caller, uri) if isinstance(uri, str) else None
    if found is None:
        raise InvalidParams([("uri", "there is no such skill; call skills/list")])
    return {"skill": found} | caching("private")


# --- prompts ---


async def list_prompts(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return a page of the caller's prompts."""
    found, following = await catalogue.prompts.page(exchange.caller, _cursor(params))
    page = {"prompts": list(found)} | caching("private")
    return page if following is None else page | {"nextCursor": following}


async def get_prompt(catalogue: Catalogue, exchange: Exchange, params: Json) -> Messages:
    """Return the messages of a prompt with its arguments. A client that asks its user is asked for what is missing."""
    name, arguments = params.get("name"), params.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict | None):
        raise InvalidParams([("name", "required, a string; arguments, if given, must be an object")])
    given = arguments or {}
    if exchange.is_modern and exchange.can_elicit("form"):
        answered = accepted_in(exchange, ARGUMENTS)
        given |= answered or {}
        form = await catalogue.prompts.missing(exchange.caller, name, given) if answered is None else None
        if form is not None:
            asked = {ARGUMENTS: form_of(f"The prompt '{name[:100]}' needs these arguments.", form)}
            yield Result(value={"inputRequests": asked}, kind="input_required")
            return
    found = await catalogue.prompts.get(exchange.caller, name, given)
    if found is None:
        raise InvalidParams([("name", f"there is no prompt '{name[:100]}'; call prompts/list")])
    yield Result(value=found)


async def complete(catalogue: Catalogue, exchange: Exchange, params: Json) -> Json:
    """Return values for an argument of a prompt, or for the URI of a resource."""
    return await completed(catalogue, exchange.caller, params)


async def listen(catalogue: Catalogue, exchange: Exchange, params: Json) -> Messages:
    """Send what changes in the caller's runs, for as long as the client listens."""
    async with aclosing(subscriptions.listen(exchange, params)) as messages:
        async for message in messages:
            yield message


def _not_found(uri: str, exchange: Exchange) -> McpError:
    """2026-07-28 has no code of its own for it."""
    code = INVALID_PARAMS if exchange.is_modern else RESOURCE_NOT_FOUND
    return McpError(code, f"Resource not found: {uri[:200]}", data={"uri": uri[:1000]})


def _at_once(function: Answer) -> Function:
    """Yield a method that sends nothing before its result."""

    async def messages(catalogue: Catalogue, exchange: Exchange, params: Json) -> Messages:
        yield Result(value=await function(catalogue, exchange, params))

    return messages


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "initialize": Method(function=initialize, is_modern=False),
        "ping": Method(function=_at_once(nothing), is_modern=False),
        "logging/setLevel": Method(function=_at_once(nothing), is_modern=False),
        "server/discover": Method(function=_at_once(discover), is_legacy=False),
        "tools/list": Method(function=_at_once(list_tools)),
        "tools/call": Method(function=call_tool),
        "tasks/get": Method(function=_at_once(get_task), is_legacy=False),
        "tasks/update": Method(function=_at_once(update_task), is_legacy=False),
        "tasks/cancel": Method(function=_at_once(cancel_task), is_legacy=False),
        "prompts/list": Method(function=_at_once(list_prompts)),
        "prompts/get": Method(function=get_prompt),
        "completion/complete": Method(function=_at_once(complete)),
        "subscriptions/listen": Method(function=listen, is_legacy=False),
        "skills/list": Method(function=_at_once(list_skills), is_legacy=False),
        "skills/get": Method(function=_at_once(get_skill), is_legacy=False),
        "resources/list": Method(function=_at_once(list_resources)),
        "resources/templates/list": Method(function=_at_once(list_templates)),
        "resources/read": Method(function=_at_once(read_resource)),
        "resources/subscribe": Method(function=_at_once(subscribe), is_modern=False),
        "resources/unsubscribe": Method(function=_at_once(unsubscribe), is_modern=False),
    }
)
