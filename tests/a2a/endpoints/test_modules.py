"""What apflow's web application sends, as axios sends it: the modules of its newest version, and texts of errors.

The shapes are those of its version 0.2.x (`lib/api/apflow.ts`) and of the answers of apflow 0.22.1.
"""

from typing import Any, Final

import httpx
import pytest

from tests.servers import Json, Server, events_of

AXIOS: Final = {"Accept": "application/json, text/plain, */*"}
OWNER: Final = "modules"


def post(server: Server, name: str, body: Any, **headers: str) -> httpx.Response:
    return server.http.post(f"/modules/apflow.{name}", json=body, headers=AXIOS | headers)


def called(server: Server, name: str, body: Any) -> Any:
    response = post(server, name, body)
    assert response.status_code == 200, response.text
    return response.json()


def stored(server: Server, *, seconds: float = 0) -> Json:
    tasks: list[Json] = [
        {"name": "Root", "user_id": OWNER, "schemas": {"method": "aggregate_results_executor"}},
        {
            "name": "Child",
            "user_id": OWNER,
            "parent_id": "Root",
            "schemas": {"method": "sleep_executor"},
            "inputs": {"seconds": seconds},
        },
    ]
    tasks[0]["dependencies"] = [{"name": "Child", "required": True}]
    found: Json = called(server, "task.create_tree", {"tasks": tasks})
    return found


def test_a_task_is_created_read_changed_and_deleted(open_server: Server) -> None:
    task = called(open_server, "task.create", {"name": "One", "user_id": OWNER, "inputs": {"x": 1}})
    named = {"task_id": task["id"]}
    assert (task["status"], task["name"]) == ("pending", "One")
    assert called(open_server, "task.update", named | {"priority": 0})["priority"] == 0
    assert called(open_server, "task.get", named)["inputs"] == {"x": 1}
    deleted = called(open_server, "task.delete", named)
    assert (deleted["task_id"], deleted["deleted"]) == (task["id"], True)
    gone = post(open_server, "task.get", named)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "task_not_found")


def test_lists_are_counted(open_server: Server) -> None:
    tree = stored(open_server)
    root_id, child_id = tree["task_ids"]
    assert tree == {"root_task_id": root_id, "task_count": 2, "task_ids": [root_id, child_id]}
    listed = called(open_server, "task.list", {"user_id": OWNER, "limit": 50, "offset": 0})
    assert root_id in [task["id"] for task in listed["tasks"]]
    assert listed["count"] == listed["total"] == len(listed["tasks"])
    node = called(open_server, "task.tree", {"task_id": root_id})
    assert (node["task"]["id"], [child["task"]["id"] for child in node["children"]]) == (root_id, [child_id])
    children = called(open_server, "task.children", {"task_id": root_id})
    assert ([child["id"] for child in children["children"]], children["count"]) == ([child_id], 1)
    copy = called(open_server, "task.copy", {"task_id": root_id})
    assert (copy["task_count"], copy["origin_type"], copy["root_task_id"] != root_id) == (2, "copy", True)


def test_a_tree_is_executed_and_watched(open_server: Server) -> None:
    root_id = stored(open_server)["root_task_id"]
    body = {"task_id": root_id}
    response = post(open_server, "task.execute", body, Accept="text/event-stream")
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *_, final, end = events_of(iter(response.text.splitlines()))
    assert (final["type"], final["status"], end["type"]) == ("final", "completed", "stream_end")
    again = called(open_server, "task.execute", body)
    assert (again["task_id"], again["status"]) == (root_id, "started")


def test_running_trees_are_listed_and_cancelled(open_server: Server) -> None:
    root_id = stored(open_server, seconds=600)["root_task_id"]
    called(open_server, "task.execute", {"task_id": root_id})
    running = called(open_server, "task.running", {"user_id": OWNER, "limit": 100})
    assert (root_id in [task["id"] for task in running["tasks"]], running["count"]) == (True, len(running["tasks"]))
    (status,) = called(open_server, "task.running", {"task_ids": [root_id]})
    assert (status["task_id"], status["is_running"]) == (root_id, True)
    (answer,) = called(open_server, "task.cancel", {"task_ids": [root_id]})["results"]
    assert (answer["task_id"], answer["status"]) == (root_id, "cancelled")


def test_keys_and_drafts_are_there(open_server: Server) -> None:
    key = {"api_key": "sk-ant-1234567890abcdef", "user_id": OWNER}
    assert called(open_server, "config.llm_key.set", key)["provider"] == "anthropic"
    assert called(open_server, "config.llm_key.get", {"provider": "anthropic", "user_id": OWNER})["has_key"] is True
    assert called(open_server, "config.llm_key.delete", {"provider": "anthropic", "user_id": OWNER})["deleted"] is True
    error = post(open_server, "generate", {"requirement": ""}).json()["error"]
    assert error["message"].startswith("Invalid params: requirement")


def test_tasks_are_scheduled_listed_triggered_and_exported(open_server: Server) -> None:
    task = called(open_server, "task.create", {"name": "echo_executor", "user_id": OWNER, "inputs": {"x": 1}})
    named = {"task_id": task["id"]}
    timing = {"schedule_type": "daily", "schedule_expression": "09:00"}
    assert called(open_server, "schedule.set", named | timing)["schedule_enabled"] is True
    listed = called(open_server, "task.scheduled", {"user_id": OWNER})
    assert (listed["count"], listed["tasks"][0]["id"]) == (1, task["id"])
    assert called(open_server, "schedule.due", {})["count"] == 0
    ran = called(open_server, "schedule.trigger", named)
    assert (ran["status"], ran["result"]) == ("completed", {"x": 1})
    assert called(open_server, "schedule.complete", named)["run_count"] == 2
    (run,) = called(open_server, "schedule.history", named)["runs"]
    assert (run["status"], run["schedule_id"] is not None) == ("completed", True)
    calendar = called(open_server, "schedule.export_ical", {"user_id": OWNER})
    assert (calendar["format"], calendar["ical"].count("BEGIN:VEVENT")) == ("text/calendar", 1)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("task.link", "Call apflow.task.copy"),
        ("task.lst", "Known modules: apflow.task.create, "),
    ],
)
def test_what_is_not_there_is_said(open_server: Server, name: str, told: str) -> None:
    response = post(open_server, name, {"task_id": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "method_not_found")
    assert told in response.json()["error"]["message"]


def test_bad_input_gets_the_refusals_of_rest(open_server: Server) -> None:
    answers = {
        "list": post(open_server, "task.get", ["x"]),
        "unknown": post(open_server, "task.get", {"task_id": "x", "more": 1}),
        "GET": open_server.http.get("/modules/apflow.task.list"),
        "text": open_server.http.post("/modules/apflow.task.list", content="{", headers={"Content-Type": "text/plain"}),
        "broken": open_server.http.post(
            "/modules/apflow.task.list", content="{", headers={"Content-Type": "application/json"}
        ),
    }
    assert {name: (found.status_code, found.json()["error"]["code"]) for name, found in answers.items()} == {
        "list": (400, "invalid_params"),
        "unknown": (400, "invalid_params"),
        "GET": (405, "method_not_allowed"),
        "text": (415, "unsupported_media_type"),
        "broken": (400, "invalid_json"),
    }


def test_modules_are_for_those_who_logged_in(auth_server: Server) -> None:
    response = post(auth_server, "task.list", {})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "authentication_required")


def test_the_demo_server_of_the_predecessor_is_not_here(open_server: Server) -> None:
    """Its web application hides what is for that server only if this is a 404."""
    assert open_server.http.get("/api/demo/tasks/init-status").status_code == 404


def test_health_has_the_newest_name_too(open_server: Server) -> None:
    assert open_server.http.get("/healthz").json() == open_server.http.get("/health").json()


@pytest.mark.parametrize(
    ("path", "method", "params", "told"),
    [
        ("/tasks", "tasks.delete", {"task_id": "none-such"}, "Task 'none-such' not found."),
        ("/tasks", "tasks.create", [{"name": 7, "priority": 9}], "tasks[0].name: must be"),
        ("/tasks", "tasks.generate", {"requirement": ""}, "requirement"),
        ("/system", "config.llm_key.set", {"api_key": "1234567890abcdef"}, "provider"),
    ],
)
def test_a_client_that_accepts_text_gets_errors_as_text(
    open_server: Server, path: str, method: str, params: Any, told: str
) -> None:
    """apflow's web application shows `data`, or else `message`."""
    text, structured = (
        open_server.call(method, params, path=path, **headers)["error"] for headers in (AXIOS, {"Accept": "*/*"})
    )
    assert told in text["data"] == text["message"] == structured["message"]
    assert (text["errors"], text["code"]) == (structured["data"], structured["code"])


def test_a_message_names_several_problems(open_server: Server) -> None:
    tasks = [{"name": "One", "priority": 9, "inputs": 1, "params": 2, "a": 1, "b": 2}]
    message = open_server.call("tasks.create", {"tasks": tasks})["error"]["message"]
    assert message.startswith("Invalid params: tasks[0].priority: must be")
    assert message.endswith("; and 2 more")
    assert message.count("; tasks[0].") == 2


def test_answers_of_a2a_keep_their_data(open_server: Server) -> None:
    error = open_server.call("GetTask", {"id": "none-such"}, path="/", **AXIOS, **{"A2A-Version": "1.0"})["error"]
    assert isinstance(error["data"], list)
