"""A receiver of webhooks: a real HTTP server that keeps what it gets and gives the answers that a test sets."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from tests.ports import free_port
from tests.servers import until

Json = dict[str, Any]
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request. The names of the headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> Json:
        event: Json = orjson.loads(self.body)
        return event


@dataclass(slots=True)
class Receiver:
    """`answers` are the statuses, with headers, of the requests that come next; after them all get 200.

    While `is_held`, requests are taken and not answered.
    """

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    received: list[Delivery] = field(default_factory=list)
    is_held: bool = False
    free: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def answer(self, *statuses: int, **headers: str) -> None:
        """The statuses of the next requests."""
        self.answers += [
            (status, {name.replace("_", "-"): value for name, value in headers.items()}) for status in statuses
        ]

    def events(self) -> list[Json]:
        """In the order in which they came, repetitions included."""
        return [delivery.event for delivery in self.received]

    def until(self, type_: str = "final", *, seconds: float = PATIENCE_SECONDS) -> list[Json]:
        """All events, once one of this type is there."""
        until(
            lambda: any(event["type"] == type_ for event in self.events()),
            seconds=seconds,
            what=f"{type_} at the receiver",
        )
        return self.events()

    def until_count(self, count: int, *, seconds: float = PATIENCE_SECONDS) -> list[Json]:
        """All events, once there are so many."""
        until(lambda: len(self.received) >= count, seconds=seconds, what=f"{count} requests at the receiver")
        return self.events()


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """A receiver on loopback, until the end of the block."""
    receiver = Receiver()
    with ThreadingHTTPServer(("127.0.0.1", port or free_port()), _handler_for(receiver)) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.free.set()
            server.shutdown()
            thread.join()


def _handler_for(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def take(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                return  # the sender was killed
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.received.append(
                Delivery(method=self.command, path=self.path, headers=headers, body=body, at=time.monotonic())
            )
            if receiver.is_held:
                receiver.free.wait()
                return
            status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        do_POST = do_PUT = do_PATCH = do_GET = take

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler
