"""`GET /metrics` and `/health` on a port of their own (`worker.metrics_port`), for machines without a web process."""

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

REQUEST_SECONDS: Final = 5.0
"""The seconds that a request may take in all, from the connection to the end of its reply."""
MOST_AT_ONCE: Final = 16
"""Further connections are closed at once. Usually there is one: that of Prometheus."""


class Handler(WSGIRequestHandler):
    """Ends the connection after REQUEST_SECONDS, however slowly the client sends or reads."""

    def setup(self) -> None:
        super().setup()
        self._deadline = threading.Timer(REQUEST_SECONDS, self._cut)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        self._deadline.cancel()
        with suppress(OSError):  # the client has gone, or was cut off
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _cut(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def with_health(app: Callable[..., Iterable[bytes]], reply: bytes) -> Callable[..., Iterable[bytes]]:
    """Answer `/health` with the reply, in JSON, and everything else by the application. Uses no database."""

    def route(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/health":
            return app(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(reply)))])
        return [reply]

    return route


class MetricsServer(ThreadingMixIn, WSGIServer):
    """A server with a bounded number of threads."""

    daemon_threads = True

    def __init__(self, host: str, port: int, app: Callable[..., Any]) -> None:
        """Raise OSError if it cannot listen there."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((host, port), Handler)
        self.set_app(app)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error of a client that has gone."""
