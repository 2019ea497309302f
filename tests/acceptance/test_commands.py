"""Commands on a real server: off until allowed, and gone with all their processes when the task or the worker is."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.ports import free_port
from tests.servers import SERVE, Server, running, running_server, until
from tests.tasks.executors.command.commands import is_dead

Json = dict[str, Any]
ON = {
    "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW": "/bin/sh",
    "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW_ANYWAY": "/bin/sh",
    "AIPARTNERUPFLOW_WORKER_PROCESSES": "1",
    "AIPARTNERUPFLOW_EXECUTORS_COMMAND_TIMEOUT_SECONDS": "600",
    "AIPARTNERUPFLOW_WORKER_DRAIN_SECONDS": "1",
}
#: Ignores SIGTERM, has a child that does too, and another in a session of its own.
STUBBORN = """
    trap '' TERM
    sleep 600 & (setsid sh -c 'echo $$ > pid; exec sleep 600' &)
    until [ -s pid ]; do :; done
    echo $$ $! $(cat pid)
    sleep 600; echo late
"""


@pytest.fixture
def server(database: str) -> Iterator[Server]:
    with running_server(database, env=ON) as server:
        yield server


def command(**params: Any) -> Json:
    inputs = {"argv": ["/bin/sh", "-c", STUBBORN]}
    return {"id": "c", "name": "c", "schemas": {"method": "command_executor"}, "inputs": inputs, "params": params}


def start(server: Server, **params: Any) -> list[psutil.Process]:
    """The processes of a command that runs now."""
    server.rpc("tasks.execute", {"tasks": [command(**params)]})
    with server.events("c") as events:
        line = next(str(event["message"]) for event in events if event["type"] == "log")
    processes = [psutil.Process(int(pid)) for pid in line.split()]
    assert len(processes) == 3
    return processes


def are_gone(processes: list[psutil.Process]) -> bool:
    return all(is_dead(process) for process in processes)


def test_a_command_is_refused_when_it_is_created_until_a_program_is_allowed(database: str) -> None:
    with running_server(database) as server:
        error = server.call("tasks.create", {"tasks": [command()]})["error"]
        assert error["code"] == -32003
        assert error["data"]["enable_with"] == "executors.command.allow: [/path/of/a/program]"
        assert server.query("SELECT id FROM tasks_task WHERE id = 'c'") == []


@pytest.mark.parametrize("force", [False, True])
def test_a_cancelled_command_leaves_nothing_but_its_output(server: Server, force: bool) -> None:
    processes = start(server)
    [answer] = server.rpc("tasks.cancel", {"task_ids": ["c"], "force": force})
    until(lambda: are_gone(processes), seconds=60, what="the end of the command")
    assert answer["status"] == "cancelled"
    task = server.rpc("tasks.get", {"task_id": "c"})
    assert task["status"] == "cancelled"
    assert task["result"]["stdout"].split()[0] == str(processes[0].pid)
    assert "late" not in task["result"]["stdout"]


def test_a_timeout_of_the_task_ends_its_command(server: Server) -> None:
    processes = start(server, timeout_seconds=10)
    failures = [event["error"] for event in server.finished("c") if event["type"] == "task_failed"]
    assert failures == ["Timed out after 10 s (params.timeout_seconds)."]
    until(lambda: are_gone(processes), seconds=60, what="the end of the command")


def test_a_command_dies_with_its_worker_and_is_not_repeated(server: Server) -> None:
    processes = start(server)
    server.kill(*server.pids().workers)
    until(lambda: are_gone(processes), seconds=60, what="the end of the command")
    [error] = [event["error"] for event in server.finished("c") if event["type"] == "task_failed"]
    assert error.startswith("Interrupted")


def test_a_command_ends_with_the_server(database: str) -> None:
    with running_server(database, env=ON) as server:
        processes = start(server)
        server.stop()
        assert are_gone(processes)


READ = """#!/bin/sh
# A program of the operator, which opens the files that its arguments name.
for file; do cat "$file"; done
exit 0
"""
FUNCTION: Final = {"function": "tests.functions_for_tests.process_id"}
CANARY: Final = "canary-of-the-secret-0123456789-abcdef"
AS_SAME_USER: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.getuid() == 0 else ()
"""Of a command line: as root, but without the capabilities with which root reads everything."""


def test_neither_a_command_nor_another_process_of_the_user_reads_the_secrets_of_the_server(
    database: str, tmp_path: Path
) -> None:
    program, port = tmp_path / "read", free_port()
    program.write_text(READ)
    program.chmod(0o755)
    env = {
        "AIPARTNERUPFLOW_LLM_ENCRYPTION_KEYS": CANARY,
        "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW": str(program),
        "AIPARTNERUPFLOW_SERVER_DEBUGGERS": "false",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.functions_for_tests",
    }
    start = [*AS_SAME_USER, *SERVE, "--port", str(port), "--workers", "2"]
    with running(start, port=port, database_url=database, env=env) as server:
        pooled = {"id": "p", "name": "p", "schemas": {"method": "python_executor"}, "inputs": FUNCTION}
        server.rpc("tasks.execute", {"tasks": [pooled], "wait": True})
        pids = [process.pid for process in server.processes()]
        assert len(pids) >= 7, pids  # two web processes and what started them, the cluster, its workers and their pool
        secrets = [f"/proc/{pid}/environ" for pid in pids] + [str(server.data_dir / "secret_key")]
        inputs = {"argv": [str(program), *secrets]}
        task = {"id": "c", "name": "c", "schemas": {"method": "command_executor"}, "inputs": inputs}
        server.rpc("tasks.execute", {"tasks": [task], "wait": True})
        result = server.rpc("tasks.get", {"task_id": "c"})["result"]
        assert result["stdout"] == ""
        assert result["stderr"].count("Permission denied") == len(secrets)
        for process in server.processes():
            found = subprocess.run(
                [*AS_SAME_USER, "cat", f"/proc/{process.pid}/environ"], capture_output=True, text=True, timeout=60
            )
            # The process that counts semaphores for `multiprocessing` runs no code of ours, and has none of the secrets.
            is_ours = not any("resource_tracker" in word for word in process.cmdline())
            assert ("Permission denied" in found.stderr) == is_ours, process.cmdline()
            assert CANARY not in found.stdout, process.cmdline()
