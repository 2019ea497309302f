"""`POST /mcp`: one JSON-RPC message in; its reply, or a stream of notifications and the reply, out.

Next to it is the metadata of a protected resource (RFC 9728), the place where clients get a token.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from a2a.core import jsonrpc
from a2a.core.exceptions import RequestRefused, WrongHttpMethod
from a2a.core.http import body_of, decoded, headers_of, json_response, public_url, refusal, require_method
from a2a.core.jsonrpc import Call, Failure, Reply
from a2a.core.metrics import metered, note
from a2a.live import sse, stream_limits
from a2a.live.sse import held
from a2a.mcp import calls, dialog, eras, sessions, subscriptions
from a2a.mcp.catalogue import OURS, Catalogue
from a2a.mcp.eras import Exchange
from a2a.mcp.messages import Beginning, McpError, Message, Messages, Result, failure
from a2a.mcp.methods import method_of
from a2a.mcp.tools.running import followed
from a2a.methods.dispatch import encoded
from accounts.auth import authenticate
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json, MalformedJson, decode
from tasks.storage import loads

UNAUTHORIZED: Final = 401
SMALL_BYTES: Final = 16 * 1024
"""The size of the largest message that is read before the caller is known."""
NO_STREAM: Final = "GET opens the stream of a session. Send Accept: text/event-stream."
DEFERRED_SECONDS: Final = 1.0
"""The seconds after which a reply becomes a stream. Quick calls get plain JSON, with the status of their error."""
Coming = asyncio.Future[Message | None]
WELL_KNOWN: Final = ".well-known/oauth-protected-resource"
RESOURCE_NAME: Final = "aipartnerupflow"


@dataclass(frozen=True, slots=True)
class Mcp:
    """The view of an endpoint of MCP with the tools of a catalogue."""

    catalogue: Catalogue

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        body: Json = {}
        try:
            if sessions.HEADER in request.headers and (of_session := OF_SESSIONS.get(request.method or "")):
                return await of_session(request)
            require_method(request, "POST")
            caller = await authenticate(request)
            sent = await decoded(request, caller)
            if isinstance(sent, list):
                raise McpError(jsonrpc.INVALID_REQUEST, "Send one JSON-RPC message per request: MCP has no batches.")
            if not isinstance(sent, dict):
                raise McpError(jsonrpc.INVALID_REQUEST, "A JSON-RPC message is an object.")
            body = sent
            if "id" not in body or "method" not in body:
                return await _accept(request, body, caller)
            return await self._carry_out(request, body, caller)
        except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
            body = body or _small_message_in(request)
            call_id = body.get("id")
            has_id = isinstance(call_id, str | int | float) and not isinstance(call_id, bool)
            is_modern = eras.is_modern(body, request.headers)
            refused = failure(error, call_id=call_id if has_id else None, is_modern=is_modern)
            response = json_response(refused.to_json(), status=refused.http_status)
            if isinstance(error, WrongHttpMethod):
                response["Allow"] = ", ".join(error.methods)
            if response.status_code == UNAUTHORIZED:
                response["WWW-Authenticate"] = challenge(request)
            return response

    async def _carry_out(self, request: HttpRequest, body: Json, caller: Caller) -> HttpResponseBase:
        call = jsonrpc.parse(body, batch_limit=1)
        if not isinstance(call, Call):
            raise McpError(jsonrpc.INVALID_REQUEST, call.message if isinstance(call, Failure) else "")
        note(user=caller.user_id)
        loads.charge(caller.user_id)
        url = public_url(request)
        exchange = eras.exchange_of(
            call, body, sent=request.headers, caller=caller, headers=headers_of(request), url=url
        )
        if exchange.session is not None:
            await sessions.refuse_if_ended(exchange.session)
        with metered(f"mcp/{call.method}"[:100]):
            method = method_of(call.method, exchange)
            if not isinstance(call.params, dict):
                raise InvalidParams([("params", "must be an object")])
            messages = method.function(self.catalogue, exchange, call.params)
            first = await _await_first(messages, seconds=DEFERRED_SECONDS if exchange.takes_streams else None)
        if first is None:
            return HttpResponse(status=202)
        if isinstance(first, Result):
            response = json_response(await _reply(first, exchange))
            for name, value in first.headers.items():
                response[name] = value
            return response
        frames = sse.replies(_encode(_continue(first, messages), exchange))
        return held(frames, caller=caller, who_is_it=partial(authenticate, request))


mcp: Final = csrf_exempt(Mcp(OURS).__call__)


def _small_message_in(request: HttpRequest) -> Json:
    """Return the message of a request that is refused before it is read, so that its reply has its id; {} if it is none."""
    with suppress(RequestRefused, MalformedJson):
        sent = body_of(request)
        found = decode(sent) if len(sent) <= SMALL_BYTES else {}
        return found if isinstance(found, dict) else {}
    return {}


async def _stream(request: HttpRequest) -> HttpResponseBase:
    """Return the stream of a session: what changes in the resources that its client watches, or the rest of the stream of a call."""
    caller = await authenticate(request)
    session = await _session_of(request, caller)
    if session is None or eras.EVENT_STREAM not in request.headers.get("Accept", ""):
        raise McpError(jsonrpc.INVALID_REQUEST, NO_STREAM)
    stream_limits.open_streams().refuse_if_full(caller)
    note(user=caller.user_id)
    last_event_id = request.headers.get("Last-Event-ID")
    if last_event_id is None:
        frames = sse.replies(subscriptions.changes(session, caller))
    elif (rest := await _rest(request, caller, session, last_event_id)) is not None:
        frames = sse.replies(rest)
    else:  # clients open the stream again after every response but 204
        return HttpResponse(status=204)
    return held(frames, caller=caller, who_is_it=partial(authenticate, request))


async def _rest(
    request: HttpRequest, caller: Caller, session: sessions.Session, last_event_id: str
) -> AsyncGenerator[bytes] | None:
    """Return the messages of a call after an event; None if there are none. Raises McpError."""
    find = partial(calls.resumed, caller=caller, session=session, last_event_id=last_event_id)
    call, run, seq = await pools.read(find)
    if call.is_cancelled or (run.finished_at is not None and seq >= run.last_seq):
        return None
    note(run=run.id)
    exchange = Exchange(
        caller=caller,
        headers=headers_of(request),
        is_modern=False,
        version=request.headers.get(eras.VERSION_HEADER, eras.FIRST_OVER_HTTP),
        call_id=calls.call_id_of(call),
        session=session.id,
        takes_streams=True,
        capabilities=session.capabilities,
        progress_token=call.progress_token,
    )
    return _encode(followed(exchange, run, with_tree=call.with_tree, call=call, after=seq), exchange)


async def _end(request: HttpRequest) -> HttpResponse:
    """End a session. Its client sends nothing more in it."""
    caller = await authenticate(request)
    note(user=caller.user_id)
    loads.charge(caller.user_id)
    if (session := await _session_of(request, caller)) is not None:
        await pools.write(sessions.end, session.id)
    return HttpResponse(status=204)


async def _session_of(request: HttpRequest, caller: Caller) -> sessions.Session | None:
    """Return the session that the headers name; None without one. Raises McpError if it has ended."""
    if (session := sessions.session_in(request.headers, caller)) is not None:
        await sessions.refuse_if_ended(session.id)
    return session


OF_SESSIONS: Final = MappingProxyType({"GET": _stream, "DELETE": _end})
"""HTTP method → the action of a request that has the header of a session but no message (Transports, "Session Management")."""


async def _accept(request: HttpRequest, body: Json, caller: Caller) -> HttpResponse:
    """Take a notification, or the reply of a client."""
    session = None if eras.is_modern(body, request.headers) else await _session_of(request, caller)
    if not isinstance(body.get("method"), str) and not body.keys() & {"result", "error"}:
        raise McpError(jsonrpc.INVALID_REQUEST, "A JSON-RPC message has a method, a result or an error.")
    if "method" not in body:
        await dialog.take(caller, body)
    elif body["method"] == calls.NOTIFICATION and session is not None:
        await pools.write(calls.cancel, caller=caller, session=session, params=body.get("params"))
    return HttpResponse(status=202)


async def _await_first(messages: Messages, *, seconds: float | None) -> "Result | list[Message | Coming] | None":
    """Return the result if it comes within the time, or else what the stream begins with. Without a time, wait for the result.

    None: the client has cancelled the call. If the client leaves meanwhile, the work ends.
    """
    begun: list[Message | Coming] = []
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    while True:
        coming: Coming = asyncio.ensure_future(anext(messages, None))
        try:
            left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
            await asyncio.wait({coming}, timeout=left)
        except asyncio.CancelledError:
            coming.cancel()
            await asyncio.wait({coming})
            await messages.aclose()
            raise
        if not coming.done():
            return [*begun, coming]
        message = coming.result()
        if message is None or isinstance(message, Result):
            return message
        if isinstance(message, Beginning):
            begun.append(message)
        elif deadline is not None:
            return [*begun, message]


async def _continue(begun: "list[Message | Coming]", messages: Messages) -> Messages:
    """Yield what the stream begins with, and the messages that follow."""
    try:
        for each in begun:
            message = await each if isinstance(each, asyncio.Future) else each
            if message is not None:
                yield message
        async for message in messages:
            yield message
    finally:
        await messages.aclose()


async def _encode(messages: Messages, exchange: Exchange) -> AsyncGenerator[bytes]:
    """Yield the messages as frames. An error after the beginning of the stream is its last message."""
    try:
        async for message in messages:
            if isinstance(message, Beginning):
                yield f"id: {message.event_id}\ndata:\n\n".encode()
            else:
                sent = await _reply(message, exchange) if isinstance(message, Result) else message.to_json()
                yield sse.frame(sent, event_id=message.event_id)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        yield sse.frame(failure(error, call_id=exchange.call_id, is_modern=exchange.is_modern).to_json())
    finally:
        await messages.aclose()


async def _reply(result: Result, exchange: Exchange) -> Any:
    """Return the reply, encoded on a thread: it may have a whole tree, once as data and once as text."""
    reply = Reply(id=exchange.call_id, result=result.of_era(is_modern=exchange.is_modern))
    return await pools.read(encoded, reply.to_json())


async def resource_metadata(request: HttpRequest, resource: str = "") -> HttpResponseBase:
    """`GET /.well-known/oauth-protected-resource[/mcp]`. Public; 404 unless the operator has named authorization servers."""
    try:
        require_method(request, "GET", "HEAD")
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)
    if not has_authorization_servers():
        return HttpResponse(status=404)
    shown: Json = {
        "resource": (public_url(request) + resource).rstrip("/"),
        "authorization_servers": list(settings.APFLOW.mcp.authorization_servers),
        "bearer_methods_supported": ["header"],
        "resource_name": RESOURCE_NAME,
    }
    return json_response(shown)


def has_authorization_servers() -> bool:
    """Return whether a token is needed, and authorization servers issue it."""
    return bool(settings.APFLOW.auth.is_on and settings.APFLOW.mcp.authorization_servers)


def challenge(request: HttpRequest) -> str:
    """Return the header `WWW-Authenticate` of a request without a valid token."""
    url = f"{public_url(request)}{WELL_KNOWN}/mcp"
    return f'Bearer resource_metadata="{quote(url, safe=":/[]%")}"' if has_authorization_servers() else "Bearer"
