from typing import Any

import pytest

from tasks.executors import describe
from tasks.services.upkeep.demo import WARNING
from tests.a2a.conftest import Rpc

pytestmark = pytest.mark.both_engines_nightly

GUIDE = {"tasks": [{"id": "task1", "name": "my_task", "user_id": "user123", "inputs": {"key": "value"}}]}
SLOW = {"tasks": [{"name": "sleep_executor", "inputs": {"seconds": 60}}]}


def broken(test: str) -> dict[str, Any]:
    """A tree that fails. Its ids are those of one test, for an id in use would be replaced."""
    root, bad, after = (f"{test}-{name}" for name in ("root", "bad", "after"))
    inputs = {"url": "http://127.0.0.1:1/", "method": "GET"}
    return {
        "tasks": [
            {"id": root, "name": "root"},
            {"id": bad, "name": "rest_executor", "parent_id": root, "inputs": inputs},
            {"id": after, "name": "echo_executor", "parent_id": root, "dependencies": [bad]},
        ]
    }


@pytest.mark.parametrize("method", ["tasks.execute", "execute_task_tree"])
def test_new_tasks_are_run_and_the_answer_comes_at_once(rpc: Rpc, method: str) -> None:
    result = rpc(method, GUIDE)
    assert result.keys() == {
        "success",
        "protocol",
        "task_id",
        "root_task_id",
        "status",
        "message",
        "ids",
        "warnings",
    }
    assert (result["success"], result["protocol"], result["status"]) == (True, "jsonrpc", "started")
    assert result["task_id"] == result["root_task_id"] == result["ids"]["task1"]
    assert "my_task" in result["warnings"][0]


@pytest.mark.both_engines
def test_who_waits_gets_the_finished_tree(rpc: Rpc) -> None:
    result = rpc("tasks.execute", GUIDE | {"wait": True})
    assert (result["success"], result["status"]) == (True, "completed")
    assert (result["task"]["status"], result["task"]["result"]) == ("completed", {"key": "value"})
    assert (result["task"]["run_status"], result["task"]["children"]) == ("completed", [])


def test_who_waits_for_a_tree_that_fails_is_told_so(rpc: Rpc) -> None:
    result = rpc("tasks.execute", broken("waited") | {"wait": True})
    assert (result["success"], result["status"], result["task"]["run_status"]) == (False, "failed", "failed")
    bad, after = result["task"]["children"]
    assert bad["status"] == after["status"] == "failed"
    assert after["error"] == f"Not run: required dependency '{bad['id']}' failed"
    assert (after["not_run"], after["cause_id"]) == (True, bad["id"])
    assert not {"not_run", "cause_id"} & (bad.keys() | result["task"].keys())
    single = rpc("tasks.get", {"task_id": after["id"]})
    detail = rpc("tasks.detail", {"task_id": after["id"]})
    for each in (single, detail, *(event for event in detail["events"] if event["type"] == "task_failed")):
        assert (each["status"], each["not_run"], each["cause_id"]) == ("failed", True, bad["id"])
    [standing] = rpc("tasks.running.status", {"task_ids": [after["id"]]})
    assert (standing["not_run"], standing["cause_id"]) == (True, bad["id"])
    [listed] = rpc("tasks.list", {"summary": True, "limit": 1})
    assert (listed["id"], listed["task_counts"]["failed"], listed["not_run_count"]) == (result["task"]["id"], 2, 1)
    tree = rpc("tasks.tree", {"task_id": after["id"]})
    assert tree["children"][1]["task"]["cause_id"] == bad["id"]


def test_who_waits_too_short_is_told_that_it_goes_on(rpc: Rpc) -> None:
    result = rpc("tasks.execute", SLOW | {"wait": True, "wait_timeout_seconds": 0.05})
    assert (result["success"], result["status"]) == (True, "started")
    assert "did not end within" in result["message"]
    assert "task" not in result
    rpc("tasks.cancel", {"task_id": result["task_id"]})


@pytest.mark.both_engines
def test_a_tree_runs_once_at_a_time(rpc: Rpc) -> None:
    started = rpc("tasks.execute", SLOW)
    again = rpc("tasks.execute", {"task_id": started["task_id"]})
    assert (again["success"], again["status"], again["task_id"]) == (True, "already_running", started["task_id"])
    assert again["ids"] == {started["task_id"]: started["task_id"]}
    rpc("tasks.cancel", {"task_id": started["task_id"]})


def test_a_stored_tree_runs_by_the_id_of_its_root(rpc: Rpc) -> None:
    stored = rpc("tasks.create", {"name": "echo_executor", "inputs": {"x": 1}})
    result = rpc("tasks.execute", {"id": stored["id"], "wait": True})
    assert (result["status"], result["task_id"]) == ("completed", stored["id"])


@pytest.mark.both_engines
@pytest.mark.parametrize("copy_children", [False, True])
def test_a_copy_runs_and_leaves_the_original_alone(rpc: Rpc, copy_children: bool) -> None:
    stored = rpc("tasks.create", {"tasks": [{"id": "r", "name": "r"}, {"name": "echo_executor", "parent_id": "r"}]})
    params = {"task_id": stored["id"], "copy_execution": True, "copy_children": copy_children, "wait": True}
    result = rpc("tasks.execute", params)
    assert (result["original_task_id"], result["status"]) == (stored["id"], "completed")
    assert result["task_id"] == result["root_task_id"] == result["task"]["id"] != stored["id"]
    assert len(result["task"]["children"]) == copy_children
    original = rpc("tasks.get", {"task_id": stored["id"]})
    assert (original["status"], original["has_copy"]) == ("pending", True)


def test_on_the_root_address_the_answer_is_the_run(rpc: Rpc) -> None:
    task = rpc("tasks.execute", GUIDE, path="/")
    assert task["kind"] == "task"
    assert task["id"] != task["contextId"] == task["metadata"]["root_task_id"]
    assert task["metadata"]["ids"]["task1"] == task["contextId"]
    assert "my_task" in task["metadata"]["warnings"][0]


def test_on_the_root_address_who_waits_gets_the_artifacts(rpc: Rpc) -> None:
    task = rpc("tasks.execute", GUIDE | {"wait": True}, path="/")
    assert task["status"]["state"] == "completed"
    (artifact,) = task["artifacts"]
    assert (artifact["name"], artifact["parts"]) == ("my_task", [{"kind": "data", "data": {"key": "value"}}])


def test_a_run_again_is_another_a2a_task(rpc: Rpc) -> None:
    first = rpc("tasks.execute", broken("again") | {"wait": True}, path="/")
    again = rpc("tasks.execute", {"task_id": first["contextId"], "wait": True}, path="/")
    assert again["id"] != first["id"]
    assert again["contextId"] == first["contextId"]
    assert (first["status"]["state"], again["status"]["state"]) == ("failed", "failed")


def test_a_demo_run_returns_examples_and_calls_nothing(rpc: Rpc) -> None:
    tasks = [
        {"id": "demo-root", "name": "Gather"},
        {
            "id": "demo-call",
            "parent_id": "demo-root",
            "name": "rest_executor",
            "inputs": {"url": "http://127.0.0.1:9/"},
        },
        {"id": "demo-ask", "parent_id": "demo-root", "name": "approval_executor", "inputs": {"question": "Sure?"}},
    ]
    done = rpc("tasks.execute", {"tasks": tasks, "use_demo": True, "wait": True})
    assert (done["status"], done["warnings"]) == ("completed", [WARNING])
    call, ask = done["task"]["children"]
    assert call["result"] == describe("rest_executor")["example_result"]
    assert ask["result"] == {"answer": "yes", "by": "demo"}


def test_use_demo_does_not_change_a_run_that_is_under_way(rpc: Rpc) -> None:
    asks = {"name": "approval_executor", "inputs": {"question": "Sure?"}}
    started = rpc("tasks.execute", {"tasks": asks})
    again = rpc("tasks.execute", {"task_id": started["task_id"], "use_demo": True})
    assert (again["status"], "warnings" in again) == ("already_running", False)
    rpc("tasks.cancel", {"task_id": started["task_id"]})
