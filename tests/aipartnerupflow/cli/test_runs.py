"""`aipartnerupflow runs …`, `tasks fork`, and what lists say of a run that failed."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

import pytest

from aipartnerupflow.client import Client
from tests.aipartnerupflow.conftest import Json, Said
from tests.terminal import Screen

Cli = Callable[..., Said]
Show = Callable[..., Screen]


@pytest.fixture
def failed(client: Client) -> Json:
    """The root of a tree whose only child has failed, as a list shows it."""
    name = f"failing {uuid4().hex}"
    one = {"id": "one", "name": "echo_executor", "parent_id": "all", "inputs": {"n": "{{run.inputs.barrels}}"}}
    client.execute([{"id": "all", "name": name}, one], wait=True, wait_timeout_seconds=110)
    (found,) = client.list(name=name, summary=True)
    return dict(found)


def test_a_tree_whose_run_failed_is_listed_as_failed(cli: Cli, screen: Show, failed: Json) -> None:
    (listed,) = cli("tasks", "list", "--status", "failed", "--name", failed["name"]).lines
    assert (listed["status"], listed["run_status"], "inputs" in listed) == ("completed", "failed", False)
    assert cli("tasks", "list", "--status", "completed", "--name", failed["name"]).lines == []
    _, line = screen("tasks", "list", "--name", failed["name"]).out.splitlines()
    assert "✗" in line and "2, 1 failed" in line
    assert cli("explain", failed["id"]).out.startswith(f"The run of '{failed['name']}'")


def test_a_run_is_shown_with_what_failed_and_its_tree(cli: Cli, screen: Show, failed: Json) -> None:
    (run,) = cli("runs", "list", "--task", failed["id"], "--status", "failed").lines
    shown = screen("runs", "show", run["id"])
    assert failed["name"] in shown.out and "echo_executor" in shown.err and "tasks fork" in shown.err
    zone = datetime.now().astimezone().tzname()
    assert re.search(rf"created_at +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {zone} ", shown.out)
    assert "✗" in screen("runs", "tree", run["id"]).out
    whole = json.loads(cli("runs", "export", run["id"], "--events").out)
    assert whole["events"][-1]["type"] == "final"
    assert cli("runs", "list", "--task", failed["id"], "--until", run["created_at"]).lines == []
    assert screen("runs", "list", "--task", failed["id"]).out.count(run["id"]) == 1


def test_what_was_not_run_is_not_shown_as_failed(screen: Show, client: Client) -> None:
    bad, late = (
        {"name": name, "parent_id": "all", "schemas": {"method": "echo_executor"}, "id": name.lower()}
        for name in ("Bad", "Late")
    )
    tasks: list[Json] = [
        {"id": "all", "name": "All"},
        {**bad, "inputs": {"n": "{{run.inputs.n}}"}},
        {**late, "dependencies": ["bad"]},
    ]
    done = client.execute(tasks, wait=True, wait_timeout_seconds=110)
    (run,) = client.runs(task_id=done["root_task_id"])["runs"]
    said = screen("runs", "show", run["id"]).err
    assert f"Bad ({done['ids']['bad']}) failed: " in said
    assert f"Late ({done['ids']['late']}): Not run: required dependency " in said


def test_a_fork_is_compared_with_the_run_before(cli: Cli, screen: Show, client: Client, failed: Json) -> None:
    (child,) = client.children(failed["id"])
    forked = cli("tasks", "fork", failed["id"], "--json", "--inputs", json.dumps({child["id"]: {"n": 1}}))
    assert forked.code == 0
    before, after = (
        cli("runs", "list", "--task", task_id).lines[0]["id"] for task_id in (failed["id"], forked.json["root_task_id"])
    )
    said = " ".join(screen("runs", "compare", before, after, "--changed-only").out.split())
    assert "failed completed" in said and "status, inputs, result, error" in said


def test_a_run_that_is_not_there(cli: Cli) -> None:
    done = cli("runs", "show", "nowhere")
    assert (done.code, "Run 'nowhere' not found" in done.err) == (3, True)


def test_what_failed_is_shown_by_cause(cli: Cli, screen: Show, failed: Json) -> None:
    (group,) = (each for each in cli("status", "--since", "1h").lines if "run.inputs.barrels" in each["error"])
    assert (group["runs"] >= 1, group["flows"][0]["name"]) == (True, "")
    shown = screen("status", "--since", "1h")
    assert re.match(r"[\d,]+ of [\d,]+ runs? failed since ", shown.out) and "no flow" in shown.out
    assert re.search(r"^[\d,]+ runs? ", shown.out, re.MULTILINE) and "Cost $" in shown.err
    refused = cli("status", "--since", "2h")
    assert refused.code != 0 and "must be one of visit, 1h, 24h, 7d" in refused.err
