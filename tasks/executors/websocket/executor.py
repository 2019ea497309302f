"""Sends a message over a WebSocket, and returns what comes back."""

import asyncio
import base64
from typing import Any, ClassVar, Final

import orjson
from django.conf import settings
from websockets.exceptions import ConnectionClosed

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from tasks.executors.http.rest import AUTH, SECRET, auth_headers, merged_headers
from tasks.executors.timeouts import timeout_of, timeout_schema
from tasks.executors.websocket.connection import Connection, as_http, connected, shown

TIMEOUT_SECONDS: Final = 30
MOST_MESSAGES: Final = 1_000
NORMAL: Final = frozenset({1000, 1001})
FOR_GOOD: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes (RFC 6455, 7.4.1) after which the same message would be refused again."""


class WebSocket(Executor):
    """Opens a connection for one exchange, and closes it."""

    id = "websocket_executor"
    name = "WebSocket"
    description = (
        "Sends a message over a WebSocket and returns the answer, or several. Redirects are not followed. "
        "Private addresses, and ports other than 80 and 443, require the operator's permission."
    )
    tags = ("core", "websocket")
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "url": {"type": "string", "minLength": 1, "maxLength": 8192, "description": "ws or wss"},
            "message": {
                "description": "Text, which is sent as it is, or any other JSON value. Default: nothing is sent"
            },
            "wait_response": {"type": "boolean", "default": True, "description": "false: do not wait for an answer"},
            "max_messages": {
                "type": "integer",
                "minimum": 1,
                "maximum": MOST_MESSAGES,
                "default": 1,
                "description": "The number of messages to wait for. Fewer are returned if the server closes the connection",
            },
            "headers": {
                "type": "object",
                "additionalProperties": SECRET,
                "default": {},
                "description": "Headers of the handshake",
            },
            "auth": {**AUTH, "description": "Sent as a header of the handshake"},
            "subprotocols": {
                "type": "array",
                "items": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
                "maxItems": 10,
                "default": [],
                "description": "Protocols to offer, the preferred one first",
            },
            **timeout_schema(TIMEOUT_SECONDS),
        },
        "required": ["url"],
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "response": {"description": "The first message, null if there is none. JSON is parsed; bytes are {base64}"},
            "messages": {"type": "array", "description": "All messages, in their order"},
            "url": {"type": "string", "description": "Without its query"},
        },
        "required": ["response", "messages", "url"],
    }
    secret_inputs = frozenset({"url", "message", "headers", "auth"})
    param_names = frozenset()
    example: ClassVar[Json] = {"url": "wss://echo.example.com/", "message": "Hello"}
    example_result: ClassVar[Json] = {"response": "Hello", "messages": ["Hello"], "url": "wss://echo.example.com/"}
    idempotent = False
    begins_itself = True

    def receiver(self, inputs: Json) -> str | None:
        try:
            return str(as_http(str(inputs.get("url"))))
        except ExecutorError:  # a URL that is refused, or has places
            return str(inputs.get("url"))

    async def execute(self, inputs: Json, context: Context) -> Json:
        url, seconds = inputs["url"], timeout_of(inputs, TIMEOUT_SECONDS)
        headers = merged_headers({}, inputs.get("headers", {}), auth_headers(inputs.get("auth", {})))
        offered, most_bytes = inputs.get("subprotocols", []), settings.APFLOW.limits.result_bytes
        try:
            async with (
                asyncio.timeout(seconds),
                connected(url, headers=headers, subprotocols=offered, most_bytes=most_bytes) as connection,
            ):
                messages = await _exchanged(connection, inputs, context)
        except TimeoutError:
            raise ExecutorError(f"{shown(url)}: no complete answer within {seconds:g} s.") from None
        return {"response": messages[0] if messages else None, "messages": messages, "url": shown(url)}


async def _exchanged(connection: Connection, inputs: Json, context: Context) -> list[Any]:
    """Send the message, and return what the server sends. Raises ExecutorError."""
    wanted = inputs.get("max_messages", 1) if inputs.get("wait_response", True) else 0
    messages: list[Any] = []
    await context.begin()  # opening the connection is a GET, which is safe
    try:
        if "message" in inputs:
            await connection.send(_text(inputs["message"]))
        while len(messages) < wanted:
            messages.append(_value(await connection.recv()))
            context.report(len(messages) / wanted, f"{len(messages)} of {wanted} messages")
    except ConnectionClosed as closed:
        if not messages or _code(closed) not in NORMAL:
            raise _failure(shown(inputs["url"]), connection, closed) from None
    return messages


def _text(message: Any) -> str:
    return message if isinstance(message, str) else orjson.dumps(message).decode()


def _value(message: str | bytes) -> Any:
    if isinstance(message, bytes):
        return {"base64": base64.b64encode(message).decode()}
    try:
        return orjson.loads(message)
    except orjson.JSONDecodeError:
        return message


def _code(closed: ConnectionClosed) -> int:
    """Return the code that the server sent, or 1006 if the connection was cut."""
    return 1006 if closed.rcvd is None else closed.rcvd.code


def _failure(what: str, connection: Connection, closed: ConnectionClosed) -> ExecutorError:
    if connection.is_flooded or (closed.rcvd is None and closed.sent is not None and closed.sent.code == 1009):
        return ExecutorError(
            f"{what}: the server sent more than a result may have (limits.result_bytes).", permanent=True
        )
    if closed.rcvd is None:
        return ExecutorError(f"{what}: the connection was lost.")
    reason = f" ({closed.rcvd.reason})" if closed.rcvd.reason else ""
    when = " before it answered" if closed.rcvd.code in NORMAL else ""
    return ExecutorError(
        f"{what}: the server closed the connection{when} with code {closed.rcvd.code}{reason}.",
        permanent=closed.rcvd.code in FOR_GOOD,
    )
