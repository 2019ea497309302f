"""The port for metrics alone: a client that is slow, or many that are, cost it little."""

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from apflow_site import metrics as metrics_server
from apflow_site.metrics import MOST_AT_ONCE, MetricsServer, with_health

PATIENCE_SECONDS = 150.0


def app(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer("127.0.0.1", 0, with_health(app, b"alive")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def connected(server: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE_SECONDS)


def answer(connection: socket.socket, path: str = "/metrics") -> bytes:
    connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    return connection.makefile("rb").read()


def test_a_request_is_answered(server: MetricsServer) -> None:
    with connected(server) as connection:
        assert answer(connection).endswith(b"\r\nok")


def test_health_is_answered_without_the_metrics(server: MetricsServer) -> None:
    with connected(server) as connection:
        assert answer(connection, "/health").endswith(b"\r\nalive")


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.0\r\n"])
def test_what_does_not_end_is_cut_off(server: MetricsServer, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.1)
    with connected(server) as connection, suppress(ConnectionError):  # it is cut off before it was sent
        connection.sendall(sent)
        assert connection.recv(1024) == b""


def test_there_are_only_so_many_at_once(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", PATIENCE_SECONDS)
    held = [connected(server) for _ in range(MOST_AT_ONCE)]
    with connected(server) as one_more:
        assert one_more.recv(1024) == b""
    for connection in held:
        assert answer(connection).endswith(b"ok")
        connection.close()
