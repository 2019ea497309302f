"""The WebSocket executor against real servers on loopback, good and hostile ones."""

import asyncio
import base64
import contextlib
import hashlib
import socket
import socketserver
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator
from pytest_django import Settings
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from aipartnerupflow.executors import Context, ExecutorError
from tasks.executors.http import safe_http
from tasks.executors.websocket.executor import WebSocket
from tests import sections
from tests.certificates import server_context
from tests.faults.judge import tell
from tests.tasks.executors.conftest import Web, count_around_begin

pytestmark = pytest.mark.usefixtures("allow_loopback")
Json = dict[str, Any]
CANARY: Final = "canary-secret"
Talk = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def served(talk: Talk, **options: Any) -> AsyncIterator[str]:
    """The URL of a server that does this with each connection."""
    async with serve(talk, "127.0.0.1", 0, **options) as server:
        (listening,) = server.sockets
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/"


async def call(inputs: Json, context: Context) -> Json:
    Draft202012Validator(WebSocket.input_schema).validate(inputs)
    result: Json = await WebSocket().execute(inputs, context)
    Draft202012Validator(WebSocket.result_schema).validate(result)
    return result


async def refusal(inputs: Json, context: Context) -> ExecutorError:
    with pytest.raises(ExecutorError) as caught:
        await WebSocket().execute(inputs, context)
    assert CANARY not in str(caught.value)
    return caught.value


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def sends(*messages: str | bytes, code: int | None = 1000, reason: str = "") -> Talk:
    """Sends these, and closes; None: says nothing more."""

    async def talk(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        if code is not None:
            await connection.close(code, reason)
        await connection.wait_closed()

    return talk


@pytest.mark.parametrize(
    ("message", "response"),
    [("Hello", "Hello"), ({"a": [1, None]}, {"a": [1, None]}), ([1], [1]), ("{not json", "{not json"), ("ä", "ä")],
)
async def test_the_answer_comes_back(message: Any, response: Any, context: Context) -> None:
    async with served(echo) as url:
        result = await call({"url": f"{url}?token={CANARY}", "message": message}, context)
    assert result == {"response": response, "messages": [response], "url": url}


async def test_the_beginning_is_stored_before_the_message_is_sent(context: Context) -> None:
    received = list[str | bytes]()

    async def listen(connection: ServerConnection) -> None:
        async for message in connection:
            received.append(message)
            await connection.send(message)

    async with served(listen) as url:
        counted = await count_around_begin(partial(call, {"url": url, "message": "m"}), context, lambda: len(received))
    assert (counted, WebSocket.begins_itself) == ((0, [0], 1), True)


async def test_bytes_come_back_in_base64(context: Context) -> None:
    async with served(sends(b"\x00\xff")) as url:
        assert (await call({"url": url}, context))["response"] == {"base64": "AP8="}


async def test_nothing_is_waited_for_unless_wanted(context: Context) -> None:
    heard: list[Any] = []

    async def listen(connection: ServerConnection) -> None:
        heard.append(await connection.recv())
        await connection.wait_closed()

    async with served(listen) as url:
        result = await call({"url": url, "message": "x", "wait_response": False}, context)
    assert (result["response"], result["messages"], heard) == (None, [], ["x"])


async def test_several_messages_are_waited_for_or_those_before_the_end(
    context: Context, reports: list[tuple[float, str]]
) -> None:
    async with served(sends("a", "b", "c")) as url:
        assert (await call({"url": url, "max_messages": 2}, context))["messages"] == ["a", "b"]
        assert (await call({"url": url, "max_messages": 9}, context))["messages"] == ["a", "b", "c"]
    assert reports[:2] == [(0.5, "1 of 2 messages"), (1.0, "2 of 2 messages")]


async def test_the_handshake_has_the_headers_and_protocols(context: Context) -> None:
    asked: list[Request] = []

    async def keep(connection: ServerConnection, request: Request) -> None:
        asked.append(request)

    async with served(echo, process_request=keep, subprotocols=["chat"]) as url:
        given = {"auth": {"bearer": CANARY}, "headers": {"X-Team": "blue"}, "subprotocols": ["v9", "chat"]}
        await call({"url": url, "message": "x", **given}, context)
    headers = asked[0].headers
    assert (headers["Authorization"], headers["X-Team"]) == (f"Bearer {CANARY}", "blue")
    assert (headers["Sec-WebSocket-Protocol"], headers["User-Agent"]) == ("v9, chat", "aipartnerupflow")
    assert "Sec-WebSocket-Extensions" not in headers


@pytest.mark.parametrize(
    ("code", "reason", "is_permanent"), [(1008, "no entry", True), (1011, "", False), (1013, "later", False)]
)
async def test_a_close_code_and_its_reason_are_the_error(
    code: int, reason: str, is_permanent: bool, context: Context
) -> None:
    async with served(sends(code=code, reason=reason)) as url:
        error = await refusal({"url": url, "message": "x"}, context)
    assert f"with code {code}{f' ({reason})' if reason else ''}." in str(error)
    assert error.permanent is is_permanent


async def test_an_end_before_any_answer_is_a_failure(context: Context) -> None:
    async with served(sends()) as url:
        assert "closed the connection before it answered with code 1000" in str(await refusal({"url": url}, context))


@pytest.mark.parametrize(
    ("status", "says", "is_permanent"),
    [
        (302, "answered 302 instead of opening a WebSocket. Redirects are not followed", True),
        (403, "answered 403 instead of opening a WebSocket.", True),
        (429, "answered 429", False),
        (503, "answered 503", False),
    ],
)
async def test_a_refused_handshake_says_the_status_and_redirects_are_not_followed(
    status: int, says: str, is_permanent: bool, context: Context
) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus(status), "")
        response.headers["Location"] = "ws://127.0.0.1:1/"
        return response

    async with served(echo, process_request=refuse) as url:
        error = await refusal({"url": url, "auth": {"bearer": CANARY}}, context)
    assert says in str(error)
    assert error.permanent is is_permanent


async def test_a_web_server_is_no_websocket_server(web: Web, context: Context) -> None:
    web.answer(200, b"<html>")
    error = await refusal({"url": web.url.replace("http", "ws")}, context)
    assert "does not speak WebSocket" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "ws://169.254.169.254/",
        "ws://10.0.0.1/",
        "ws://[::1]/",
        "ws://2130706433/",
        "ws://user@example.com/",
        "http://127.0.0.1/",
        "ws:127.0.0.1",
        "wss://example.com/#x",
    ],
)
async def test_other_addresses_are_refused(url: str, context: Context) -> None:
    assert (await refusal({"url": url}, context)).permanent


async def test_a_port_that_is_not_allowed_is_refused(settings: Settings, context: Context) -> None:
    settings.APFLOW_REST_ALLOWED_PORTS = (80, 443)
    async with served(echo) as url:
        assert "is not allowed" in str(await refusal({"url": url, "message": "x"}, context))


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "Upgrade", "Host", "X\r\nY"])
async def test_headers_of_the_handshake_are_the_clients(name: str, context: Context) -> None:
    async with served(echo) as url:
        assert (await refusal({"url": url, "headers": {name: "x"}}, context)).permanent


async def test_the_certificate_is_checked_against_the_name(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.APFLOW_ALLOW_PRIVATE = ("localhost", "127.0.0.0/8", "::1")
    tls = server_context(tmp_path, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    safe_http.tls_context.cache_clear()
    try:
        async with served(echo, ssl=tls) as url:
            right = url.replace("ws://127.0.0.1", "wss://localhost")
            assert (await call({"url": right, "message": "x"}, context))["response"] == "x"
            error = await refusal({"url": url.replace("ws:", "wss:"), "message": "x"}, context)
    finally:
        safe_http.tls_context.cache_clear()
    assert "the certificate is refused" in str(error)
    assert error.permanent


async def test_an_answer_that_is_late_or_never_begins_ends_at_the_timeout(context: Context) -> None:
    async with served(sends("a", code=None)) as url:
        late = await refusal({"url": url, "max_messages": 2, "timeout_seconds": 0.3}, context)
    assert "no complete answer within 0.3 s" in str(late)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/?{CANARY}"
        assert "no complete answer within 0.3 s" in str(await refusal({"url": url, "timeout": 0.3}, context))


async def test_nothing_listens(context: Context) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await refusal({"url": f"ws://127.0.0.1:{unused.getsockname()[1]}/"}, context)
    assert ("cannot connect" in str(error), error.permanent) == (True, False)


async def test_cancelling_closes_the_connection(context: Context) -> None:
    joined, left = asyncio.Event(), asyncio.Event()

    async def wait(connection: ServerConnection) -> None:
        joined.set()
        await connection.wait_closed()
        left.set()

    async with served(wait) as url:
        task = asyncio.create_task(WebSocket().execute({"url": url}, context))
        await joined.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(left.wait(), 10)


async def test_a_message_over_the_limit_is_refused(settings: Settings, context: Context) -> None:
    limits = sections.replace(settings.APFLOW.limits, result_bytes=10_000)
    settings.APFLOW = sections.replace(settings.APFLOW, limits=limits)
    async with served(sends("x" * 10_001)) as url:
        error = await refusal({"url": url}, context)
    assert "sent more than a result may have" in str(error)
    assert error.permanent


# --- hostile servers, which do not keep to the protocol ---


@contextmanager
def flooding(frames: bytes) -> Iterator[str]:
    """A server that opens each WebSocket, and then sends these frames again and again."""

    class Flood(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the client has had enough
                _flood(self.request, frames)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Flood) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def _flood(connection: socket.socket, frames: bytes) -> None:
    asked = connection.recv(65_536).decode()
    (key,) = [line.split(": ")[1] for line in asked.split("\r\n") if line.lower().startswith("sec-websocket-key")]
    accept = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
    lines = ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade")
    answer = "\r\n".join([*lines, f"Sec-WebSocket-Accept: {base64.b64encode(accept).decode()}", "", ""])
    connection.sendall(answer.encode())
    while True:
        connection.sendall(frames)


PINGS: Final = b"\x89\x00" * 32_768
PARTS: Final = b"\x01\x00" + b"\x00\x00" * 32_767
"""A text message of empty parts, which has no end."""
LARGE: Final = b"\x82\x7e\xff\xff" + b"x" * 65_535


@pytest.mark.parametrize("frames", [PINGS, PARTS, LARGE], ids=["pings", "parts", "large"])
async def test_a_flood_is_cut_off_and_holds_up_nobody(frames: bytes, context: Context) -> None:
    """Between two turns of the loop there is processor time for a few thousand frames, the most that a task takes."""
    longest, is_over = 0.0, False

    async def bystander() -> None:
        nonlocal longest
        while not is_over:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(bystander())
    with flooding(frames) as url:
        error = await refusal({"url": url, "max_messages": 1_000, "timeout_seconds": 120}, context)
    is_over = True
    await watching
    tell(f"the longest turn of the loop: {longest * 1000:.1f} ms of processor time")
    assert "sent more than a result may have" in str(error)
