"""Sends a message over a WebSocket to an address that was checked, and returns what comes back.

All tasks of a worker share one loop, and each frame costs processor time there. So a server may send
no more bytes and frames than a task needs, and what arrives at once is read in small pieces.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, Final, cast

import httpx
import orjson
from django.conf import settings
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json
from tasks.executors.http.rest import AUTH, PASSING, SECRET, auth_headers, merged_headers
from tasks.executors.http.safe_http import (
    CONNECT_TIMEOUT_SECONDS,
    checked_headers,
    egress_of_tasks,
    judged_addresses,
    parse_url,
    tls_context,
)
from tasks.executors.timeouts import timeout_of, timeout_schema

SCHEMES: Final = {"ws": "http", "wss": "https"}
MOST_FRAMES: Final = 2_500
"""Frames of one connection, of all kinds."""
PIECE_BYTES: Final = 2_048
OVERHEAD_BYTES: Final = 2**20
"""The bytes that may arrive besides the messages: the handshake, headers of frames, pings."""
CLOSE_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 30
MOST_MESSAGES: Final = 1_000
NORMAL: Final = frozenset({1000, 1001})
FOR_GOOD: Final = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes (RFC 6455, 7.4.1) after which the same message would be refused again."""


class Connection(ClientConnection):
    """A connection that is cut when more arrives than allowed; then `is_flooded`."""

    def __init__(self, *args: Any, most_bytes: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_flooded = False
        self._most_bytes = most_bytes
        self._bytes = self._frames = 0

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            self._bytes += len(piece)
            if self._bytes > self._most_bytes or self._frames > MOST_FRAMES:
                self.is_flooded = True
                self.transport.abort()
                return
            super().data_received(piece)

    def process_event(self, event: Any) -> None:
        self._frames += 1
        super().process_event(event)


class _Connect(connect):
    """Follows no redirects: their targets are not checked."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def as_http(url: str) -> httpx.URL:
    """Return the URL with http for ws, and https for wss. Raises ExecutorError for any other URL."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in SCHEMES:
        raise ExecutorError(
            "inputs.url: must begin with ws:// or wss://, and have no user name, '#', backslash or space.",
            permanent=True,
        )
    return parse_url(SCHEMES[scheme.lower()] + separator + rest)


@asynccontextmanager
async def connected(
    url: str, *, headers: Mapping[str, str], subprotocols: Sequence[str], most_bytes: int
) -> AsyncIterator[Connection]:
    """Connect, and close at the end within a second. A message may have `most_bytes`, and all of them together.

    Raises ExecutorError, whose text contains no header and no query.
    """
    target = as_http(url)
    what = shown(url)
    addresses = await judged_addresses(target, egress=egress_of_tasks())
    secure: dict[str, Any] = {"ssl": tls_context()} if target.scheme == "https" else {}
    sent = checked_headers(headers)
    if reserved := [name for name in sent if name.lower().startswith("sec-websocket-")]:
        raise ExecutorError(f"The header {reserved[0]!r} cannot be set by a task. Remove it.", permanent=True)
    limited = partial(Connection, most_bytes=most_bytes + OVERHEAD_BYTES)
    opened: Connection | None = None
    for address in addresses:
        try:
            connecting = _Connect(
                url,
                create_connection=cast("type[Connection]", limited),
                host=str(address),
                port=target.port or (443 if secure else 80),
                additional_headers=sent,
                subprotocols=[Subprotocol(each) for each in subprotocols] or None,
                compression=None,  # a few bytes could become many
                proxy=None,
                user_agent_header="aipartnerupflow",
                open_timeout=CONNECT_TIMEOUT_SECONDS,
                close_timeout=CLOSE_SECONDS,
                max_size=most_bytes,
                **secure,
            )
            opened = cast("Connection", await connecting)
            break
        except (OSError, InvalidHandshake) as error:
            is_last = address == addresses[-1]
            if is_last or not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
                raise _connect_failure(what, error) from None
    assert opened is not None  # noqa: S101  (a name has at least one address)
    async with opened as connection:
        yield connection


def shown(url: str) -> str:
    """Return the URL without its query."""
    return url.partition("?")[0]


def _connect_failure(what: str, error: OSError | InvalidHandshake) -> ExecutorError:
    """Return the error without its text, which may contain the sent message."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ExecutorError(f"{what}: the certificate is refused: {error.verify_message}.", permanent=True)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        hint = " Redirects are not followed: use the final url." if 300 <= status < 400 else ""
        return ExecutorError(
            f"{what} answered {status} instead of opening a WebSocket.{hint}",
            permanent=status < 500 and status not in PASSING,
        )
    if isinstance(error, InvalidHandshake):
        return ExecutorError(f"{what}: the server does not speak WebSocket ({type(error).__name__}).", permanent=True)
    if isinstance(error, TimeoutError):
        return ExecutorError(f"{what}: no connection within {CONNECT_TIMEOUT_SECONDS:g} s.")
    return ExecutorError(f"{what}: cannot connect. Check that the service is up and the address is right.")


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
            message = inputs["message"]
            await connection.send(message if isinstance(message, str) else orjson.dumps(message).decode())
        while len(messages) < wanted:
            received = await connection.recv()
            if isinstance(received, bytes):
                messages.append({"base64": base64.b64encode(received).decode()})
            else:
                try:
                    messages.append(orjson.loads(received))
                except orjson.JSONDecodeError:
                    messages.append(received)
            context.report(len(messages) / wanted, f"{len(messages)} of {wanted} messages")
    except ConnectionClosed as closed:
        if not messages or closed.rcvd is None or closed.rcvd.code not in NORMAL:
            raise _failure(shown(inputs["url"]), connection, closed) from None
    return messages


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
