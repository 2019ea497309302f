"""Many clients that follow trees, over SSE and WebSockets, on one event loop: raw connections that cost the client little."""

import asyncio
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

TIMESTAMP: Final = re.compile(rb'"timestamp":"([^"]+)"')
FINAL: Final = b'"type":"final"'
PING: Final = 0x89
PONG: Final = bytes([0x8A])
IS_MASKED: Final = 0x80
MASK: Final = bytes(4)
"""Of a client's frame; with zeros the text stays as it is."""
EVENTS: Final = "GET /tasks/{task_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
SOCKET: Final = (
    "GET /ws?task_id={task_id} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TAIL_BYTES: Final = 4096
"""The end of what came is kept, for a text that is cut in two."""


class Pings:
    """Finds the pings among the frames of a WebSocket; a server closes the connection of a client that answers none."""

    def __init__(self) -> None:
        self._waiting = b""
        self._is_open = False

    def payloads(self, data: bytes) -> list[bytes]:
        """The payloads of the pings that are complete with these bytes."""
        self._waiting += data
        if not self._is_open:
            _, end, rest = self._waiting.partition(b"\r\n\r\n")
            if not end:
                return []
            self._waiting, self._is_open = rest, True
        found = []
        while (frame := _first_frame(self._waiting)) is not None:
            start, stop = frame
            if self._waiting[0] == PING:
                found.append(self._waiting[start:stop])
            self._waiting = self._waiting[stop:]
        return found


def _first_frame(data: bytes) -> tuple[int, int] | None:
    """Where the payload of the first frame begins and ends, if all of it is there."""
    if len(data) < 2:
        return None
    bytes_of_length = {126: 2, 127: 8}.get(data[1], 0)
    start = 2 + bytes_of_length
    length = int.from_bytes(data[2:start]) if bytes_of_length else data[1]
    return (start, start + length) if len(data) >= start + length else None


def pong(payload: bytes) -> bytes:
    return PONG + bytes([IS_MASKED | len(payload)]) + MASK + payload


@dataclass(slots=True)
class Follower:
    """A client that takes what comes. `seconds` has the delay of each event, from its own time to its arrival."""

    request: str
    head: bytes = b""
    seconds: list[float] = field(default_factory=list)
    received: int = 0
    is_over: bool = False
    answers_pings: bool = False
    _pings: "Pings" = field(default_factory=lambda: Pings())

    async def follow(self, port: int, opened: asyncio.Semaphore) -> None:
        async with opened:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(self.request.encode())
            self.head = await reader.readuntil(b"\r\n")
        rest = b""
        try:
            while not self.is_over and (data := await reader.read(65_536)):
                self.received += len(data)
                rest = self._note(rest + data)
                if self.answers_pings:
                    writer.write(b"".join(map(pong, self._pings.payloads(data))))
        finally:
            writer.close()

    def _note(self, data: bytes) -> bytes:
        """Take the events of these bytes. Returns what belongs to the next ones."""
        now, end = time.time(), 0
        for found in TIMESTAMP.finditer(data):
            self.seconds.append(now - datetime.fromisoformat(found[1].decode()).timestamp())
            end = found.end()
        self.is_over = FINAL in data
        return data[max(end, len(data) - TAIL_BYTES) :]


def sse(task_id: str) -> Follower:
    return Follower(EVENTS.format(task_id=task_id))


def websocket(task_id: str) -> Follower:
    return Follower(SOCKET.format(task_id=task_id), answers_pings=True)


class SlowSocket:
    """A client that sends a request and then takes a byte of the answer every second, through a small buffer."""

    def __init__(self, port: int, request: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(request.encode())

    def take(self) -> bool:
        """A byte, if there is one. False: the server has closed."""
        self._socket.setblocking(False)
        try:
            return self._socket.recv(1) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        self._socket.close()


async def follow_all(followers: Sequence[Follower], port: int, *, at_a_time: int = 50) -> None:
    opened = asyncio.Semaphore(at_a_time)
    await asyncio.gather(*(follower.follow(port, opened) for follower in followers))
