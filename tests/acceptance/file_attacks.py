"""What Mallory does to other users with files: many that arrive at once, and many readers that take almost nothing."""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from tests.acceptance.attacks import MEGABYTE, Mallory, Row, as_user
from tests.acceptance.heavy_attacks import BUSY, all_at_once, replies_to, then
from tests.servers import until

SLOW: Final = 20
BROKEN: Final = 10
WHOLE: Final = 20
READERS: Final = 500
DRIPS: Final = 100


def connections(mallory: Mallory, closing: ExitStack, count: int, head: str) -> list[socket.socket]:
    """So many connections, each of which has sent the head of a request."""
    address = ("127.0.0.1", int(mallory.server.url.rpartition(":")[2]))
    found = [closing.enter_context(socket.create_connection(address)) for _ in range(count)]
    for each in found:
        each.sendall(
            f"{head} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {as_user('mallory')['Authorization']}\r\n".encode()
        )
    return found


def uploads(mallory: Mallory, closing: ExitStack, count: int) -> list[socket.socket]:
    """So many uploads that have begun."""
    begun = connections(mallory, closing, count, "POST /files?name=slow.bin")
    for each in begun:
        each.sendall(b"Content-Length: %d\r\n\r\n" % (20 * MEGABYTE) + bytes(3 * MEGABYTE))
    return begun


def has_no_file(mallory: Mallory) -> bool:
    """Whether all files of hers are gone. Those that are complete are deleted."""
    found = mallory.server.rpc("files.list", {"limit": 1000}, **as_user("mallory"))["files"]
    for file in found:
        if file["is_complete"]:
            mallory.server.rpc("files.delete", {"file_id": file["id"]}, **as_user("mallory"))
    return not found


@then
def uploads_at_once(mallory: Mallory) -> None:
    """Twenty files of 20 MiB, twenty that drip, and ten that break off."""
    data = os.urandom(20 * MEGABYTE)
    with ExitStack() as closing:
        slow = uploads(mallory, closing, SLOW)
        with ExitStack() as breaking:
            uploads(mallory, breaking, BROKEN)
            all_at_once(mallory, [lambda http: http.post("/files?name=whole.bin", content=data)] * WHOLE)
        drip(mallory, slow)
    until(lambda: has_no_file(mallory), seconds=120, what="the end of what broke off")


def drip(mallory: Mallory, slow: Sequence[socket.socket]) -> None:
    """Send a little on each connection after every small request of the same user."""
    for _ in range(DRIPS):
        for each in slow:
            each.sendall(b" " * 1_000)
        mallory.server.rpc("tasks.list", {"limit": 1}, **as_user("mallory"))


@then
def slow_readers_of_a_file(mallory: Mallory) -> None:
    """Five hundred, of which those that get a place read a little after every small request of the same user."""
    data = os.urandom(64 * MEGABYTE)
    (sent,) = replies_to(mallory, [lambda http: http.post("/files?name=large.bin", content=data)])
    with ExitStack() as closing:
        readers = connections(mallory, closing, READERS, f"GET /files/{sent.json()['$file']}")
        for each in readers:
            each.sendall(b"\r\n")
        statuses = [int(each.recv(1_000).split(b" ")[1]) for each in readers]
        assert set(statuses) == {200, BUSY}, statuses
        for _ in range(DRIPS):
            for each, status in zip(readers, statuses, strict=True):
                if status != BUSY:
                    each.recv(1_000)
            mallory.server.rpc("tasks.list", {"limit": 1}, **as_user("mallory"))
    until(lambda: has_no_file(mallory), seconds=120, what="the deletion of the file")


FILE_ROWS: Final = tuple(Row(attack=attack, ends="completed") for attack in (uploads_at_once, slow_readers_of_a_file))
