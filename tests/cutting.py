"""A connection that breaks: a proxy before a server, which ends the first stream in the middle."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 65_536


@dataclass(slots=True, kw_only=True)
class Proxy:
    """`cuts` is how many connections it has broken: none or one."""

    url: str
    cuts: int = 0


@contextmanager
def cutting(server_url: str, *, before: bytes, is_held: bool = False) -> Iterator[Proxy]:
    """A proxy that passes everything on, until an answer holds `before`: that connection ends there, the first time.

    With `is_held` it does not end: nothing more comes.
    """
    parts = urlsplit(server_url)
    address = (parts.hostname, parts.port or 80)
    is_over = threading.Event()

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            with socket.create_connection(address) as server:
                threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
                answer = b""
                with suppress(OSError):
                    while data := server.recv(CHUNK_BYTES):
                        answer, known = answer + data, len(answer)
                        place = answer.find(before) if proxy.cuts == 0 else -1
                        if place >= 0:
                            proxy.cuts += 1
                            client.sendall(answer[known:place])
                            if is_held:
                                is_over.wait()
                            return
                        client.sendall(data)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as listening:
        proxy = Proxy(url=f"http://127.0.0.1:{listening.server_address[1]}")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield proxy
        is_over.set()
        listening.shutdown()


@contextmanager
def cut_often(server_url: str, *, every_bytes: int, cuts: int) -> Iterator[Proxy]:
    """A proxy that ends a connection after so many bytes of answers, so many times; then it passes everything on."""
    parts = urlsplit(server_url)
    address = (parts.hostname, parts.port or 80)

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            with socket.create_connection(address) as server, suppress(OSError):
                threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
                left = every_bytes
                while data := server.recv(CHUNK_BYTES if proxy.cuts == cuts else left):
                    client.sendall(data)
                    left -= len(data)
                    if left <= 0 and proxy.cuts < cuts:
                        proxy.cuts += 1
                        return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Connection) as listening:
        proxy = Proxy(url=f"http://127.0.0.1:{listening.server_address[1]}")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield proxy
        listening.shutdown()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
