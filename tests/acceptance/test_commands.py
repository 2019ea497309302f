"""Commands on a real server: off until allowed, and gone with all their processes when the task or the worker is."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.servers import Server, running_server, until
from tests.tasks.executors.command.commands import is_dead

Json = dict[str, Any]
ON = {
    "AIPARTNERUPFLOW_EXECUTORS_COMMAND_ALLOW": "/bin/sh",
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
