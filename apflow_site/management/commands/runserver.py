"""`manage.py runserver`: daphne's development server with our limits and an embedded worker.

Without the limits it buffers a whole request body of any size before the application runs.
"""

import atexit
from typing import Any

import orjson
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.management.commands.runserver import Command as DaphneRunserver
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory
from django.conf import settings

from a2a.core.errors import as_rpc
from a2a.core.exceptions import BodyTooLarge
from apflow_site.embedded_worker import EmbeddedWorker
from apflow_site.prepare import prepare

HEAD = b"HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"


class LimitedRequest(WebRequest):
    """A request that is rejected with 413 once its body exceeds `limits.body_bytes`.

    The rest is discarded.
    """

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
        """Reply at once, but keep reading: some clients send the whole body before they read."""
        if self._is_refused:
            return
        self._is_refused = True
        self.requestHeaders.removeHeader(b"Expect")  # or Twisted would also send "100 Continue"
        error = BodyTooLarge(f"The body has more than {self._limit} bytes (limits.body_bytes).")
        body = orjson.dumps(as_rpc(error))
        self.channel.transport.write(HEAD % len(body) + body)


class LimitedHttpFactory(HTTPFactory):
    def buildProtocol(self, address: Any) -> Any:
        protocol = super().buildProtocol(address)
        protocol.requestFactory = LimitedRequest
        return protocol


class LimitedServer(Server):
    """Daphne with our factories.

    It creates its own in `run`, so the setters of these attributes replace them.
    """

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
        factory.setProtocolOptions(failByDrop=False)  # close with 1009 if a message is too big
        self._ws_factory = factory


class Command(DaphneRunserver):
    """Starts and stops the embedded worker here: daphne does not support ASGI's lifespan."""

    server_cls = LimitedServer

    def inner_run(self, *args: Any, **options: Any) -> None:
        prepare()
        embedded = EmbeddedWorker()
        embedded.start()
        atexit.register(embedded.stop)
        # Takes the secrets out of the environment, from which the reloader starts this process.
        from apflow_site.asgi import answer_requests  # noqa: PLC0415

        answer_requests()
        super().inner_run(*args, **options)
