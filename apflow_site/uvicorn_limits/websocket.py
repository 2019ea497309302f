"""Uvicorn's WebSocket protocol, fixed to reply to malformed handshakes, too.

Uvicorn leaves the client waiting.
"""

from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from a2a.endpoints.consumers import BEFORE_LOGIN_BYTES, LARGE_MESSAGES
from apflow_site.uvicorn_limits.connections import open_connections, pace_of_reader


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
