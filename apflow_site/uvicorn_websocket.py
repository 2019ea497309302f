"""Uvicorn's WebSocket, with an answer to every handshake. By itself it keeps the refusal of one that cannot be read, and the client waits."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class AnsweringWebSocket(WebSocketsSansIOProtocol):
    """The answer is there, 431 for a header of more than 8 KiB, 400 for what is no request; uvicorn only looks for a request."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
            self.handshake_complete = self.close_sent = True
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
