"""A proxy before a server that breaks the first connection with so many bytes, at once or when the test says so."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 65_536
HELD_SECONDS: Final = 120.0


@dataclass(slots=True, kw_only=True)
class Breaking:
    url: str
    cuts: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    """Set once the connection has so many bytes."""
    may_break: threading.Event = field(default_factory=threading.Event)


@contextmanager
def breaking(
    server_url: str, *, after_bytes: int, is_answer: bool = False, is_held: bool = False
) -> Iterator[Breaking]:
    """A proxy that ends the first connection on which a request, or with `is_answer` an answer, has more than so many bytes.

    With `is_held` it passes nothing on from there, until it may break.
    """
    parts = urlsplit(server_url)

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            with suppress(OSError), socket.create_connection((parts.hostname, parts.port)) as server:
                ends = (client, server), (server, client)
                there, back = [
                    threading.Thread(target=pass_on, args=(*pair, is_answer == bool(number)), daemon=True)
                    for number, pair in enumerate(ends)
                ]
                there.start()
                back.start()
                back.join()

    def pass_on(source: socket.socket, target: socket.socket, is_counted: bool) -> None:
        count = 0
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                count += len(data)
                if is_counted and count > after_bytes and not proxy.cuts:
                    proxy.cuts += 1
                    proxy.reached.set()
                    proxy.may_break.wait(HELD_SECONDS)
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as listening:
        proxy = Breaking(url=f"http://127.0.0.1:{listening.server_address[1]}")
        if not is_held:
            proxy.may_break.set()
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield proxy
        listening.shutdown()
