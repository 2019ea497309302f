"""A proxy for PostgreSQL's protocol that loses connections at the worst moments.

It drops the answer to a share of the COMMITs, after PostgreSQL has carried them out, and breaks off
a share of them before.
"""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

COMMIT: Final = b"COMMIT\0"
QUERY: Final = b"Q"
READY: Final = b"Z"
HEAD_BYTES: Final = 5
"""A type and a length, which counts itself."""


@dataclass(slots=True)
class Proxy:
    """`unanswered` counts the commits whose answer was dropped, `broken` those that never arrived."""

    socket: str
    share: float
    port: int = 0
    commits: int = 0
    unanswered: int = 0
    broken: int = 0
    draw: random.Random = field(default_factory=lambda: random.Random(9))

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_unix_connection(self.socket)
        try:
            await self._requests(client, to_server, server, to_client)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for writer in (to_server, to_client):
                writer.close()

    async def _requests(
        self,
        client: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
    ) -> None:
        """Pass on the client's messages; the answers follow beside it."""
        await _pass_start(client, to_server)
        answers = asyncio.create_task(_copy(server, to_client))
        try:
            while True:
                kind, message = await _message(client)
                fate = self._fate(kind, message)
                if fate == "broken":
                    return
                if fate == "unanswered":
                    answers.cancel()
                    to_server.write(message)
                    while (await _message(server))[0] != READY:
                        pass
                    return
                to_server.write(message)
                await to_server.drain()
        finally:
            answers.cancel()

    def _fate(self, kind: bytes, message: bytes) -> str:
        """What happens to this message: `broken`, `unanswered`, or nothing."""
        if kind != QUERY or not message.endswith(COMMIT):
            return ""
        self.commits += 1
        drawn = self.draw.random()
        if drawn < self.share:
            self.unanswered += 1
            return "unanswered"
        if drawn < 2 * self.share:
            self.broken += 1
            return "broken"
        return ""


async def _pass_start(client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
    """The first message has no type."""
    length = await client.readexactly(4)
    to_server.write(length + await client.readexactly(int.from_bytes(length) - 4))
    await to_server.drain()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The type of the next message, and all of it."""
    head = await reader.readexactly(HEAD_BYTES)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@contextmanager
def proxied(socket: str, *, share: float) -> Iterator[Proxy]:
    """A proxy on a port of this machine, before PostgreSQL's Unix socket."""
    proxy, loop = Proxy(socket, share), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy")
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(proxy.serve, "127.0.0.1", 0), loop).result()
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    serving = asyncio.all_tasks() - {asyncio.current_task()}
    for task in serving:
        task.cancel()
    await asyncio.gather(*serving, return_exceptions=True)
