"""Benchmark of live events: WebSockets and event streams on one web process, all of which receive every event.

    python -m benchmarks.live [sqlite] [postgres] [--sockets 500] [--streams 0]

Starts `aipartnerupflow serve` with a new database for each engine, opens the sockets, and runs a
tree with 10 events a second. The latency is from the event's own time, taken before it is written
to the database, to its arrival at a client. Clients and server share the machine, so a client only
records the time and the bytes, and parses them afterwards. The load average is printed with the
figures.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from functools import partial
from time import time
from typing import Final

from benchmarks.http import MANY_CONNECTIONS, Client, serving_on

EVENTS: Final = 100
SECONDS: Final = 10
TREE: Final = [
    {"id": "steps", "name": "sleep_executor", "inputs": {"seconds": SECONDS, "steps": EVENTS}, "dependencies": ["ask"]},
    {"id": "ask", "name": "approval_executor", "inputs": {"question": "Begin?"}, "parent_id": "steps"},
]
TIMESTAMP: Final = re.compile(rb'"timestamp":"([^"]+)"')
HANDSHAKE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT: Final = 0x81
LENGTH_FOLLOWS: Final = 126


class Watcher(asyncio.Protocol):
    """A WebSocket that only receives, until the run is over."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.is_open, self.is_over = loop.create_future(), loop.create_future()
        self._pieces: list[tuple[float, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self._pieces.append((time(), data))
        if not self.is_open.done():
            self._pieces.clear()
            self._open(is_accepted=data.startswith(b"HTTP/1.1 101 ") and data.endswith(b"\r\n\r\n"), answer=data)
        elif b'"type":"final"' in data and not self.is_over.done():
            self.is_over.set_result(None)

    def _open(self, *, is_accepted: bool, answer: bytes) -> None:
        if is_accepted:
            self.is_open.set_result(None)
        else:
            self.is_open.set_exception(ConnectionError(answer))

    def latencies(self) -> Iterator[float]:
        """Yield the latency of each event, in milliseconds."""
        waiting = b""
        for arrived_at, data in self._pieces:
            waiting += data
            while (end := _end_of_frame(waiting)) <= len(waiting):
                frame, waiting = waiting[:end], waiting[end:]
                if frame[0] == TEXT:
                    event = json.loads(frame[frame.index(b"{") :])["data"]
                    yield (arrived_at - datetime.fromisoformat(event["timestamp"]).timestamp()) * 1_000


def _end_of_frame(data: bytes) -> int:
    """Return where the first frame ends, perhaps beyond the data.

    Our frames are shorter than 64 KiB.
    """
    if len(data) < 4:
        return 4
    return 4 + int.from_bytes(data[2:4]) if data[1] == LENGTH_FOLLOWS else 2 + data[1]


class Follower(Watcher):
    """An event stream (SSE) of the run of a tree."""

    def __init__(self, root: str) -> None:
        super().__init__()
        self._request = f"GET /tasks/{root}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._pieces.append((time(), data))
        if not self.is_open.done():
            self._open(is_accepted=data.startswith(b"HTTP/1.1 200 "), answer=data)
        elif b'"type":"final"' in data and not self.is_over.done():
            self.is_over.set_result(None)

    def latencies(self) -> Iterator[float]:
        for arrived_at, data in self._pieces:
            for stamp in TIMESTAMP.findall(data):
                yield (arrived_at - datetime.fromisoformat(stamp.decode()).timestamp()) * 1_000


async def measure(port: int, *, sockets: int, streams: int) -> list[float]:
    """Return the latency of every event of the steps at every follower, in milliseconds.

    The tree first asks a question; the followers come while it waits for the answer.
    """
    with closing(await Client.connected(port)) as client:
        root = (await client.rpc("tasks.execute", {"tasks": TREE}))["root_task_id"]
    with ExitStack() as stack:
        made = [Watcher] * sockets + [partial(Follower, root)] * streams
        followers = [await _opened(port, each, stack) for each in made]
        client = stack.enter_context(closing(await Client.connected(port)))  # idle connections are closed
        await client.rpc("tasks.answer", {"task_id": "ask", "answer": "yes"})
        await asyncio.gather(*(follower.is_over for follower in followers))
        found = [list(follower.latencies())[-EVENTS:] for follower in followers]  # not those from before the answer
        return [latency for each in found for latency in each]


async def _opened(port: int, make: Callable[[], Watcher], stack: ExitStack) -> Watcher:
    transport, follower = await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port)
    stack.enter_context(closing(transport))
    await follower.is_open
    return follower


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--streams", type=int, default=0)
    given = parser.parse_args()
    print("\n| | sockets | streams | events | p50 ms | p95 ms | max ms | load average |")
    print("|---|" + "---:|" * 7)
    for engine in given.engines:
        with serving_on(engine, settings=MANY_CONNECTIONS) as port:
            latencies = asyncio.run(measure(port, sockets=given.sockets, streams=given.streams))
        cuts = statistics.quantiles(latencies, n=20)
        figures = f"{cuts[9]:.1f} | {cuts[18]:.1f} | {max(latencies):.1f} | {os.getloadavg()[0]:.1f}"
        print(f"| {engine} | {given.sockets} | {given.streams} | {len(latencies):,} | {figures} |")


if __name__ == "__main__":
    main()
