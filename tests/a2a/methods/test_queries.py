from typing import Any

import pytest

from tests.a2a.conftest import Rpc

pytestmark = pytest.mark.both_engines_nightly

TREE: list[dict[str, Any]] = [
    {"id": "root", "name": "root"},
    {"id": "child", "name": "echo_executor", "parent_id": "root", "inputs": {"x": 1}},
]


@pytest.fixture
def ids(rpc: Rpc) -> dict[str, str]:
    """The stored ids of a tree that never ran."""
    ids: dict[str, str] = rpc("tasks.create", {"tasks": TREE})["ids"]
    return ids


@pytest.fixture
def finished(rpc: Rpc) -> dict[str, str]:
    """The stored ids of a tree that ran."""
    ids: dict[str, str] = rpc("tasks.execute", {"tasks": TREE, "wait": True})["ids"]
    return ids


@pytest.mark.both_engines
def test_get_answers_the_task_alone(rpc: Rpc, ids: dict[str, str]) -> None:
    task = rpc("tasks.get", {"task_id": ids["child"]})
    assert (task["id"], task["parent_id"], task["inputs"]) == (ids["child"], ids["root"], {"x": 1})
    assert "children" not in task


@pytest.mark.parametrize("name", ["root", pytest.param("child", marks=pytest.mark.both_engines)])
def test_tree_answers_the_whole_tree_of_any_task(rpc: Rpc, ids: dict[str, str], name: str) -> None:
    tree = rpc("tasks.tree", {"task_id": ids[name]})
    assert (tree["id"], [child["id"] for child in tree["children"]]) == (ids["root"], [ids["child"]])


@pytest.mark.parametrize(
    "method", ["tasks.get", pytest.param("tasks.tree", marks=pytest.mark.both_engines), "tasks.execute"]
)
@pytest.mark.parametrize("path", ["/", "/tasks"])
def test_a_task_that_is_not_there_is_not_found(refusal: Rpc, method: str, path: str) -> None:
    error = refusal(method, {"task_id": "nowhere"}, path=path)
    assert (error["code"], error["data"]) == (-32001, {"task_id": "nowhere"})


@pytest.mark.both_engines
def test_get_on_the_root_address_answers_the_latest_run(rpc: Rpc, finished: dict[str, str]) -> None:
    root = rpc("tasks.get", {"task_id": finished["root"]}, path="/")
    assert (root["status"]["state"], root["contextId"]) == ("completed", finished["root"])
    assert root["id"] != finished["root"]
    assert {artifact["artifactId"] for artifact in root["artifacts"]} == set(finished.values())
    child = rpc("tasks.get", {"task_id": finished["child"]}, path="/")
    assert child["id"] == root["id"]
    assert [artifact["artifactId"] for artifact in child["artifacts"]] == [finished["child"]]


@pytest.fixture(scope="module")
def owner() -> str:
    return "queries-lister"


@pytest.fixture
def listed(rpc: Rpc, owner: str) -> list[str]:
    """The ids of five roots of one owner, in the order in which they were made."""
    found = rpc("tasks.list", {"user_id": owner, "order": "created_at"})
    for number in range(5 - len(found)):
        found.append(rpc("tasks.create", [{"name": f"number {number}", "user_id": owner}]))
    return [task["id"] for task in found]


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"order": "created_at"}, [0, 1, 2, 3, 4]),
        ({"limit": 2}, [4, 3]),
        ({"limit": 2, "offset": 3}, [1, 0]),
        ({"name": "number 2"}, [2]),
        ({"status": "pending"}, [4, 3, 2, 1, 0]),
        ({"status": ["failed", "completed"]}, []),
        ({"status": []}, [4, 3, 2, 1, 0]),
    ],
)
def test_list_filters_orders_and_pages(
    rpc: Rpc, owner: str, listed: list[str], params: dict[str, Any], expected: list[int]
) -> None:
    found = rpc("tasks.list", {"user_id": owner} | params)
    assert [task["id"] for task in found] == [listed[number] for number in expected]


@pytest.mark.both_engines
@pytest.mark.parametrize("path", ["/", "/tasks"])
@pytest.mark.parametrize("order", ["created_at", "-created_at"])
def test_cursors_lead_through_all_pages(rpc: Rpc, owner: str, listed: list[str], path: str, order: str) -> None:
    cursor, pages = "", []
    while cursor is not None:
        params = {"user_id": owner, "cursor": cursor, "limit": 2, "order": order}
        found = rpc("tasks.list", params, path=path)
        page = found if path == "/tasks" else found["parts"][0]["data"]  # a page is a message of A2A
        pages.append([task["id"] for task in page["tasks"]])
        cursor = page["next_cursor"]
    ordered = listed if order == "created_at" else listed[::-1]
    assert pages == [ordered[:2], ordered[2:4], ordered[4:]]


def test_a_cursor_that_is_none_is_refused(refusal: Rpc) -> None:
    error = refusal("tasks.list", {"cursor": "x"})
    assert (error["code"], error["data"][0]["field"]) == (-32602, "cursor")


@pytest.mark.both_engines
def test_list_shows_children_only_when_asked_to(rpc: Rpc) -> None:
    tasks = [task | {"user_id": "queries-parent"} for task in TREE]
    stored = rpc("tasks.create", {"tasks": tasks})
    roots = rpc("tasks.list", {"user_id": "queries-parent"})
    assert [task["id"] for task in roots] == [stored["id"]]
    everything = rpc("tasks.list", {"user_id": "queries-parent", "root_only": False})
    assert {task["id"] for task in everything} == set(stored["ids"].values())


def test_list_on_the_root_address_answers_a2a_tasks(rpc: Rpc) -> None:
    tasks = [task | {"user_id": "queries-a2a"} for task in TREE]
    ran = rpc("tasks.execute", {"tasks": tasks, "wait": True}, path="/")
    stored = rpc("tasks.create", {"tasks": tasks})
    first, second = rpc("tasks.list", {"user_id": "queries-a2a", "order": "created_at"}, path="/")
    assert (first["id"], first["status"]["state"]) == (ran["id"], "completed")
    assert (second["id"], second["status"]["state"]) == (stored["id"], "submitted")
    assert first["status"]["message"]["parts"][0]["data"] == {
        "protocol": "a2a",
        "status": "completed",
        "progress": 1.0,
        "root_task_id": ran["contextId"],
        "task_count": 2,
    }


@pytest.mark.parametrize("name", ["task_id", pytest.param("parent_id", marks=pytest.mark.both_engines), "id"])
def test_children_are_listed(rpc: Rpc, ids: dict[str, str], name: str) -> None:
    assert [task["id"] for task in rpc("tasks.children", {name: ids["root"]})] == [ids["child"]]
    assert rpc("tasks.children", {name: ids["child"]}) == []
    (child,) = rpc("tasks.children", {name: ids["root"]}, path="/")
    assert (child["kind"], child["metadata"]["task"]["id"]) == ("task", ids["child"])


@pytest.mark.both_engines
def test_counts_have_every_status(rpc: Rpc) -> None:
    rpc("tasks.create", {"tasks": [task | {"user_id": "queries-counter"} for task in TREE]})
    zero = dict.fromkeys(["in_progress", "completed", "failed", "cancelled", "skipped"], 0)
    assert rpc("tasks.count", {"user_id": "queries-counter"}) == {"pending": 2, "total": 2, **zero}
    assert rpc("tasks.count", {"user_id": "queries-counter", "statuses": ["failed", "completed"]})["total"] == 0
    assert rpc("tasks.count", {"user_id": "queries-counter", "statuses": ["pending"]})["pending"] == 2
    message = rpc("tasks.count", {"user_id": "queries-counter", "root_only": True}, path="/")
    assert message["parts"] == [{"kind": "data", "data": {"pending": 1, "total": 1, **zero}}]


@pytest.mark.both_engines
def test_detail_shows_what_surrounds_a_task(rpc: Rpc, finished: dict[str, str]) -> None:
    detail = rpc("tasks.detail", {"task_id": finished["child"]})
    assert [event["type"] for event in detail["events"]] == ["task_start", "task_completed"]
    assert detail["resolved_inputs"] == {"x": 1}
    assert (detail["children"], detail["dependants"]) == ([], [])
    assert detail["timings"]["queued_seconds"] >= 0
    assert detail["timings"]["run_seconds"] >= 0
    root = rpc("tasks.detail", {"id": finished["root"]}, path="/")
    assert root["status"]["state"] == "completed"
    shown = root["metadata"]["task"]
    assert ([child["id"] for child in shown["children"]], shown["events"][-1]["type"]) == ([finished["child"]], "final")
