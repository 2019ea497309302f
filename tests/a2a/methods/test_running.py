from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.a2a.conftest import Rpc

pytestmark = pytest.mark.both_engines_nightly

OWNER = "running-owner"
SLOW = [
    {"id": "running-root", "name": "root", "user_id": OWNER},
    {"id": "running-slow", "name": "sleep_executor", "parent_id": "running-root", "inputs": {"seconds": 60}},
    {"id": "running-after", "name": "echo_executor", "parent_id": "running-root", "dependencies": ["running-slow"]},
]


@pytest.fixture
def ids(rpc: Rpc) -> Iterator[dict[str, str]]:
    """The ids of a tree that runs, and is cancelled at the end."""
    ids: dict[str, str] = rpc("tasks.execute", {"tasks": SLOW})["ids"]
    yield ids
    rpc("tasks.cancel", {"task_id": ids["running-root"], "force": True})


@pytest.mark.both_engines
def test_what_runs_is_listed_and_counted(http: httpx.Client, rpc: Rpc, ids: dict[str, str]) -> None:
    assert [task["id"] for task in rpc("tasks.running.list", {"user_id": OWNER})] == [ids["running-root"]]
    assert rpc("tasks.running.count", {"user_id": OWNER}) == {"count": 1}
    (shown,) = rpc("tasks.running.list", {"user_id": OWNER}, path="/")
    assert (shown["kind"], shown["contextId"]) == ("task", ids["running-root"])
    message = rpc("tasks.running.count", {"user_id": OWNER}, path="/")
    assert (message["kind"], message["parts"][0]["data"]) == ("message", {"count": 1})
    rpc("tasks.cancel", {"task_id": ids["running-root"]})
    assert '"final"' in http.get(f"/tasks/{ids['running-root']}/events").text  # the stream ends with the run
    assert rpc("tasks.running.list", {"user_id": OWNER}) == []
    assert rpc("tasks.running.count", {"user_id": OWNER}) == {"count": 0}


@pytest.mark.parametrize("name", ["task_ids", "context_ids"])
@pytest.mark.parametrize("as_text", [False, True])
def test_the_status_of_each_is_told_in_its_place(rpc: Rpc, ids: dict[str, str], name: str, as_text: bool) -> None:
    asked: Any = [ids["running-root"], "running-nowhere", ids["running-after"]]
    root, nowhere, after = rpc("tasks.running.status", {name: ",".join(asked) if as_text else asked})
    assert (root["task_id"], root["context_id"], root["is_running"]) == (asked[0], asked[0], True)
    assert nowhere == {
        "task_id": "running-nowhere",
        "context_id": None,
        "status": "not_found",
        "progress": 0.0,
        "error": None,
        "is_running": False,
        "started_at": None,
        "updated_at": None,
    }
    assert (after["status"], after["is_running"], after["started_at"]) == ("pending", False, None)


def test_on_the_root_address_each_status_comes_with_its_task(rpc: Rpc, ids: dict[str, str]) -> None:
    params = {"task_ids": [ids["running-after"], "running-nowhere"], "task_id": ids["running-root"]}
    after, nowhere, root = rpc("tasks.running.status", params, path="/")
    assert (after["kind"], after["metadata"]["answer"]["status"]) == ("task", "pending")
    assert (nowhere["kind"], nowhere["parts"][0]["data"]["status"]) == ("message", "not_found")
    assert root["metadata"]["answer"]["is_running"] is True


@pytest.mark.both_engines
@pytest.mark.parametrize("method", ["tasks.cancel", "tasks.running.cancel"])
@pytest.mark.parametrize("name", ["task_id", "id", "task_ids", "context_ids"])
def test_a_tree_is_cancelled_by_any_of_its_names(rpc: Rpc, ids: dict[str, str], method: str, name: str) -> None:
    (answer,) = rpc(method, {name: ids["running-root"], "error_message": "No longer wanted"})
    assert (answer["task_id"], answer["status"], answer["current_status"]) == (
        ids["running-root"],
        "cancelled",
        "cancelled",
    )
    tree = rpc("tasks.tree", {"task_id": ids["running-root"]})
    assert {child["status"] for child in tree["children"]} == {"cancelled"}
    assert tree["children"][0]["error"] == "No longer wanted"
    (again,) = rpc(method, {name: ids["running-root"]})
    assert (again["status"], again["current_status"]) == ("failed", "cancelled")


def test_on_the_root_address_the_cancelled_are_a2a_tasks(rpc: Rpc, ids: dict[str, str]) -> None:
    cancelled, nowhere = rpc("tasks.cancel", {"task_ids": [ids["running-root"], "running-nowhere"]}, path="/")
    assert (cancelled["kind"], cancelled["metadata"]["answer"]["status"]) == ("task", "cancelled")
    assert cancelled["metadata"]["task"]["status"] == "cancelled"
    assert nowhere["parts"][0]["data"]["status"] == "failed"


@pytest.mark.parametrize("method", ["tasks.cancel", "tasks.running.status"])
@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "task_ids"),
        ({"task_ids": [str(number) for number in range(1001)]}, "task_ids"),
        ({"task_ids": [7]}, "task_ids[0]"),
        ({"task_ids": {"a": 1}}, "task_ids"),
    ],
)
def test_ids_that_are_none_are_refused(refusal: Rpc, method: str, params: dict[str, Any], field: str) -> None:
    error = refusal(method, params)
    assert (error["code"], error["data"][0]["field"]) == (-32602, field)
