"""T27: a database of the oldest schema, with runs in hand and many rows, is migrated while the old version serves."""

import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.acceptance.effects import Effects
from tests.faults.judge import assert_sound, await_rest, begun_again, completed_twice, lost
from tests.faults.load import let_pass
from tests.faults.previous import checked_out, import_path, with_the_oldest_schema
from tests.faults.rows import Report, Row, size
from tests.ports import free_port
from tests.servers import COMMAND, Server, environment_of, new_database, running, until

ROWS = size("MIGRATED_TASKS", 100_000)
TREES = 20
A_SECOND = 20
MIGRATION_SECONDS = 30.0
BLOCKED_SECONDS = 2.0

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(900)]


class Requests(threading.Thread):
    """Twenty a second: each creates a task. `seconds` has what the answers took, `failed` those that were no success."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="requests")
        self.seconds: list[float] = []
        self.failed: list[str] = []
        self.is_over = threading.Event()
        self._server = server

    def run(self) -> None:
        request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": {"tasks": [{"name": "one"}]}}
        with httpx.Client(base_url=self._server.url, timeout=60) as http:
            while not self.is_over.wait(1 / A_SECOND):
                begun = time.monotonic()
                answer = http.post("/tasks", json=request)
                self.seconds.append(time.monotonic() - begun)
                if "result" not in answer.json():
                    self.failed.append(answer.text)


def multiply_tasks(server: Server) -> None:
    """Copy a task of the database so many times."""
    server.rpc("tasks.create", {"tasks": [{"id": "seed", "name": "seed"}]})
    names = [str(name) for (name,) in server.query(COLUMNS[server.database_url[:6]])]
    copied = ", ".join("'copy' || n.i" if name in ("id", "root_id") else f'"{name}"' for name in names)
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})"
    columns = ", ".join(f'"{name}"' for name in names)
    server.query(
        f"INSERT INTO tasks_task ({columns}) {numbers} SELECT {copied} FROM tasks_task, n WHERE tasks_task.id = 'seed'"
    )


COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info('tasks_task')",
    "postgr": "SELECT column_name FROM information_schema.columns WHERE table_name = 'tasks_task'",
}


def migrated(server: Server) -> float:
    """Migrate to our schema beside the server. Returns the seconds that took."""
    begun = time.monotonic()
    environment = environment_of(server.database_url, server.data_dir)
    subprocess.run([*COMMAND, "migrate"], env=environment, check=True, capture_output=True)
    return time.monotonic() - begun


def test_a_database_of_the_oldest_schema(effects: Effects, report: Report, tmp_path: Path) -> None:
    old = checked_out(with_the_oldest_schema(), tmp_path)
    accepted = [f"tree{number}" for number in range(TREES)]
    port = free_port()
    serve = [*COMMAND, "serve", "--port", str(port)]
    with new_database(is_bare=True) as url:
        with running(
            serve, port=port, database_url=url, data_dir=tmp_path, cwd=old, env={"PYTHONPATH": import_path(old)}
        ) as server:
            multiply_tasks(server)
            for name in accepted:
                server.rpc("tasks.execute", {"tasks": effects.chain(name, 6, seconds=2.0)})
            until(lambda: len(effects.counts("start")) >= TREES, seconds=60, what="all trees in hand")
            requests = Requests(server)
            requests.start()
            seconds = migrated(server)
            let_pass(2)
            requests.is_over.set()
            requests.join()
        with running(serve, port=port, database_url=url, data_dir=tmp_path, is_forked=False) as server:
            await_rest(server)
            report(
                Row(
                    id="T27",
                    fault="The oldest schema that can be migrated becomes this one while the old version runs trees and serves 20 requests/s",
                    size=f"{ROWS:,} tasks, {TREES} trees in hand",
                    lost=lost(server, accepted),
                    twice=completed_twice(server),
                    again=begun_again(effects),
                    note=f"migrated in {seconds:.1f} s; of {len(requests.seconds)} requests {len(requests.failed)} failed, "
                    f"the slowest took {max(requests.seconds):.1f} s",
                )
            )
            assert_sound(server)
            assert requests.failed == []
            assert seconds <= MIGRATION_SECONDS
            assert max(requests.seconds) <= BLOCKED_SECONDS
