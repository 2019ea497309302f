"""Benchmark of live events: 500 WebSockets on one web process, all of which receive every event.

    python -m benchmarks.live [sqlite] [postgres]

Starts `aipartnerupflow serve` with a new database for each engine, opens the sockets, and runs a
tree with 10 events a second. The latency is from the event's own time, taken before it is written
to the database, to its arrival at a client. Clients and server share the machine, so a client only
records the time and the bytes, and parses them afterwards. The load average is printed with the
figures.
"""

import asyncio
import json
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from time import time
from typing import Final

from benchmarks.http import Client, serving_on

SOCKETS: Final = 500
EVENTS: Final = 100
SECONDS: Final = 10
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
            assert data.startswith(b"HTTP/1.1 101 ") and data.endswith(b"\r\n\r\n"), data
            self._pieces.clear()
            self.is_open.set_result(None)
        elif b'"type":"final"' in data and not self.is_over.done():
            self.is_over.set_result(None)

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


async def measure(port: int) -> list[float]:
    """Return the latency of every event at every socket, in milliseconds."""
    loop = asyncio.get_running_loop()
    with ExitStack() as open_sockets:
        watchers = []
        for _ in range(SOCKETS):
            transport, watcher = await loop.create_connection(Watcher, "127.0.0.1", port)
            open_sockets.enter_context(closing(transport))
            await watcher.is_open
            watchers.append(watcher)
        client = Client(*await asyncio.open_connection("127.0.0.1", port))
        task = {"name": "sleep_executor", "inputs": {"seconds": SECONDS, "steps": EVENTS}}
        await client.rpc("tasks.execute", {"tasks": [task]})
        await asyncio.gather(*(watcher.is_over for watcher in watchers))
        return [latency for watcher in watchers for latency in watcher.latencies()]


def main(engines: list[str]) -> None:
    print("\n| | sockets | events | p50 ms | p95 ms | max ms | load average |")
    print("|---|" + "---:|" * 6)
    for engine in engines:
        with serving_on(engine) as port:
            latencies = asyncio.run(measure(port))
        cuts = statistics.quantiles(latencies, n=20)
        figures = f"{cuts[9]:.1f} | {cuts[18]:.1f} | {max(latencies):.1f} | {os.getloadavg()[0]:.1f}"
        print(f"| {engine} | {SOCKETS} | {len(latencies):,} | {figures} |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["sqlite", "postgres"])
