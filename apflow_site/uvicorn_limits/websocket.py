"""Uvicorn's WebSocket protocol, fixed to reply to malformed handshakes, too.

Uvicorn leaves the client waiting.
"""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from apflow_site.uvicorn_limits.connections import open_connections


class LimitedWebSocket(WebSocketsSansIOProtocol):
    """Sends the error reply that the websockets library prepares, which uvicorn never sends.

    431 for a header over 8 KiB, 400 for a malformed request. The connection remains one of its
    address until it ends.
    """

    address: str | None = None
    """The address for which the HTTP connection was counted; None if it was not counted."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.address is not None:
            open_connections().release(self.address)
        super().connection_lost(exc)
