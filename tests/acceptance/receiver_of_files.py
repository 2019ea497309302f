"""A web server on loopback that keeps the last request, and answers with a body of any size."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a form, as the standard library reads it."""

    name: str
    filename: str | None
    content_type: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    headers: dict[str, str]
    body: bytes

    def form(self) -> list[Part]:
        message = message_from_bytes(f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode() + self.body)
        return [_part(each) for each in message.walk() if not each.is_multipart()]


def _part(message: Message) -> Part:
    data = message.get_payload(decode=True)
    assert isinstance(data, bytes)
    name = message.get_param("name", header="content-disposition")
    return Part(str(name), message.get_filename(), message.get("content-type"), data)


@dataclass(slots=True)
class Receiver:
    port: int = 0
    sent: list[Sent] = field(default_factory=list)
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, body: bytes, *, content_type: str, status: int = 200, is_gzipped: bool = False) -> None:
        self.status, self.body = status, gzip.compress(body) if is_gzipped else body
        self.headers = {"Content-Type": content_type} | ({"Content-Encoding": "gzip"} if is_gzipped else {})

    def last(self) -> Sent:
        return self.sent.pop()


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.sent.append(Sent({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(receiver.status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(receiver.body)))
            self.end_headers()
            try:
                self.wfile.write(receiver.body)
            except OSError:
                return  # the client had enough

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()
