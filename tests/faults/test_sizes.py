"""S8: bodies without end, headers without end, a thousand connections that say nothing or almost nothing."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from tests.faults.rows import Report, Row, percentile, size
from tests.faults.test_many_followers import allow_files, web_kib
from tests.servers import Server, real_server

CONNECTIONS = size("SLOW_CONNECTIONS", 1000)
MIB = 2**20
BODY_BYTES = size("BODY_MIB", 1024) * MIB
REQUESTS = 200
GROWTH_MIB = 50

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(1800)]

Attack = Callable[[int], str]


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def sent(port: int, head: bytes, piece: bytes, total: int) -> str:
    """How many MiB the server took before it answered or closed, and its answer."""
    done, answer = 0, b""
    with connected(port) as connection, suppress(OSError):
        connection.sendall(head)
        connection.settimeout(0.001)
        while done < total and not answer:
            with suppress(TimeoutError):
                done += connection.send(piece)
            with suppress(TimeoutError):
                answer = connection.recv(64) or b"closed"
    status = answer.split(b"\r\n")[0].decode() or "reset"
    return f"{status} after {done / MIB:.1f} MiB"


def large_body(port: int) -> str:
    head = f"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    return sent(port, head.encode(), b"x" * 65_536, BODY_BYTES)


def endless_chunks(port: int) -> str:
    head = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return sent(port, head, b"10000\r\n" + b"x" * 65_536 + b"\r\n", BODY_BYTES)


def many_headers(port: int) -> str:
    return sent(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"X-A: b\r\n" * 1000, 8 * 100_000)


@contextmanager
def silent_connections(port: int, first_bytes: bytes) -> Iterator[list[socket.socket]]:
    opened = []
    try:
        for _ in range(CONNECTIONS):
            opened.append(connected(port))
            opened[-1].sendall(first_bytes)
        yield opened
    finally:
        for each in opened:
            each.close()


def slow_headers(port: int) -> str:
    """Each sends a byte of its headers every second."""
    with silent_connections(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") as opened:
        for _ in range(12):
            time.sleep(1)
            for each in opened:
                with suppress(OSError):
                    each.send(b"x")
        return f"{sum(map(is_closed, opened))} of {len(opened)} closed after 12 s"


def idle_connections(port: int) -> str:
    with silent_connections(port, b"") as opened:
        time.sleep(12)
        return f"{sum(map(is_closed, opened))} of {len(opened)} closed after 12 s"


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while data := connection.recv(4096):
            if b"408" in data:
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


ATTACKS: dict[str, tuple[str, Attack]] = {
    "S8a": (f"A body of {BODY_BYTES // MIB:,} MiB", large_body),
    "S8b": (f"{BODY_BYTES // MIB:,} MiB of chunks", endless_chunks),
    "S8c": ("100,000 headers", many_headers),
    "S8d": (f"{CONNECTIONS:,} connections that send a byte of a header a second", slow_headers),
    "S8e": (f"{CONNECTIONS:,} idle connections", idle_connections),
}


def times_of_a_bystander(server: Server, *, until_over: threading.Event | None = None) -> list[float]:
    """The seconds of a reading request, so many times, or until the attack is over."""
    seconds: list[float] = []
    with httpx.Client(base_url=server.url, timeout=60) as http:
        while len(seconds) < REQUESTS or (until_over and not until_over.is_set()):
            begun = time.monotonic()
            request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.list", "params": {}}
            assert http.post("/tasks", json=request).status_code == 200
            seconds.append(time.monotonic() - begun)
            time.sleep(0.01)
    return seconds


@pytest.mark.parametrize("row_id", ATTACKS)
def test_too_large_or_too_slow(row_id: str, database: str, report: Report) -> None:
    allow_files(3 * CONNECTIONS)
    fault, attack = ATTACKS[row_id]
    limits = {"AIPARTNERUPFLOW_LIMITS_CONNECTIONS_PER_ADDRESS": "10000"}
    with real_server(database, "--no-worker", env=limits) as server:
        port = int(server.url.rpartition(":")[2])
        alone, before, is_over = times_of_a_bystander(server), web_kib(server), threading.Event()
        beside: list[float] = []
        bystander = threading.Thread(target=lambda: beside.extend(times_of_a_bystander(server, until_over=is_over)))
        bystander.start()
        outcome = attack(port)
        grown = (web_kib(server) - before) / 1024
        is_over.set()
        bystander.join()
        p99, p99_alone = percentile(beside, 0.99) * 1000, percentile(alone, 0.99) * 1000
        note = f"{outcome}; the web process grows by {grown:.0f} MiB; another's request p99 {p99:.0f} ms, alone {p99_alone:.0f} ms"
        report(Row(id=row_id, fault=fault, size="one web process", note=note))
        assert grown <= GROWTH_MIB
