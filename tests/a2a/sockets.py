"""A client of the WebSocket, for tests: real messages over a real connection."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

Json = dict[str, Any]
PATIENCE_SECONDS = 120.0


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._ids = 0

    def send(self, **message: Any) -> None:
        self.connection.send(orjson.dumps(message).decode())

    def next(self) -> Json:
        message: Json = orjson.loads(self.connection.recv(PATIENCE_SECONDS))
        return message

    def until(self, type_: str) -> list[Json]:
        """The messages up to the first of this type."""
        seen: list[Json] = []
        while not seen or seen[-1].get("type") != type_:
            seen.append(self.next())
        return seen

    def ask(self, **message: Any) -> Json:
        """Send, and return the answer that comes next."""
        self.send(**message)
        return self.next()

    def call(self, method: str, params: Any, *, id: Any = 1) -> None:
        self.send(jsonrpc="2.0", method=method, params=params, id=id)

    def silent(self) -> bool:
        """Whether nothing came before the answer to a ping."""
        return self.ask(action="ping") == {"type": "pong"}

    def closed(self) -> int:
        """The code that the server closes with."""
        return self.heard_until_closed()[1]

    def is_closed_as_too_big(self) -> bool:
        """Whether the server closes with 1009. It may reset a connection on which we are still sending, which hides the code."""
        try:
            while True:
                self.next()
        except ConnectionClosed as error:
            return error.rcvd is None or error.rcvd.code == 1009

    def heard_until_closed(self) -> tuple[list[Json], int]:
        """What the server still says, and the code that it closes with."""
        heard: list[Json] = []
        try:
            while True:
                heard.append(self.next())
        except ConnectionClosed as error:
            assert error.rcvd is not None, error
            return heard, error.rcvd.code


@contextmanager
def socket(url: str, *, path: str = "/ws", **options: Any) -> Iterator[Client]:
    address = url.replace("http", "ws", 1) + path
    with connect(address, compression=None, open_timeout=PATIENCE_SECONDS, ping_interval=None, **options) as connection:
        yield Client(connection)
