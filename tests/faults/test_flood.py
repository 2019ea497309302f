"""One user queues thousands of trees, as fast as the server takes them; another one has one at a time."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.a2a.a2a_client import SETTINGS, token_of
from tests.faults.judge import assert_nothing_broke, tell
from tests.servers import Server, real_server

pytestmark = [pytest.mark.nightly, pytest.mark.both_engines, pytest.mark.timeout(600)]
FLOOD = 5_000
MOST = 1_000
"""So many unfinished runs a user may have."""
CLIENTS = 4
PLACES = {
    "AIPARTNERUPFLOW_WORKER_PROCESSES": "2",
    "AIPARTNERUPFLOW_WORKER_MAX_TREES": "2",
    "AIPARTNERUPFLOW_LIMITS_RUNS_PER_USER": str(MOST),
}
WORK_SECONDS = 0.1
PATIENCE_SECONDS = 2.0
LIMIT_REACHED = -32029


def execute(server: Server, user: str, *, wait: bool) -> Any:
    task = {"name": "sleep_executor", "inputs": {"seconds": WORK_SECONDS}}
    authorization = f"Bearer {token_of(user)}"
    return server.call("tasks.execute", {"tasks": [task], "wait": wait}, Authorization=authorization)


def waits_of_bob(server: Server, times: int) -> list[float]:
    """The seconds that each of his trees took, without its own work."""
    seconds = []
    for _ in range(times):
        begun = time.monotonic()
        assert execute(server, "bob", wait=True)["result"]["status"] == "completed"
        seconds.append(time.monotonic() - begun - WORK_SECONDS)
    return seconds


def unfinished(server: Server) -> int:
    ((count,),) = server.query("SELECT COUNT(*) FROM tasks_run WHERE finished_at IS NULL AND user_id = 'alice'")
    return int(count)


def test_who_floods_the_queue_delays_nobody_else(database: str) -> None:
    with real_server(database, env=SETTINGS | PLACES) as server, ThreadPoolExecutor(CLIENTS) as clients:
        idle = waits_of_bob(server, 20)
        flood = [clients.submit(execute, server, "alice", wait=False) for _ in range(FLOOD)]
        behind, crowded = [], []
        while not all(reply.done() for reply in flood) or unfinished(server):
            behind.append(unfinished(server))
            crowded += waits_of_bob(server, 1)
        refused = sum("error" in reply.result() for reply in flood)
        codes = {reply.result()["error"]["code"] for reply in flood if "error" in reply.result()}
        assert codes <= {LIMIT_REACHED}
        assert max(behind) > MOST / 2, "That was no flood"
        assert sorted(crowded)[int(len(crowded) * 0.99)] <= PATIENCE_SECONDS
        assert_nothing_broke(server)
        tell(
            f"{FLOOD:,} trees of one user, {refused:,} refused, at most {max(behind):,} in the queue: another user's wait p50/max "
            f"{statistics.median(crowded) * 1000:.0f}/{max(crowded) * 1000:.0f} ms in {len(crowded)} trees, idle "
            f"{statistics.median(idle) * 1000:.0f}/{max(idle) * 1000:.0f} ms"
        )
