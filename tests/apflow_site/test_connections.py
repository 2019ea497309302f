"""Limits of uvicorn's connections: real connections to our protocol classes, which serve a small application."""

import asyncio
import logging
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.sync.client import connect

from apflow_site.uvicorn_limits import connections as pace
from apflow_site.uvicorn_limits import limit_connections
from apflow_site.uvicorn_limits.connections import JOINED_BYTES, UNFINISHED_REQUESTS, JoinedWrites, open_connections
from tests.sections import replace
from tests.servers import until

KIB: Final = 1024
MIB: Final = 2**20
LARGE_PARTS: Final = 32
"""Mebibytes of a large response: more than the kernel keeps for a client that does not read."""
HEADER_BYTES: Final = 64 * KIB
PATIENCE_SECONDS: Final = 150.0

Limit = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The server. `pause` holds the rest of the response to `/paused` back."""

    port: int
    pause: threading.Event

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS) as connection:
            yield connection

    def answer(self, *parts: bytes) -> bytes:
        """All that comes back on one connection, until the server closes it."""
        with self.connection() as connection:
            with suppress(ConnectionError):  # it may close while we send
                for part in parts:
                    connection.sendall(part)
            return everything(connection)


def everything(connection: socket.socket) -> bytes:
    seen = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65_536):
            seen += data
    return seen


@pytest.fixture
def limit(settings: LazySettings) -> Limit:
    def change(**values: int) -> None:
        settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, **values))

    return change


async def send_messages(send: Any, count: int) -> None:
    for _ in range(count):
        await send({"type": "websocket.send", "bytes": bytes(MIB)})


async def send_parts(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for left in reversed(range(LARGE_PARTS)):
        await send({"type": "http.response.body", "body": bytes(MIB), "more_body": left > 0})


@pytest.fixture
def log_level() -> Iterator[None]:
    """Uvicorn's loggers get the levels that they had."""
    loggers = [logging.getLogger(f"uvicorn{name}") for name in ("", ".error", ".access", ".asgi")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def site(request: pytest.FixtureRequest, log_level: None) -> Iterator[Site]:
    """A parameter is the log level of uvicorn."""
    pause = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            limit_connections(receive)
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send_messages(send, LARGE_PARTS if scope["path"] == "/large" else 0)
            while (await receive())["type"] != "websocket.disconnect":
                pass
        else:
            if scope["path"] != "/early":
                while (await receive()).get("more_body"):
                    pass
            if scope["path"] == "/large":
                return await send_parts(send)
            headers = [(b"content-length", b"2"), (b"x-client", scope["client"][0].encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["path"] == "/paused":
                await send({"type": "http.response.body", "body": b"o", "more_body": True})
                await asyncio.to_thread(pause.wait)
                await send({"type": "http.response.body", "body": b"k"})
            else:
                await send({"type": "http.response.body", "body": b"ok"})

    with socket.create_server(("127.0.0.1", 0)) as listening:
        level = getattr(request, "param", None)
        config = uvicorn.Config(application, log_config=None, log_level=level, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until(lambda: server.started, seconds=PATIENCE_SECONDS, what="the start")
        yield Site(port=listening.getsockname()[1], pause=pause)
        pause.set()
        server.should_exit = True
        thread.join()
    assert (open_connections()._by_address, open_connections()._unfinished) == ({}, {})


def get(*fields: str, path: str = "/", close: bool = True) -> bytes:
    usual = ["Host: localhost", *(["Connection: close"] if close else [])]
    return "\r\n".join([f"GET {path} HTTP/1.1", *usual, *fields, "", ""]).encode()


def post(*fields: str, path: str = "/") -> bytes:
    return get(*fields, path=path).replace(b"GET", b"POST", 1)


def x(size: int) -> str:
    return f"X: {'x' * size}"


LARGE: Final = {
    "one line": [get(x(HEADER_BYTES))],
    "one line without an end": [f"GET / HTTP/1.1\r\n{x(8 * HEADER_BYTES)}".encode()],
    "lines without an end": [b"GET / HTTP/1.1\r\n", *[f"{x(9 * KIB)}\r\n".encode()] * 10],
    "101 lines": [get(*[x(1)] * 99)],
    "the URL": [get(path=f"/?{'x' * HEADER_BYTES}")],
    "trailers": [post("Transfer-Encoding: chunked"), b"2\r\nok\r\n0\r\n", *[f"{x(9 * KIB)}\r\n".encode()] * 10],
    "a trailer without an end": [post("Transfer-Encoding: chunked"), b"0\r\nX: ", b"x" * 8 * HEADER_BYTES],
    "a chunk's extension": [post("Transfer-Encoding: chunked"), b"2;", b"x" * 8 * HEADER_BYTES],
    "a second request": [get(close=False), get(x(HEADER_BYTES))],
    "a handshake": [get(x(HEADER_BYTES), "Upgrade: websocket", "Connection: Upgrade")],
}
FINE: Final = {
    "63 KiB": [get(*[x(9 * KIB)] * 7)],
    "100 lines": [get(*[x(1)] * 98)],
    "many small chunks": [post("Transfer-Encoding: chunked"), b"1\r\nx\r\n" * HEADER_BYTES, b"0\r\n\r\n"],
    "a long body": [post(f"Content-Length: {8 * HEADER_BYTES}"), b"x" * 8 * HEADER_BYTES],
    "many requests": [*[get(x(9 * KIB), close=False)] * 20, get()],
}


def test_headers_are_limited_together_wherever_they_are(site: Site) -> None:
    for name, parts in LARGE.items():
        if name == "a second request":
            with site.connection() as connection:
                connection.sendall(parts[0])
                first = connection.recv(KIB)
                while not first.endswith(b"ok"):  # the head and the body may come apart
                    first += connection.recv(KIB)
                assert first.startswith(b"HTTP/1.1 200")
                connection.sendall(parts[1])
                answer = everything(connection)
        else:
            answer = site.answer(*parts)
        assert answer.startswith(b"HTTP/1.1 431"), (name, answer[:200])
        assert b"limits.header_bytes" in answer, name
    for name, parts in FINE.items():
        answer = site.answer(*parts)
        assert answer.count(b"HTTP/1.1 200") == (21 if name == "many requests" else 1), (name, answer[:200])
        assert b"HTTP/1.1 4" not in answer, (name, answer[:200])


@pytest.mark.parametrize("site", ["trace"], indirect=True)
def test_headers_are_limited_also_when_uvicorn_logs_each_message(site: Site) -> None:
    assert site.answer(get(x(HEADER_BYTES))).startswith(b"HTTP/1.1 431")


def test_limits_that_cannot_apply_stop_the_start() -> None:
    with pytest.raises(ImproperlyConfigured, match="The web server is not uvicorn"):
        limit_connections(asyncio.Queue[Any]().get)


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        (HttpToolsProtocol, "send_400_response"),
        (HttpToolsProtocol, "on_body"),
        (WebSocketsSansIOProtocol, "handle_connect"),
    ],
)
async def test_a_uvicorn_without_what_the_limits_need_does_not_start(
    kind: type, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, the limits would be there and never apply."""
    lifespan = LifespanOn(uvicorn.Config(lambda *_: None, log_config=None))
    limit_connections(lifespan.receive)
    monkeypatch.delattr(kind, member)
    with pytest.raises(ImproperlyConfigured, match=f"uvicorn .* has no {member}"):
        limit_connections(lifespan.receive)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], b"HTTP/1.1 408"),
        ([b"\r\n"], b"HTTP/1.1 408"),
        ([b"GET / HTTP/1.1\r\nX: "], b"HTTP/1.1 408"),
        ([post("Content-Length: 10"), b"12345"], b"HTTP/1.1 408"),
        ([post("Content-Length: 10", path="/early").replace(b"close", b"keep-alive"), b"12345"], b"HTTP/1.1 200"),
    ],
    ids=["nothing", "an empty line", "half of the headers", "half of a body", "half of a body after the reply"],
)
def test_what_does_not_arrive_ends_the_connection(site: Site, limit: Limit, parts: list[bytes], status: bytes) -> None:
    limit(header_seconds=60 if status.endswith(b"200") else 1, body_idle_seconds=1)
    assert site.answer(*parts).startswith(status)


def test_an_idle_connection_ends_and_empty_lines_do_not_keep_it_open(site: Site, limit: Limit) -> None:
    limit(header_seconds=5)
    with site.connection() as connection:
        connection.sendall(get(close=False))
        assert connection.recv(KIB).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        assert everything(connection).startswith((b"ok", b"HTTP/1.1 408"))


def test_a_response_may_take_longer_than_the_headers(site: Site, limit: Limit) -> None:
    limit(header_seconds=5, body_idle_seconds=1)
    with site.connection() as slow:
        slow.sendall(get(path="/paused"))
        assert slow.recv(KIB).startswith(b"HTTP/1.1 200")
        assert site.answer().startswith(b"HTTP/1.1 408")  # so that the time has passed
        site.pause.set()
        assert everything(slow).endswith(b"k")


def test_one_address_has_a_limited_number_of_connections_sockets_too(
    site: Site, limit: Limit, settings: LazySettings
) -> None:
    limit(connections_per_address=3, header_seconds=600)
    with ExitStack() as held:
        first = held.enter_context(site.connection())
        held.enter_context(connect(f"ws://127.0.0.1:{site.port}/", open_timeout=PATIENCE_SECONDS))
        held.enter_context(connect(f"ws://127.0.0.1:{site.port}/", open_timeout=PATIENCE_SECONDS))
        refused = site.answer()
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"limits.connections_per_address" in refused
        first.close()
        until(lambda: site.answer(get()).startswith(b"HTTP/1.1 200"), seconds=PATIENCE_SECONDS, what="room for another")
        settings.APFLOW = replace(
            settings.APFLOW, server=replace(settings.APFLOW.server, trusted_proxies=("127.0.0.0/8",))
        )
        for _ in range(5):
            assert held.enter_context(site.connection()).send(get(close=False))
        assert site.answer(get()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("trusted", "sent", "seen"),
    [
        (None, "192.0.2.9", b"127.0.0.1"),
        ((), "192.0.2.9", b"127.0.0.1"),
        (("192.0.2.1",), "192.0.2.9", b"127.0.0.1"),
        (("127.0.0.1",), "192.0.2.9", b"192.0.2.9"),
        (("127.0.0.0/8", "198.51.100.0/24"), "192.0.2.8, 192.0.2.9, 198.51.100.7", b"192.0.2.9"),
    ],
)
def test_only_a_named_proxy_is_believed_the_address_of_its_client(
    settings: LazySettings,
    request: pytest.FixtureRequest,
    trusted: tuple[str, ...] | None,
    sent: str,
    seen: bytes,
) -> None:
    settings.APFLOW = replace(settings.APFLOW, server=replace(settings.APFLOW.server, trusted_proxies=trusted))
    site: Site = request.getfixturevalue("site")
    assert b"x-client: " + seen + b"\r" in site.answer(get(f"X-Forwarded-For: {sent}"))


def test_one_address_has_a_limited_size_of_unfinished_headers(site: Site, limit: Limit) -> None:
    limit(header_seconds=600)
    half = f"GET / HTTP/1.1\r\n{x(HEADER_BYTES // 2)}".encode()
    with ExitStack() as held:
        connections = [held.enter_context(site.connection()) for _ in range(2 * UNFINISHED_REQUESTS)]
        for connection in connections:
            connection.sendall(half)
        refused, _, _ = select.select(connections, [], [], PATIENCE_SECONDS)
        assert refused[0].recv(12) == b"HTTP/1.1 429"
        assert site.answer(get()).startswith(b"HTTP/1.1 200")


def test_the_kernel_ends_a_connection_whose_client_has_gone(site: Site) -> None:
    with site.connection() as connection:
        connection.sendall(get(path="/paused"))
        assert connection.recv(KIB).startswith(b"HTTP/1.1 200")
        ours, theirs = (f"{number:04X}" for number in (connection.getsockname()[1], site.port))
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        (timer,) = (row[5] for row in rows if row[1].endswith(theirs) and row[2].endswith(ours))
        assert timer.startswith("02:")  # the keep-alive timer runs (Linux, proc_net_tcp)


HANDSHAKE: Final = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


@pytest.mark.parametrize("fields", [(), HANDSHAKE], ids=["http", "websocket"])
def test_a_client_that_does_not_read_is_cut_off(
    site: Site, monkeypatch: pytest.MonkeyPatch, fields: tuple[str, ...]
) -> None:
    monkeypatch.setattr(pace, "PERIOD_SECONDS", 0.2)
    with site.connection() as connection:
        connection.sendall(get(*fields, path="/large", close=False))
        assert connection.recv(KIB).startswith(b"HTTP/1.1 ")
        until(lambda: not open_connections()._by_address, seconds=PATIENCE_SECONDS, what="the end of the connection")
        assert len(everything(connection)) < LARGE_PARTS * MIB


def test_a_client_that_reads_slowly_gets_everything(site: Site, limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PERIOD_SECONDS", 5)
    limit(client_bytes_per_second=1)
    with site.connection() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        connection.sendall(get(path="/large"))
        seen, never = 0, threading.Event()
        while data := connection.recv(16 * KIB):
            seen += len(data)
            never.wait(0.003)  # in all longer than the period
    assert seen > LARGE_PARTS * MIB


def test_a_body_that_arrives_a_byte_at_a_time_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PERIOD_SECONDS", 0.2)
    with site.connection() as connection:
        connection.sendall(post("Content-Length: 1000000"))
        while not select.select([connection], [], [], 0.01)[0]:
            connection.sendall(b"x")
        assert everything(connection).startswith(b"HTTP/1.1 408 ")


def test_no_minimum_is_a_choice(site: Site, limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PERIOD_SECONDS", 0.01)
    limit(client_bytes_per_second=0)
    with site.connection() as connection:
        connection.sendall(post("Content-Length: 40"))
        for _ in range(40):
            assert not select.select([connection], [], [], 0.02)[0]
            connection.sendall(b"x")
        assert everything(connection).startswith(b"HTTP/1.1 200 ")


async def test_what_is_written_in_one_turn_is_sent_in_order_and_before_the_end() -> None:
    ours, peers = socket.socketpair()
    with peers:
        peers.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        joined = JoinedWrites(transport, loop)
        joined.write(b"head, ")
        joined.write(b"body; ")
        with pytest.raises(BlockingIOError):  # nothing before the turn ends
            peers.recv(100)
        assert await loop.sock_recv(peers, 100) == b"head, body; "
        joined.write(bytes(JOINED_BYTES + 1))
        assert peers.recv(10) == bytes(10)  # so much is not kept
        joined.write(b"the last")
        joined.close()
        assert joined.is_closing()
        received = b""
        while data := await loop.sock_recv(peers, 65_536):
            received += data
        assert received == bytes(JOINED_BYTES - 9) + b"the last"
