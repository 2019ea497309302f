"""Daphne with our limits. By itself it keeps the whole body of a request, however long, before the application hears of it."""

from typing import Any

import orjson
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory
from django.conf import settings

from a2a.core.errors import as_rpc
from a2a.core.exceptions import BodyTooLarge

HEAD = b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"


class LimitedRequest(WebRequest):
    """Refused as soon as its body is known to be too big; what comes after that is read and forgotten."""

    def gotLength(self, length: int | None) -> None:
        self._limit = settings.APFLOW.limits.body_bytes
        self._received = 0
        self._is_refused = False
        super().gotLength(length)
        if length is not None and length > self._limit:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limit:
            self._refuse()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, *line: bytes) -> None:
        if self._is_refused:
            self.channel.loseConnection()
        else:
            super().requestReceived(*line)

    def _refuse(self) -> None:
        """Answer at once, but let the client go on: some read the answer only when they have sent everything."""
        if self._is_refused:
            return
        self._is_refused = True
        self.requestHeaders.removeHeader(b"Expect")  # or Twisted would say "100 Continue" as well
        error = BodyTooLarge(f"The body has more than {self._limit} bytes (limits.body_bytes).")
        body = orjson.dumps(as_rpc(error))
        self.channel.transport.write(HEAD % len(body) + body)


class LimitedHttpFactory(HTTPFactory):
    def buildProtocol(self, address: Any) -> Any:
        protocol = super().buildProtocol(address)
        protocol.requestFactory = LimitedRequest
        return protocol


class LimitedServer(Server):
    """Daphne makes its factories inside `run`; where it keeps them is the one place to have a say."""

    @property
    def http_factory(self) -> HTTPFactory:
        return self._http_factory

    @http_factory.setter
    def http_factory(self, factory: HTTPFactory) -> None:
        self._http_factory = LimitedHttpFactory(factory.server)

    @property
    def ws_factory(self) -> WebSocketFactory:
        return self._ws_factory

    @ws_factory.setter
    def ws_factory(self, factory: WebSocketFactory) -> None:
        factory.setProtocolOptions(failByDrop=False)  # who sends too much is told so: 1009
        self._ws_factory = factory
