"""Uvicorn's protocols with limits on the size, number and time of headers, and on idle connections.

That of WebSockets replies to malformed handshakes, too, where uvicorn leaves the client waiting.
"""

import asyncio
from http import HTTPStatus
from typing import Any, Final, cast

import orjson
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from a2a.core.errors import as_rpc, rule_of
from a2a.core.exceptions import HeadersTooLarge, RequestRefused, RequestTooSlow, TooManyConnections
from a2a.endpoints.consumers import BEFORE_LOGIN_BYTES, LARGE_MESSAGES
from apflow_site.uvicorn_limits.connections import JoinedWrites, Pace, end_if_dead, open_connections, pace_of_reader

LINE_OVERHEAD: Final = len(b": \r\n")
LINGER_SECONDS: Final = 1.0
"""The seconds for which the connection of a refused request is read and discarded.

A connection that is closed while the client still sends is reset, and the client loses the reply.
"""


class LimitedHttp(HttpToolsProtocol):
    """A connection whose requests have limited headers (`limits.header_bytes`, `limits.headers`).

    Headers arrive within `limits.header_seconds`, a body without a longer pause than
    `limits.body_idle_seconds` and at `limits.client_bytes_per_second`; else the request is refused
    with 431 or 408, and the connection ends. It also ends if the client takes a response too slowly.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        self._limits = settings.APFLOW.limits
        self._deadline: asyncio.TimerHandle | None = None
        self._refusal: RequestRefused | None = None
        self._is_refused = False
        self._held = self._unparsed = self._body_bytes = 0
        self._sending = Pace(self._body_count, self._end_slow_body)
        self._taking = pace_of_reader(transport)
        self._begin_head()
        end_if_dead(transport)
        self.address = self.client[0] if self.client else ""
        self._is_counted = open_connections().admit(self.address)
        if self._is_counted:
            self._expect(self._limits.header_seconds)
        else:
            most = self._limits.connections_per_address
            self._reply(
                TooManyConnections(f"Your address has {most} open connections (limits.connections_per_address).")
            )
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._hold(0)
        self._sending.end()
        self._taking.end()
        if self._is_counted:
            open_connections().release(self.address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._unparsed += len(data)
        super().data_received(data)
        # Of an unfinished line httptools keeps all and reports nothing; trailers of a body, too.
        if self._unparsed > self._limits.header_bytes:
            self._refuse(self._too_large())
        elif not self._hold(self._unparsed):
            self._refuse(TooManyConnections("Your address has too many requests whose headers are unfinished."))
        elif self._is_in_body:
            self._expect(self._limits.body_idle_seconds)
            self._sending.begin()
        elif self._unparsed and self._deadline is None:
            self._expect(self._limits.header_seconds)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking.end()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._sending.end()
        self._taking.end()
        protocol = self.transport.get_protocol()
        if self._is_counted:
            protocol.address = self.address  # type: ignore[attr-defined]

    # --- callbacks of the parser ---

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._add_to_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header. Trailers of a body count, too, and are dropped (RFC 9110, section 6.5.1)."""
        self._headers += 1
        self._add_to_head(len(name) + len(value) + LINE_OVERHEAD)
        if self._awaits_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._expect(None)
        self._unparsed = 0
        self._awaits_head, self._is_in_body = False, True
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._unparsed = 0

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._expect(None)
        self._sending.end()
        self._unparsed = 0
        self._awaits_head, self._is_in_body = True, False
        super().on_message_complete()

    # --- limits ---

    def _begin_head(self) -> None:
        self._awaits_head, self._is_in_body = True, False
        self._head_bytes = self._headers = 0

    def _add_to_head(self, size: int) -> None:
        """Raise HeadersTooLarge, which ends the parser: uvicorn then calls `send_400_response`."""
        self._head_bytes += size
        if self._head_bytes > self._limits.header_bytes or self._headers > self._limits.headers:
            self._refusal = self._too_large()
            raise self._refusal

    def _too_large(self) -> HeadersTooLarge:
        limits = self._limits
        return HeadersTooLarge(
            f"The headers have more than {limits.header_bytes:,} bytes (limits.header_bytes) or {limits.headers} lines (limits.headers)."
        )

    def send_400_response(self, msg: str) -> None:
        if self._refusal is None:
            super().send_400_response(msg)
        else:
            self._refuse(self._refusal)

    def _hold(self, size: int) -> bool:
        """Count the bytes that are held until their line ends. Returns False if the address has too many."""
        more, self._held = size - self._held, size
        return more == 0 or open_connections().hold(self.address, more)

    def _expect(self, seconds: float | None) -> None:
        """Wait at most so long for the next bytes of the request; None: nothing is expected."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._end_wait)

    def _body_count(self) -> int:
        return self._body_bytes

    def _end_slow_body(self) -> None:
        if self.flow.read_paused:  # it is the application that does not read
            self._sending.begin()
        else:
            self._refuse(
                RequestTooSlow(
                    f"The body arrives with less than {self._limits.client_bytes_per_second} bytes per second (limits.client_bytes_per_second)."
                )
            )

    def _end_wait(self) -> None:
        self._deadline = None
        if self._is_in_body and self.flow.read_paused:  # it is the application that does not read
            self._expect(self._limits.body_idle_seconds)
        else:
            self._refuse(
                RequestTooSlow(
                    "The rest of the request did not arrive in time (limits.header_seconds, limits.body_idle_seconds)."
                )
            )

    def _refuse(self, error: RequestRefused) -> None:
        """Reply, and end the connection once the client has had time to read the reply."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self.parser = None  # type: ignore[assignment]  # with what it holds, as uvicorn does at the end
        self._expect(None)
        self._hold(0)
        self._unset_keepalive_if_required()
        if not self._may_reply():
            self.transport.close()
            return
        self._reply(error)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _may_reply(self) -> bool:
        """Return whether no other reply is under way. The application gets no chance to begin one."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        if cycle.response_started or self.pipeline:
            return False
        cycle.disconnected = True
        cycle.message_event.set()
        return True

    def _reply(self, error: RequestRefused) -> None:
        body = orjson.dumps(as_rpc(error))
        self.transport.write(
            STATUS_LINE[rule_of(error).http_status]
            + b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )


class LimitedWebSocket(WebSocketsSansIOProtocol):
    """Sends the error reply that the websockets library prepares, which uvicorn never sends.

    431 for a header over 8 KiB, 400 for a malformed request. The connection remains one of its
    address until it ends.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn.max_message_size = BEFORE_LOGIN_BYTES

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._taking = pace_of_reader(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking.begin()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking.end()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            extensions = cast("dict[str, Any]", self.scope["extensions"])
            extensions[LARGE_MESSAGES] = self.allow_large_messages

    def allow_large_messages(self) -> None:
        """Allow large messages. The application calls this once the client has logged in."""
        self.conn.max_message_size = self.config.ws_max_size

    address: str | None = None
    """The address for which the HTTP connection was counted; None if it was not counted."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._taking.end()
        if self.address is not None:
            open_connections().release(self.address)
        super().connection_lost(exc)
