"""Connections to a server over HTTP that are kept and used again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.http import Client


class Connections:
    """Lends each request a free connection, and opens one if there is none."""

    def __init__(self, port: int, *, token: str = "") -> None:
        self._port, self._token = port, token
        self._free: list[Client] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Client]:
        client = self._free.pop() if self._free else await Client.connected(self._port, token=self._token)
        yield client
        self._free.append(client)
