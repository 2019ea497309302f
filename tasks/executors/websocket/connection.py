"""A WebSocket connection to an address that was checked, which limits what the other side may send.

All tasks of a worker share one loop, and each frame costs processor time there. So a server may send
no more bytes and frames than a task needs, and what arrives at once is read in small pieces.
"""

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, cast

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from aipartnerupflow.executors import ExecutorError
from tasks.executors.http.rest import PASSING
from tasks.executors.http.safe_http import (
    CONNECT_TIMEOUT_SECONDS,
    checked_headers,
    egress_of_tasks,
    judged_addresses,
    parse_url,
    tls_context,
)

SCHEMES: Final = {"ws": "http", "wss": "https"}
MOST_FRAMES: Final = 2_500
"""Frames of one connection, of all kinds."""
PIECE_BYTES: Final = 2_048
OVERHEAD_BYTES: Final = 2**20
"""The bytes that may arrive besides the messages: the handshake, headers of frames, pings."""
CLOSE_SECONDS: Final = 1.0


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
    opened: Connection | None = None
    for address in addresses:
        try:
            opened = await _opened(
                url,
                host=str(address),
                port=target.port or (443 if secure else 80),
                additional_headers=sent,
                subprotocols=[Subprotocol(each) for each in subprotocols] or None,
                max_size=most_bytes,
                **secure,
            )
            break
        except (OSError, InvalidHandshake) as error:
            is_last = address == addresses[-1]
            if is_last or not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
                raise _failure(what, error) from None
    assert opened is not None  # noqa: S101  (a name has at least one address)
    async with opened as connection:
        yield connection


async def _opened(url: str, **options: Any) -> Connection:
    limited = partial(Connection, most_bytes=options["max_size"] + OVERHEAD_BYTES)
    connection = await _Connect(
        url,
        create_connection=cast("type[Connection]", limited),
        compression=None,  # a few bytes could become many
        proxy=None,
        user_agent_header="aipartnerupflow",
        open_timeout=CONNECT_TIMEOUT_SECONDS,
        close_timeout=CLOSE_SECONDS,
        **options,
    )
    return cast("Connection", connection)


def shown(url: str) -> str:
    """Return the URL without its query."""
    return url.partition("?")[0]


def _failure(what: str, error: OSError | InvalidHandshake) -> ExecutorError:
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
