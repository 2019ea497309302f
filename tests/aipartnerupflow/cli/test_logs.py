"""`aipartnerupflow logs` against a real server."""

import re
from collections.abc import Callable
from datetime import datetime

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Said
from tests.servers import Json, Server
from tests.terminal import Screen

Cli = Callable[..., Said]
Show = Callable[..., Screen]
TREE: list[Json] = [
    {"id": "log-root", "name": "Report", "dependencies": ["log-asks", {"id": "log-fails", "required": False}]},
    {
        "id": "log-asks",
        "parent_id": "log-root",
        "name": "Model",
        "schemas": {"method": "llm_executor"},
        "inputs": {"prompt": "Name three rivers.", "model": "demo/demo"},
    },
    {
        "id": "log-fails",
        "parent_id": "log-root",
        "name": "Call",
        "schemas": {"method": "rest_executor"},
        "inputs": {"url": "http://127.0.0.1:1/"},
        "params": {"allow_failure": True},
    },
]


def test_lines_of_all_tasks_are_printed_with_times_and_names(server: Server, screen: Show, cli: Cli) -> None:
    with Client(server.url) as client:
        client.execute(TREE, wait=True, wait_timeout_seconds=110)
    said = screen("logs", "log-root")
    assert said.code == 0
    # A model's words arrive in as many lines as the clock made of them.
    words = "".join(
        text for _, name, text in (line.split("  ", 2) for line in said.out.splitlines()) if name == "Model"
    )
    assert words.startswith("This is the built-in demo model")
    assert "  Call  failed: " in said.out
    assert "started" not in said.out
    zone = datetime.now().astimezone().tzname()
    assert all(re.match(rf"\d\d:\d\d:\d\d\.\d{{3}} {zone}  ", line) for line in said.out.splitlines())
    own = cli("logs", "log-asks")
    assert "  Model  " in own.out
    assert "  Call  " not in own.out
    events = cli("logs", "log-root", "--all", "--json").lines
    assert [events[0]["seq"], events[-1]["type"]] == [1, "final"]
    assert {"task_start", "log", "task_failed"} <= {event["type"] for event in events}


def test_a_tree_that_has_not_run_says_so(server: Server, screen: Show) -> None:
    with Client(server.url) as client:
        client.create({"id": "log-never", "name": "echo_executor"})
    said = screen("logs", "log-never")
    assert (said.code, "has not run yet" in said.err) == (3, True)
    assert screen("logs", "no-such-task").code == 3
