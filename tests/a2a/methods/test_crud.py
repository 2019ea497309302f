from typing import Any

import pytest

from tests.a2a.conftest import Rpc

pytestmark = pytest.mark.both_engines_nightly


def tree(test: str) -> list[dict[str, Any]]:
    return [
        {"id": f"{test}-root", "name": "root"},
        {"id": f"{test}-b", "name": "b", "parent_id": f"{test}-root", "dependencies": [f"{test}-a"]},
        {"id": f"{test}-a", "name": "echo_executor", "parent_id": f"{test}-root", "inputs": {"x": 1}},
    ]


TREE = tree("crud")


@pytest.mark.both_engines
def test_a_tree_is_stored_and_answered_nested(rpc: Rpc) -> None:
    created = rpc("tasks.create", {"tasks": tree("nested")})  # an id in use would be replaced
    assert created["name"] == "root"
    assert [child["name"] for child in created["children"]] == ["b", "echo_executor"]
    assert created["children"][0]["dependencies"] == [{"id": created["ids"]["nested-a"], "required": True}]
    assert created["ids"].keys() == {"nested-root", "nested-a", "nested-b"}
    assert isinstance(created["warnings"], list)
    assert rpc("tasks.tree", {"id": created["id"]})["status"] == "pending"


@pytest.mark.parametrize("params", [{"name": "alone"}, [{"name": "alone"}], {"tasks": {"name": "alone"}}])
def test_one_task_is_a_tree_too(rpc: Rpc, params: Any) -> None:
    created = rpc("tasks.create", params)
    assert (created["name"], created["children"], created["root_task_id"]) == ("alone", [], created["id"])


def test_the_tree_of_a_created_task_runs_when_asked_to(rpc: Rpc) -> None:
    created = rpc("tasks.create", {"tasks": [{"name": "echo_executor", "inputs": {"x": 1}}], "execute": True})
    waited = rpc("tasks.execute", {"task_id": created["id"], "wait": True})
    assert waited["task"]["result"] is not None


@pytest.mark.both_engines
def test_an_id_in_use_gives_way_or_is_refused(rpc: Rpc, refusal: Rpc) -> None:
    task = {"id": "crud-taken", "name": "a"}
    assert rpc("tasks.create", task)["ids"] == {"crud-taken": "crud-taken"}
    renamed = rpc("tasks.create", task)
    assert renamed["ids"] == {"crud-taken": renamed["id"]} != {"crud-taken": "crud-taken"}
    error = refusal("tasks.create", {"tasks": [task], "id_conflict": "error"})
    assert (error["code"], error["data"][0]["field"]) == (-32602, "tasks[0].id")


@pytest.mark.parametrize(
    ("tasks", "code"),
    [
        ([], -32012),
        ([{"name": "a"}, {"name": "b"}], -32012),
        ([{"id": "a", "name": "a"}, {"name": "b", "parent_id": "x"}], -32010),
        ([{"name": "a", "dependencies": ["x"]}], -32011),
        ([{"name": "a", "params": {"executor_id": "ecko_executor"}}], -32003),
        ([{"inputs": {}}], -32602),
        ("a", -32602),
        (
            [
                {"id": "a", "name": "a", "dependencies": ["b"]},
                {"id": "b", "name": "b", "parent_id": "a", "dependencies": ["a"]},
            ],
            -32002,
        ),
    ],
)
def test_a_tree_that_is_none_has_the_code_of_its_fault(refusal: Rpc, tasks: Any, code: int) -> None:
    error = refusal("tasks.create", {"tasks": tasks})
    assert error["code"] == code
    assert error["message"]


def test_an_unknown_executor_names_the_close_ones(refusal: Rpc) -> None:
    error = refusal("tasks.create", {"name": "a", "schemas": {"method": "ecko_executor"}})
    assert "echo_executor" in error["data"]["close_matches"]


def test_on_the_root_address_the_answer_is_an_a2a_task(rpc: Rpc) -> None:
    task = rpc("tasks.create", {"tasks": TREE}, path="/")
    assert (task["kind"], task["status"]["state"]) == ("task", "submitted")
    assert task["id"] == task["contextId"] == task["metadata"]["task"]["id"]
    assert task["status"]["message"]["parts"][0]["data"]["task_count"] == 3
    assert len(task["metadata"]["task"]["children"]) == 2
    assert task["metadata"]["ids"].keys() == {"crud-root", "crud-a", "crud-b"}


@pytest.fixture
def ids(rpc: Rpc) -> dict[str, str]:
    """The stored ids of a tree that never ran: b needs a."""
    ids: dict[str, str] = rpc("tasks.create", {"tasks": TREE})["ids"]
    return ids


@pytest.mark.both_engines
@pytest.mark.parametrize("name", ["task_id", "id"])
def test_an_update_answers_the_task(rpc: Rpc, ids: dict[str, str], name: str) -> None:
    updated = rpc("tasks.update", {name: ids["crud-a"], "inputs": {"x": 2}, "schemas": None, "priority": 0})
    assert (updated["inputs"], updated["priority"], updated["schemas"]) == ({"x": 2}, 0, None)
    assert rpc("tasks.get", {"task_id": ids["crud-a"]}) == updated


def test_an_update_on_the_root_address_answers_an_a2a_task(rpc: Rpc, ids: dict[str, str]) -> None:
    updated = rpc("tasks.update", {"task_id": ids["crud-a"], "name": "x"}, path="/")
    assert (updated["kind"], updated["metadata"]["task"]["name"]) == ("task", "x")


@pytest.mark.parametrize("path", ["/", "/tasks"])
@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({}, -32602, "params"),
        ({"priority": 9}, -32602, "priority"),
        ({"name": None}, -32602, "params"),  # null means absent, so nothing is left to change
        ({"status": "completed"}, -32602, "status"),
        ({"parent_id": "x"}, -32602, "parent_id"),
        ({"user_id": "x"}, -32602, "user_id"),
        ({"nam": "x"}, -32602, "nam"),
        ({"dependencies": ["crud-nowhere"]}, -32011, None),
        ({"schemas": {"method": "ecko_executor"}}, -32003, None),
    ],
)
def test_an_update_that_cannot_be_is_refused(
    refusal: Rpc, ids: dict[str, str], path: str, changes: Any, code: int, field: str | None
) -> None:
    error = refusal("tasks.update", {"task_id": ids["crud-a"], **changes}, path=path)
    assert error["code"] == code
    assert field is None or error["data"][0]["field"] == field


@pytest.mark.both_engines
def test_what_ran_is_neither_changed_nor_lightly_deleted(rpc: Rpc, refusal: Rpc) -> None:
    ids = rpc("tasks.execute", {"tasks": TREE, "wait": True})["ids"]
    update = refusal("tasks.update", {"task_id": ids["crud-a"], "name": "x"})
    assert (update["code"], update["data"]["status"]) == (-32006, "completed")
    delete = refusal("tasks.delete", {"task_id": ids["crud-root"]})
    assert (delete["code"], set(delete["data"]["in_the_way"])) == (-32009, set(ids.values()))
    deleted = rpc("tasks.delete", {"task_id": ids["crud-root"], "force": True})
    assert deleted == {"success": True, "task_id": ids["crud-root"], "deleted_count": 3, "children_deleted": 2}
    assert refusal("tasks.get", {"task_id": ids["crud-a"]})["code"] == -32001


def test_what_is_needed_is_not_deleted(rpc: Rpc, refusal: Rpc, ids: dict[str, str]) -> None:
    error = refusal("tasks.delete", {"id": ids["crud-a"]}, path="/")
    assert (error["code"], error["data"]["in_the_way"]) == (-32009, [ids["crud-b"]])
    message = rpc("tasks.delete", {"id": ids["crud-b"]}, path="/")
    assert (message["kind"], message["role"]) == ("message", "agent")
    assert message["parts"][0]["data"]["deleted_count"] == 1


@pytest.mark.both_engines
@pytest.mark.parametrize("method", ["tasks.copy", "tasks.clone"])
def test_a_copy_is_a_new_tree(rpc: Rpc, ids: dict[str, str], method: str) -> None:
    copy = rpc(method, {"task_id": ids["crud-a"]})
    assert copy["ids"].keys() == {ids["crud-a"], ids["crud-b"]}
    assert (copy["origin_type"], copy["status"], copy["root_task_id"]) == ("copy", "pending", copy["id"])
    assert copy["original_task_id"] == ids["crud-a"]
    assert [child["original_task_id"] for child in copy["children"]] == [ids["crud-b"]]
    assert rpc("tasks.get", {"task_id": ids["crud-a"]})["has_copy"] is True


@pytest.mark.parametrize("custom", [["crud-a", "crud-b"], "crud-a, crud-b"])
def test_the_tasks_of_a_copy_may_be_chosen_by_a_list_or_a_text(rpc: Rpc, ids: dict[str, str], custom: Any) -> None:
    chosen = [ids[name] for name in ("crud-a", "crud-b")]
    params = {"task_id": ids["crud-root"], "copy_mode": "custom"}
    given = chosen if isinstance(custom, list) else ", ".join(chosen)
    assert rpc("tasks.copy", params | {"custom_task_ids": given})["ids"].keys() == set(chosen)


def test_a_copy_on_the_root_address_is_an_a2a_task(rpc: Rpc, ids: dict[str, str]) -> None:
    copy = rpc("tasks.copy", {"task_id": ids["crud-root"], "copy_mode": "full"}, path="/")
    assert (copy["kind"], copy["status"]["state"], len(copy["metadata"]["ids"])) == ("task", "submitted", 3)
    assert len(copy["metadata"]["task"]["children"]) == 2


def test_a_copy_that_is_not_saved_is_what_create_takes(rpc: Rpc, ids: dict[str, str]) -> None:
    params = {"task_id": ids["crud-root"], "save": False, "reset_fields": "inputs"}
    tasks = rpc("tasks.copy", params)
    assert rpc("tasks.create", {"tasks": tasks, "id_conflict": "error"})["children"][1]["inputs"] == {}
    message = rpc("tasks.copy", params, path="/")
    assert [task["name"] for task in message["parts"][0]["data"]["result"]] == ["root", "b", "echo_executor"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"copy_mode": "custom"}, "custom_task_ids"),
        ({"custom_task_ids": ["x"]}, "custom_task_ids"),
        ({"copy_mode": "custom", "custom_task_ids": ["nowhere"]}, "custom_task_ids[0]"),
        ({"copy_mode": "partial"}, "copy_mode"),
        ({"reset_fields": ["id"]}, "reset_fields"),
    ],
)
def test_a_copy_of_nonsense_is_refused(refusal: Rpc, ids: dict[str, str], params: Any, field: str) -> None:
    error = refusal("tasks.copy", {"task_id": ids["crud-root"], **params})
    assert (error["code"], error["data"][0]["field"]) == (-32602, field)
