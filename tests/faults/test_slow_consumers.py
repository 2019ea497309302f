"""T15: a tenth of the clients of a loud tree take a byte a second."""

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.followers import EVENTS, SOCKET, SlowSocket, follow_all, sse, websocket
from tests.faults.rows import Report, Row, percentile, size
from tests.faults.test_many_followers import LIMITS, allow_files, web_kib
from tests.servers import Json, Server, real_server, until

CLIENTS = size("CONSUMERS", 500)
TEXT_BYTES = 16_000
TASKS = size("CONSUMED_TASKS", 200)
"""Each logs such a text, and ends with a result of three times as much."""
GROWTH_MIB = 64
PACE_SECONDS = 0.1

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(1800)]


def loud_tree(name: str, gate: Path) -> list[Json]:
    """Tasks that say something one after the other, once the gate is open."""
    said = {"how": "log", "says": ("x" * TEXT_BYTES).encode().hex(), "gate": str(gate)}
    steps: list[Json] = [
        {
            "id": f"{name}-{number}",
            "name": "scripted_executor",
            "parent_id": name,
            "inputs": said | {"seconds": number * PACE_SECONDS},
        }
        for number in range(TASKS)
    ]
    return [{"id": name, "name": name}, *steps]


@dataclass(frozen=True, slots=True)
class Measured:
    """The delays at the fast clients, how many MiB each got, and by how many the web process grew."""

    seconds: list[float]
    received: float
    grown: float


def measured(server: Server, name: str, gate: Path, *, slow: int) -> Measured:
    port = int(server.url.rpartition(":")[2])
    server.rpc("tasks.execute", {"tasks": loud_tree(name, gate)})
    sleepers = [SlowSocket(port, (EVENTS, SOCKET)[number % 2].format(task_id=name)) for number in range(slow)]
    followers = [(sse, websocket)[number % 2](name) for number in range(CLIENTS - CLIENTS // 10)]
    following = threading.Thread(target=lambda: asyncio.run(follow_all(followers, port)))
    following.start()
    until(lambda: all(each.head for each in followers), seconds=120, what="that all are connected")
    before = most = web_kib(server)
    for each in followers:
        each.seconds.clear()
    gate.touch()
    while following.is_alive():
        following.join(1)
        most = max(most, web_kib(server))
        for sleeper in sleepers:
            sleeper.take()
    for sleeper in sleepers:
        sleeper.close()
    assert [each for each in followers if not each.is_over] == []
    seconds = [value for each in followers for value in each.seconds]
    return Measured(seconds, followers[0].received / 2**20, (most - before) / 1024)


def test_slow_clients(database: str, report: Report, tmp_path: Path) -> None:
    allow_files(4 * CLIENTS)
    with real_server(database, env=LIMITS) as server:
        alone = measured(server, "alone", tmp_path / "first", slow=0)
        beside = measured(server, "beside", tmp_path / "second", slow=CLIENTS // 10)
        grown = beside.grown - alone.grown
        report(
            Row(
                id="T15",
                fault="A tenth of the clients take a byte a second of a tree's events",
                size=f"{CLIENTS} clients, {beside.received:.0f} MiB of events each",
                note=f"the others get an event after {percentile(beside.seconds, 0.99):.2f} s (p99), without slow ones "
                f"{percentile(alone.seconds, 0.99):.2f} s; the web process grows by {beside.grown:.0f} MiB, without slow "
                f"ones by {alone.grown:.0f}",
            )
        )
        assert grown <= GROWTH_MIB
