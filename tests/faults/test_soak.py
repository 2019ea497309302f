"""T29: a server works at half its load for an hour; what it holds must not grow."""

import statistics
import time
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from tests.acceptance.effects import Effects
from tests.faults.judge import assert_nothing_broke, assert_sound, await_rest, begun_again, completed_twice, lost
from tests.faults.rows import Report, Row, percentile, size
from tests.servers import Server, real_server

SECONDS = size("SOAK_SECONDS", 3600)
A_SECOND = 4
STEPS = 5
SAMPLES = 30
WARM_SHARE = 0.2
"""The beginning, in which caches fill, is left out."""
MOST_MIB = 20.0
"""By how much the memory may grow: a leak of 1.5 KiB in each of the 14,400 trees of an hour would be as much."""
MOST_FILES = 5

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(SECONDS * 2 + 600)]


@dataclass(slots=True)
class Watched:
    """What all processes of a server hold together, again and again: seconds, MiB, open files."""

    server: Server
    times: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self, at: float) -> None:
        processes = self.server.processes()
        self.times.append(at)
        self.mib.append(sum(process.memory_info().rss for process in processes) / 2**20)
        self.files.append(sum(map(psutil.Process.num_fds, processes)))

    def mib_an_hour(self) -> float:
        """The slope of the memory after the warm-up."""
        warm = int(len(self.times) * WARM_SHARE)
        return statistics.linear_regression(self.times[warm:], self.mib[warm:]).slope * 3600


def test_nothing_grows(database: str, effects: Effects, report: Report) -> None:
    accepted: list[str] = []
    seconds: list[float] = []
    with real_server(database) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        watched, began = Watched(server), time.monotonic()
        while (passed := time.monotonic() - began) < SECONDS:
            if passed >= len(watched.times) * SECONDS / SAMPLES:
                watched.look(passed)
            name = f"tree{len(accepted)}"
            tree = {"tasks": effects.chain(name, STEPS, seconds=0.1)}
            begun = time.monotonic()
            answer = http.post("/tasks", json={"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": tree})
            seconds.append(time.monotonic() - begun)
            assert "result" in answer.json(), answer.text
            accepted.append(name)
            time.sleep(max(0.0, len(accepted) / A_SECOND - (time.monotonic() - began)))
        await_rest(server)
        tenth = len(seconds) // 10
        early, late = (percentile(part, 0.99) for part in (seconds[tenth : 2 * tenth], seconds[-tenth:]))
        slope = watched.mib_an_hour()
        report(
            Row(
                id="T29",
                fault="None: a steady load",
                size=f"{SECONDS} s, {len(accepted):,} trees of {STEPS} steps",
                lost=lost(server, accepted),
                twice=completed_twice(server),
                again=begun_again(effects),
                note=f"memory of all processes {watched.mib[-1]:.0f} MiB, {slope:+.1f} MiB/h; files {watched.files[1]} "
                f"and {watched.files[-1]}; requests p99 {early * 1000:.0f} and {late * 1000:.0f} ms",
            )
        )
        assert_sound(server)
        assert_nothing_broke(server)
        assert slope * SECONDS / 3600 <= MOST_MIB
        assert watched.files[-1] - watched.files[1] <= MOST_FILES
