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
EVENTS: Final = "GET /tasks/{task_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
SOCKET: Final = (
    "GET /ws?task_id={task_id} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TAIL_BYTES: Final = 4096
"""The end of what came is kept, for a text that is cut in two."""


@dataclass(slots=True)
class Follower:
    """A client that takes what comes. `seconds` has the delay of each event, from its own time to its arrival."""

    request: str
    head: bytes = b""
    seconds: list[float] = field(default_factory=list)
    received: int = 0
    is_over: bool = False

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
    return Follower(SOCKET.format(task_id=task_id))


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
