"""Workers that are paused, killed, started and stopped again and again, and told to stop what they do."""

import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from tests.acceptance.effects import Effects
from tests.faults.judge import assert_nothing_broke, assert_sound, await_rest, counted, ends, tell
from tests.fork_server import CLUSTER
from tests.ports import free_port
from tests.servers import PYTHON, SAME_KEYS, SERVE, Server, real_server, running, until

pytestmark = [pytest.mark.nightly, pytest.mark.both_engines, pytest.mark.timeout(600)]

PAUSE_SECONDS = 30.0
"""Twice a lease."""
EXIT_SECONDS = 35.0
GIVES_UP = re.compile(
    "was claimed by another worker|cluster does not answer|Could not renew its leases: stopping|Could neither renew its leases"
)
"""Whichever wakes first: the worker, or who looks after it."""


@contextmanager
def a_web_process_and_two_workers(database: str) -> Iterator[tuple[Server, Server, Server]]:
    port = free_port()
    web = [*SERVE, "--port", str(port), "--no-worker"]
    worker = [PYTHON, "-m", "aipartnerupflow", "worker"]
    with (
        running(web, port=port, database_url=database, env=SAME_KEYS, is_ready="/health", is_forked=False) as server,
        running(worker, port=port, database_url=database, env=SAME_KEYS, is_forked=False) as first,
        running(worker, port=port, database_url=database, env=SAME_KEYS, is_forked=False) as second,
    ):
        yield server, first, second


def clusters(server: Server) -> list[psutil.Process]:
    return [process for process in server.processes() if server.runs(process, CLUSTER)]


def test_a_machine_that_was_paused_writes_nothing_when_it_wakes(database: str, effects: Effects) -> None:
    tasks = effects.chain("tree", 6, seconds=1.0)
    with a_web_process_and_two_workers(database) as (server, first, second):
        server.rpc("tasks.execute", {"tasks": tasks})
        until(lambda: "start tree-3" in effects.lines(), seconds=60, what="the third step")
        ((owner,),) = server.query("SELECT lease_owner FROM tasks_run")
        holder = first if int(owner.split("/")[1]) in {process.pid for process in first.processes()} else second
        paused = holder.processes()
        for process in paused:
            process.suspend()
        time.sleep(PAUSE_SECONDS)
        for process in paused:
            process.resume()
        until(lambda: GIVES_UP.search(holder.log.read_text()), seconds=60, what="that it gives the run up")
        assert server.finished("tree")[-2]["status"] == "completed"
        assert ends(server) == {1: len(tasks)}
        assert_sound(server)


def test_killed_every_two_seconds(database: str, effects: Effects) -> None:
    """Some process of the cluster, while two trees of 12 steps are sent each second for a minute."""
    draw = random.Random(7)
    with real_server(database) as server:
        for number in range(120):
            server.rpc("tasks.execute", {"tasks": effects.chain(f"tree{number}", 12, seconds=draw.uniform(0.02, 0.1))})
            if number % 4 == 3:
                draw.choice(clusters(server)).kill()
            time.sleep(0.5)
        await_rest(server)
        started_again = sum(count - 1 for count in effects.counts("start").values())
        tell(f"120 trees, 30 kills: {counted(server, 'losses')} by lost workers, {started_again} steps started again")
        assert counted(server, "status") == {"completed": 120}
        assert ends(server) == {1: 120 * 13}
        assert_sound(server)


def test_a_storm_of_cancellations(database: str, effects: Effects) -> None:
    """1,000, from 20 clients at once, of tasks of 100 trees; many of the same task, many of tasks that are over."""
    trees = [effects.chain(f"tree{number}", 5, seconds=0.3) for number in range(100)]
    draw = random.Random(3)
    seconds: list[float] = []

    def cancel(task_id: str) -> None:
        begun = time.monotonic()
        server.rpc("tasks.cancel", {"task_ids": [task_id]})
        seconds.append(time.monotonic() - begun)

    with real_server(database) as server:
        for tasks in trees:
            server.rpc("tasks.execute", {"tasks": tasks})
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(cancel, [draw.choice(draw.choice(trees))["id"] for _ in range(1000)]))
        await_rest(server)
        seconds.sort()
        tell(f"replies: p50 {seconds[500]:.3f} s, p99 {seconds[990]:.3f} s; runs: {counted(server, 'status')}")
        assert_sound(server)
        assert_nothing_broke(server)


def test_started_and_stopped_forty_times(database: str, effects: Effects) -> None:
    """Every other time all processes are told at once, and told again before they are done."""
    draw = random.Random(11)
    seconds = []
    for number in range(40):
        with real_server(database) as server:
            server.rpc("tasks.execute", {"tasks": effects.chain(f"tree{number}", 3, seconds=0.2)})
            if number % 2:
                server.terminate_all()
                time.sleep(draw.uniform(0, 0.5))
                server.terminate_all()
            begun = time.monotonic()
            server.stop()
            seconds.append(time.monotonic() - begun)
    with real_server(database) as server:
        await_rest(server)
        tell(f"40 stops: {max(seconds):.1f} s at most; steps started again: {effects.counts('start').total() - 120}")
        assert max(seconds) < EXIT_SECONDS
        assert counted(server, "status") == {"completed": 40}
        assert ends(server) == {1: 40 * 4}
        assert_sound(server)
