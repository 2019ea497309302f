"""T15: a tenth of the clients of a loud tree take a byte a second."""

import asyncio
import threading

import pytest

from tests.faults.followers import EVENTS, SOCKET, SlowSocket, follow_all, sse, websocket
from tests.faults.rows import Report, Row, percentile, size
from tests.faults.test_many_followers import LIMITS, allow_files, web_kib
from tests.servers import Json, Server, real_server

CLIENTS = size("CONSUMERS", 500)
EVENT_BYTES = 50_000
EVENT_COUNT = size("CONSUMED_EVENTS", 200)
GROWTH_MIB = 64
PACE_SECONDS = 0.1

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(1800)]


def loud_tree(name: str) -> list[Json]:
    """One task after the other, each of which logs a large text."""
    said = {"how": "log", "says": ("x" * EVENT_BYTES).encode().hex(), "seconds": PACE_SECONDS}
    steps = [f"{name}-{number}" for number in range(EVENT_COUNT)]
    tasks: list[Json] = [{"id": name, "name": name}]
    for before, step in zip([None, *steps], steps, strict=False):
        dependencies = [before] if before else []
        schemas = {"method": "scripted_executor"}
        tasks.append(
            {
                "id": step,
                "name": step,
                "parent_id": name,
                "schemas": schemas,
                "inputs": said,
                "dependencies": dependencies,
            }
        )
    return tasks


def delays(server: Server, name: str, *, slow: int) -> tuple[list[float], float]:
    """The delays of the events at the fast clients, and by how many MiB the web process grew."""
    port = int(server.url.rpartition(":")[2])
    server.rpc("tasks.create", {"tasks": loud_tree(name)})
    server.rpc("tasks.execute", {"task_id": name})
    sleepers = [SlowSocket(port, (EVENTS, SOCKET)[number % 2].format(task_id=name)) for number in range(slow)]
    before = most = web_kib(server)
    followers = [(sse, websocket)[number % 2](name) for number in range(CLIENTS - CLIENTS // 10)]
    following = threading.Thread(target=lambda: asyncio.run(follow_all(followers, port)))
    following.start()
    while following.is_alive():
        following.join(1)
        most = max(most, web_kib(server))
        for each in sleepers:
            each.take()
    for each in sleepers:
        each.close()
    assert [each for each in followers if not each.is_over] == []
    return [value for each in followers for value in each.seconds], (most - before) / 1024


def test_slow_clients(database: str, report: Report) -> None:
    allow_files(4 * CLIENTS)
    with real_server(database, env=LIMITS) as server:
        alone, _ = delays(server, "alone", slow=0)
        beside, grown = delays(server, "beside", slow=CLIENTS // 10)
        report(
            Row(
                id="T15",
                fault="A tenth of the clients take a byte a second of a tree's events",
                size=f"{CLIENTS} clients, {EVENT_COUNT * EVENT_BYTES / 1e6:.0f} MB of events each",
                note=f"the others get an event after {percentile(beside, 0.99):.2f} s (p99), without slow ones "
                f"{percentile(alone, 0.99):.2f} s; the web process grows by {grown:.0f} MiB",
            )
        )
        assert grown <= GROWTH_MIB
