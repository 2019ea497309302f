"""T16: a thousand event streams and a thousand WebSockets on one web process."""

import asyncio
import resource
import threading
import time

import psutil
import pytest

from tests.faults.followers import follow_all, sse, websocket
from tests.faults.judge import await_rest
from tests.faults.rows import Report, Row, percentile, size
from tests.servers import Json, Server, real_server, until

EACH = size("FOLLOWERS", 1000)
SECONDS = size("FOLLOW_SECONDS", 60)
TREES = 10
KIB = 1024
LATENCY_SECONDS = 1.0
KIB_EACH = 60
LIMITS = {"AIPARTNERUPFLOW_LIMITS_STREAMS": "10000", "AIPARTNERUPFLOW_LIMITS_CONNECTIONS_PER_ADDRESS": "10000"}

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(1200)]


def steady_tree(name: str) -> list[Json]:
    """An event a second."""
    return [{"id": name, "name": "sleep_executor", "inputs": {"seconds": SECONDS, "steps": SECONDS}}]


def web_kib(server: Server) -> float:
    return sum(psutil.Process(pid).memory_info().rss for pid in server.pids().web) / KIB


def allow_files(count: int) -> None:
    """Raises AssertionError if this process may not open so many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= count, f"This test opens {count} files; allowed are {hard}: raise `ulimit -Hn`."
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def test_thousands_follow(database: str, report: Report) -> None:
    allow_files(4 * EACH + 1000)
    followers = [make(f"tree{number % TREES}") for make in (sse, websocket) for number in range(EACH)]
    with real_server(database, env=LIMITS) as server:
        port = int(server.url.rpartition(":")[2])
        server.rpc("tasks.execute", {"tasks": steady_tree("warm"), "wait": False})
        for number in range(TREES):
            server.rpc("tasks.execute", {"tasks": steady_tree(f"tree{number}")})
        before, began = web_kib(server), time.monotonic()
        following = threading.Thread(target=lambda: asyncio.run(follow_all(followers, port)))
        following.start()
        until(lambda: all(each.head for each in followers), seconds=120, what="that all are connected")
        opened_in = time.monotonic() - began
        kib_each = (web_kib(server) - before) / len(followers)
        following.join()
        await_rest(server)
        refused = [each.head for each in followers if not each.head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101"))]
        # What was sent before a client came is not late.
        seconds = [value for each in followers for value in each.seconds if value < SECONDS]
        late = percentile(live(followers, opened_in), 0.99)
        report(
            Row(
                id="T16",
                fault="Event streams and WebSockets on one web process, an event a second each",
                size=f"{EACH:,} + {EACH:,} clients, {len(seconds):,} events",
                note=f"{len(refused)} refused; an event arrives after {percentile(live(followers, opened_in), 0.5):.2f} s (p50), "
                f"{late:.2f} s (p99); {kib_each:.0f} KiB of memory each",
            )
        )
        assert refused == []
        assert [each for each in followers if not each.is_over] == []
        assert kib_each <= KIB_EACH
        assert late <= LATENCY_SECONDS


def live(followers: list, opened_in: float) -> list[float]:
    """The delays of the events after all were connected: each client has one a second, the old ones first."""
    return [value for each in followers for value in each.seconds[int(opened_in) + 2 :]]
