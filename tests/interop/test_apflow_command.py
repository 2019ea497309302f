"""Nightly: the command line of apflow 0.18.2, with `api_server_url` set to our server, as upgrade.md describes it."""

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.aipartnerupflow.importing.predecessors import V0_18, environment
from tests.servers import Server

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]  # it installs the package, and each command takes seconds

Apflow = Callable[..., "subprocess.CompletedProcess[str]"]
TREE: Final = [
    {
        "id": "old-root",
        "name": "Root",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": ["old-child"],
    },
    {"id": "old-child", "name": "Child", "parent_id": "old-root", "schemas": {"method": "echo_executor"}},
]


@pytest.fixture(scope="module")
def apflow(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Apflow:
    home = tmp_path_factory.mktemp("home")
    (home / "tree.json").write_text(json.dumps(TREE))
    program = environment(V0_18).with_name("apflow")

    def run(*words: str, seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "COLUMNS": "200"}
        return subprocess.run(
            [str(program), *words], env=env, cwd=home, capture_output=True, text=True, timeout=seconds
        )

    assert run("config", "set", "api_server_url", server.url).returncode == 0
    assert run("tasks", "create", "--file", "tree.json").returncode == 0
    return run


def printed(done: "subprocess.CompletedProcess[str]") -> Any:
    """The JSON at the beginning of the output."""
    assert done.returncode == 0, done.stdout + done.stderr
    return json.JSONDecoder().raw_decode(done.stdout)[0]


def test_commands_that_work(apflow: Apflow, server: Server) -> None:
    assert "old-root" in [task["id"] for task in printed(apflow("tasks", "list"))]
    assert printed(apflow("tasks", "get", "old-root"))["name"] == "Root"
    assert [child["id"] for child in printed(apflow("tasks", "tree", "old-root"))["children"]] == ["old-child"]
    assert [child["id"] for child in printed(apflow("tasks", "children", "--parent-id", "old-root"))] == ["old-child"]
    assert "Total" in apflow("tasks", "count", "--root-only").stdout
    assert printed(apflow("tasks", "update", "old-child", "--name", "Renamed"))["name"] == "Renamed"
    assert printed(apflow("tasks", "status", "old-root"))[0]["status"] == "pending"
    server.rpc("tasks.execute", {"task_id": "old-root", "wait": True})
    assert "completed" in apflow("monitor", "watch", "old-root").stdout
    sleeps = {"name": "Sleeps", "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 600}}
    task_id = server.rpc("tasks.execute", {"tasks": sleeps})["task_id"]
    assert printed(apflow("tasks", "cancel", task_id))[0]["status"] == "cancelled"
    draft = server.rpc("tasks.create", {"name": "Draft"})["id"]
    assert printed(apflow("tasks", "delete", draft))["deleted_count"] == 1


def test_tasks_are_scheduled(apflow: Apflow, server: Server) -> None:
    nine = {"schedule_type": "daily", "schedule_expression": "09:00", "schedule_enabled": True}
    task_id = server.rpc("tasks.create", {"name": "Nine", **nine})["id"]
    assert [each["id"] for each in printed(apflow("tasks", "scheduled", "list", "-f", "json"))] == [task_id]
    assert "1 scheduled task(s)" in apflow("tasks", "scheduled", "list").stdout
    assert printed(apflow("tasks", "scheduled", "due", "-f", "json")) == []
    assert '"schedule_expression": "09:00"' in apflow("tasks", "scheduled", "init", task_id).stdout
    assert '"run_count": 1' in apflow("tasks", "scheduled", "complete", task_id).stdout


def test_watch_does_not_call_the_server(apflow: Apflow) -> None:
    """It ends by itself, because its own database does not have the task."""
    watched = apflow("tasks", "watch", "--task-id", "old-root", seconds=600)
    assert "unknown" in watched.stdout
    assert "No such task(s) or database error" in watched.stdout


def test_clone_makes_a_copy_and_cannot_print_it(apflow: Apflow, server: Server) -> None:
    before = server.rpc("tasks.count", {"root_only": True})["total"]
    cloned = apflow("tasks", "clone", "old-root")
    assert "'list' object has no attribute 'get'" in cloned.stderr
    assert server.rpc("tasks.count", {"root_only": True})["total"] == before + 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["monitor", "status", "--all"], "'list' object has no attribute 'get'"),
        (["monitor", "trace", "old-root"], "Error fetching task timeline"),
        (["monitor", "db"], "no attribute 'get_system_health'"),
    ],
)
def test_commands_that_fail(apflow: Apflow, words: list[str], told: str) -> None:
    done = apflow(*words)
    assert done.returncode == 1
    assert told in done.stdout + done.stderr


def test_run_executes_tasks_in_its_own_process(apflow: Apflow, server: Server) -> None:
    echo = json.dumps([{"name": "Echo", "schemas": {"method": "echo_executor"}}])
    done = apflow("run", "flow", "--tasks", echo)
    assert "Unknown executor: echo_executor" in done.stdout
    assert server.rpc("tasks.list", {"name": "Echo"}) == []
