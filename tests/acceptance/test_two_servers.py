"""Uvicorn (`serve`) and daphne (`manage.py runserver`) refuse large requests, and notice clients that disconnect.

Only `serve` refuses a large request before it has arrived: `runserver` is for development.
"""

import re
import socket as sockets
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from websockets.exceptions import ConnectionClosed

from tests.a2a.sockets import socket
from tests.ports import free_port
from tests.servers import PYTHON, ROOT, SERVE, Server, new_database, running, until

LIMIT = 200_000
ENV = {"AIPARTNERUPFLOW_LIMITS_BODY_BYTES": str(LIMIT), "DJANGO_DEBUG": "1"}


@pytest.fixture(scope="module", params=["serve", "runserver"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    port = free_port()
    command = {
        "serve": [*SERVE, "--port", str(port)],
        "runserver": [PYTHON, str(ROOT / "manage.py"), "runserver", "--noreload", str(port)],
    }[request.param]
    with new_database() as database, running(command, port=port, database_url=database, env=ENV) as server:
        yield server


def answer_to(server: Server, *pieces: bytes) -> bytes:
    """What comes back for a request that is sent so far and not to its end."""
    host, port = server.url.removeprefix("http://").split(":")
    with closing(sockets.create_connection((host, int(port)), timeout=120)) as connection:
        with suppress(ConnectionError):  # it may close while we send
            for piece in pieces:
                connection.sendall(piece)
        answer = b""
        while b"}" not in answer and (some := connection.recv(65_536)):
            answer += some
        return answer


def head(*fields: str) -> bytes:
    lines = ["POST /tasks HTTP/1.1", "Host: localhost", "Content-Type: application/json", *fields, "", ""]
    return "\r\n".join(lines).encode()


CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"


@pytest.mark.parametrize("server", ["serve"], indirect=True)
@pytest.mark.parametrize(
    "pieces",
    [
        [head(f"Content-Length: {2**40}")],
        [head(f"Content-Length: {2**40}", "Expect: 100-continue")],
        [head("Transfer-Encoding: chunked"), *[CHUNK] * 4],
    ],
)
def test_a_body_that_is_too_big_is_refused_before_it_has_come(server: Server, pieces: list[bytes]) -> None:
    answer = answer_to(server, *pieces)
    assert b"HTTP/1.1 413 " in answer, answer
    assert b"limits.body_bytes" in answer


def test_who_sends_too_much_at_once_reads_why_and_who_sends_little_is_served(server: Server) -> None:
    refused = server.http.post("/tasks", json={"padding": "x" * 5 * LIMIT})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, -32600)
    fits = {"name": "n", "inputs": {"padding": "x" * (LIMIT - 1_000)}}
    assert server.rpc("tasks.create", fits)["name"] == "n"


@pytest.mark.parametrize("server", ["serve"], indirect=True)
def test_a_message_that_is_too_big_closes_the_socket(server: Server) -> None:
    with socket(server.url) as client:
        with suppress(ConnectionClosed):
            client.connection.send("x" * (LIMIT + 1))
        assert client.is_closed_as_too_big()


def handshake_with(server: Server, *fields: str) -> bytes:
    """How the answer to a handshake with these fields begins; empty when the server hangs up. Raises TimeoutError when it says nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    usual = "Host: localhost|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13"
    lines = ["GET /ws HTTP/1.1", *usual.split("|"), "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", *fields, "", ""]
    with closing(sockets.create_connection((host, int(port)), timeout=120)) as connection:
        try:
            connection.sendall("\r\n".join(lines).encode())
            return connection.recv(12)
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    "fields",
    [
        *([f"Authorization: Bearer {'x' * size}"] for size in (9_000, 13_000, 70_000, 2_000_000)),
        [f"X-{number}: x" for number in range(500)],
    ],
    ids=["9 kB", "13 kB", "70 kB", "2 MB", "500 headers"],
)
def test_a_handshake_that_is_too_much_is_answered_at_once(server: Server, fields: list[str]) -> None:
    assert handshake_with(server, *fields) in (b"", b"HTTP/1.1 101", b"HTTP/1.1 400", b"HTTP/1.1 431")
    with socket(server.url) as client:
        assert client.ask(action="ping") == {"type": "pong"}


def clients(server: Server, transport: str) -> int:
    """How many the server knows of."""
    found = re.search(rf'apflow_stream_clients{{transport="{transport}"}} (\d+)', server.http.get("/metrics").text)
    return int(found[1]) if found else 0


def test_a_client_that_goes_away_is_noticed_and_the_run_goes_on(server: Server) -> None:
    task = {"id": "t", "name": "sleep_executor", "inputs": {"seconds": 500, "steps": 1000}}
    task_id = server.rpc("tasks.execute", {"tasks": [task]})["task_id"]
    with server.events(task_id) as events, socket(server.url) as client:
        assert next(events)["seq"] == 1
        client.send(action="ping")
        client.until("pong")
        for transport in ("sse", "websocket"):
            until(lambda: clients(server, transport) == 1, seconds=60, what=f"the client of {transport} alone")  # noqa: B023
    for transport in ("sse", "websocket"):
        until(lambda: not clients(server, transport), seconds=60, what=f"the end of {transport}")  # noqa: B023
    progress = server.rpc("tasks.get", {"task_id": task_id})["progress"]
    until(
        lambda: server.rpc("tasks.get", {"task_id": task_id})["progress"] > progress, seconds=60, what="the next step"
    )
    server.rpc("tasks.cancel", {"task_ids": [task_id]})
    assert [event["type"] for event in server.finished(task_id)][-2:] == ["final", "stream_end"]
