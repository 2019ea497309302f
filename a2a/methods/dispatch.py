"""Dispatches a request: find the method, validate the parameters, call it, and format the result."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec
import orjson
from django.conf import settings

from a2a.core.errors import failure_of
from a2a.core.exceptions import UnknownMethod
from a2a.core.http import Headers
from a2a.core.jsonrpc import Call, Failure, Id, Reply, Request, Response
from a2a.core.mapping import a2a_message, a2a_update
from a2a.core.metrics import metered, note
from a2a.core.parsing import Params
from a2a.live import stream_limits
from a2a.live.sse import Stream
from a2a.methods import METHODS, SYSTEM_METHODS
from a2a.methods.method import Method
from accounts.callers import Caller, Role
from apflow_site.db import pools
from apflow_site.db.at_once import at_once
from tasks.ids import new_id
from tasks.rules.exceptions import InvalidParams, ResponseTooLarge, RoleTooLow
from tasks.rules.strict_json import Json
from tasks.rules.words import as_sent
from tasks.services.trees import idempotency
from tasks.services.trees.idempotency import Token
from tasks.storage import loads
from tasks.storage.loads import limited_loads

MAX_KEY_CHARACTERS: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The methods of an endpoint and the format of its results.

    `other` handles calls that are not in `methods`; `failure` formats errors outside of a call. `reads`: `result` reads
    from the database.
    """

    name: str
    methods: Mapping[str, Method]
    result: Callable[[Method, Caller, Any], Any]
    event: Callable[[Json, Stream, Id], Json]
    reads: bool = False
    other: Callable[..., Awaitable["Outcome"]] | None = None
    failure: Callable[[Exception], Failure] = failure_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a request. `answer` is None for a notification.

    `stream` follows the answer; `replies`, as frames of SSE, are sent instead of it.
    """

    answer: Response | None
    stream: Stream | None = None
    replies: AsyncGenerator[list[bytes]] | None = None


Performed = tuple[Reply, Stream | None]
"""The reply to a call, and the stream that follows it."""


def _native_result(method: Method, caller: Caller, result: Any) -> Any:
    return result.native


def _native_event(event: Json, stream: Stream, call_id: Id) -> Json:
    return as_sent(event, has_tokens=stream.has_tokens)


def _a2a_result(method: Method, caller: Caller, result: Any) -> Any:
    try:
        return result.as_a2a(caller)
    except ResponseTooLarge:
        if method.role is Role.VIEWER:
            raise
        return a2a_message(result.native, message_id=new_id())  # it has been carried out, so the client must know


def _a2a_event(event: Json, stream: Stream, call_id: Id) -> Json:
    """Format an event as a JSON-RPC response with an A2A update, as A2A requires it."""
    return Reply(id=call_id, result=a2a_update(event, context_id=stream.run.context_id)).to_json()


NATIVE = Dialect(name="native", methods=METHODS, result=_native_result, event=_native_event)
A2A = Dialect(name="a2a", methods=METHODS, result=_a2a_result, event=_a2a_event, reads=True)
SYSTEM = Dialect(name="system", methods=SYSTEM_METHODS, result=_native_result, event=_native_event)
REST = Dialect(name="rest", methods={**METHODS, **SYSTEM_METHODS}, result=_native_result, event=_native_event)


async def carry_out(request: Request, *, caller: Caller, dialect: Dialect, headers: Headers) -> Outcome:
    """Execute one request. Does not raise: errors become failures."""
    if isinstance(request, Failure):
        return Outcome(answer=request)
    if dialect.other is not None and request.method not in dialect.methods:
        return await dialect.other(request, caller=caller, headers=headers)
    try:
        reply, stream = await perform(request, caller=caller, dialect=dialect, headers=headers)
        outcome = Outcome(answer=reply, stream=stream)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        outcome = Outcome(answer=failure_of(error, call_id=request.id))
    return Outcome(answer=None) if request.is_notification else outcome


async def perform(call: Call, *, caller: Caller, dialect: Dialect, headers: Headers) -> Performed:
    """Execute a call. Raises the errors of the method and of its parameters."""
    with metered(call.method):
        method = method_named(call.method, dialect.methods)
        note(user=caller.user_id)
        loads.charge(caller.user_id)
        require(caller, method.role, what=call.method)
        llm_key = headers.sent_key()
        keys: dict[str, Any] = {"llm_key": llm_key} if method.takes_llm_key else {}
        if method.takes_url:
            keys["url"] = headers.url
        if headers.idempotency_key is not None and method.is_repeatable:
            return await _perform_once(call, method, caller=caller, dialect=dialect, headers=headers, keys=keys)
        params = method.params.parse(_resuming(call.params, headers))
        _check_stream(params, caller=caller, headers=headers)
        shape = partial(_shaped, dialect, method, caller)
        if not method.is_async:
            read = partial(method.function, caller, params, **keys)
            made = at_once(lambda: encoded(shape(read()))) if params.is_short and not dialect.reads else None
            return Reply(id=call.id, result=made or await pools.read(lambda: encoded(shape(read())))), None
        result = await method.function(caller, params, **keys)
        shown = await pools.read(lambda: encoded(shape(result))) if dialect.reads else shape(result)
        return Reply(id=call.id, result=shown), result.stream


def _shaped(dialect: Dialect, method: Method, caller: Caller, result: Any) -> Any:
    run = getattr(result, "run", None)
    if run is not None:
        note(run=run.id)
    return dialect.result(method, caller, result)


def encoded(value: Any) -> orjson.Fragment:
    """Encode the value as JSON, which the reply around it contains as it is. Encoding a large tree takes long."""
    return orjson.Fragment(orjson.dumps(value))


def method_named(name: str, methods: Mapping[str, Method]) -> Method:
    """Raise UnknownMethod, with the names that come close."""
    if name in methods:
        return methods[name]
    name = name[:100]  # a longer one is close to nothing, and dear to compare
    close = get_close_matches(name, methods)
    hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"Known methods: {', '.join(methods)}."
    raise UnknownMethod(f"Method '{name}' not found. {hint}", data={"close_matches": close})


def require(caller: Caller, role: Role, *, what: str) -> None:
    """Raise RoleTooLow.

    Independent of the parameters, so it reveals nothing about tasks of other users.
    """
    if caller.may(role):
        return
    if caller.is_read_only:
        raise RoleTooLow(f"{what} makes changes, but your API key is read-only. Use another key, or log in.")
    raise RoleTooLow(f"{what} needs the role {role}; yours is {caller.role}. An admin can change it.")


async def _perform_once(
    call: Call,
    method: Method,
    *,
    caller: Caller,
    dialect: Dialect,
    headers: Headers,
    keys: Mapping[str, Any],
) -> Performed:
    """Execute a call with an Idempotency-Key.

    A repetition gets the reply of the first call, and may resume the stream of its run.
    """
    token = token_of(call, dialect=dialect.name, headers=headers)
    params = method.params.parse(call.params)
    _check_stream(params, caller=caller, headers=headers)
    streams = getattr(params, "use_streaming", False)
    known = await pools.read(idempotency.known_response, caller=caller, token=token)
    if known is not None and not streams:
        return Reply(id=call.id, result=known), None
    if streams and headers.last_event_id:
        params = msgspec.structs.replace(params, last_event_id=headers.last_event_id)
    result = await method.function(caller, params, token=token, **keys)
    shape = partial(_shaped, dialect, method, caller, result)
    response = await pools.read(shape) if dialect.reads else shape()
    kept = await pools.write(idempotency.keep_response, caller=caller, token=token, response=response)
    return Reply(id=call.id, result=kept), result.stream


def token_of(call: Call, *, dialect: str, headers: Headers) -> Token:
    """Return the Idempotency-Key and a SHA-256 hash of the request.

    Raises InvalidParams for a malformed key or a batch.
    """
    key = headers.idempotency_key or ""
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
        raise InvalidParams([(idempotency.HEADER, f"must have 1 to {MAX_KEY_CHARACTERS} characters, not {len(key):,}")])
    if not headers.is_single:
        raise InvalidParams([(idempotency.HEADER, "not allowed with a batch: a key applies to one request")])
    request = orjson.dumps([dialect, call.method, call.params], option=orjson.OPT_SORT_KEYS)
    return Token(key=key, request_hash=sha256(request).hexdigest())


def _check_stream(params: Params, *, caller: Caller, headers: Headers) -> None:
    """Check that a requested stream is possible, before the method runs.

    Raises LimitReached, or InvalidParams for a call in a batch.
    """
    if not getattr(params, "use_streaming", False):
        return
    stream_limits.open_streams().refuse_if_full(caller)
    if not headers.is_single:
        raise InvalidParams([("use_streaming", "not allowed in a batch: a stream is the reply to a single request")])


def _resuming(params: Any, headers: Headers) -> Any:
    """Return the parameters. The header `Last-Event-ID` overrides the parameter `last_event_id`.

    A reconnecting browser updates only the header.
    """
    if headers.last_event_id and isinstance(params, dict) and params.get("use_streaming") is True:
        return params | {"last_event_id": headers.last_event_id}
    return params


async def replies_to(requests: Sequence[Request], carry_out: Callable[[Request], Awaitable[Outcome]]) -> bytes:
    """Carry out the calls concurrently. Returns the JSON array of the replies, in the order of the calls.

    Empty for a batch of notifications. Each reply is encoded at once, so that its objects do not wait for the others.
    """
    limits = settings.APFLOW.limits
    left = limits.response_bytes + limits.body_bytes  # what a reply repeats of its request is not loaded

    def encoded(request: Request, answer: Response | None) -> bytes:
        nonlocal left
        if answer is None:
            return b""
        body = orjson.dumps(answer.to_json())
        if len(body) > left:
            body = orjson.dumps(failure_of(ResponseTooLarge(limits.response_bytes), call_id=request.id).to_json())
        left -= len(body)
        return body

    async def reply_to(request: Request) -> bytes:
        return encoded(request, (await carry_out(request)).answer)

    with limited_loads():
        replies = await asyncio.gather(*map(reply_to, requests))
    found = b",".join(filter(None, replies))
    return b"[%s]" % found if found else b""
