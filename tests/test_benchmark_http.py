"""The benchmark of HTTP: its table, and its refusal of answers that would make a failing server look fast."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.error import HTTPError

import pytest

from benchmarks import http
from benchmarks.bare_app import COLUMNS
from tasks.models.trees import Task


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Serve one answer to all requests. Yields the port."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, b"{}", HTTPError),
        (200, b'{"error":{"code":-32603}}', AssertionError),
        (200, b'{"result":{"status":"failed"}}', AssertionError),
    ],
)
def test_a_wrong_answer_ends_the_benchmark(status: int, body: bytes, error: type[Exception]) -> None:
    call = http.rpc("tasks.execute", {"wait": True}, is_right=lambda result: result["status"] == "completed")
    with answering(status, body) as port, pytest.raises(error):
        call.check(port)


def test_a_right_answer_does_not() -> None:
    call = http.rpc("tasks.execute", {"wait": True}, is_right=lambda result: result["status"] == "completed")
    with answering(200, b'{"result":{"status":"completed"}}') as port:
        call.check(port)


def test_ratios_are_of_the_same_round() -> None:
    bare = http.Figures(rates={1: [100.0, 1000.0], 16: [1.0, 1.0]}, cpu={1: [10.0, 10.0], 16: [10.0, 10.0]})
    ours = http.Figures(rates={1: [50.0, 250.0], 16: [1.0, 1.0]}, cpu={1: [20.0, 30.0], 16: [10.0, 10.0]})
    shown = http.table("sqlite", {http.BARE: bare, "tasks.get": ours})
    assert shown.splitlines()[-1] == "| tasks.get | 150 (0.38) | 1 (1.00) | 25 | 10 |"


def test_the_bare_route_reads_the_columns_that_users_see() -> None:
    fields = {field.attname for field in Task._meta.concrete_fields}
    assert set(COLUMNS) == fields - Task.PRIVATE
