"""Both names of each field, as parsers of ProtoJSON accept them; the contents of clients stay as they are."""

from typing import Any

import pytest

from a2a.protocol.bindings import in_camel_case
from tests.a2a.a2a_client import ECHO, Agent, Json, data
from tests.a2a.protocol.test_versions import old_message

pytestmark = pytest.mark.both_engines_nightly

SNAKE = {"snake_key": {"inner_key": 1}}


@pytest.mark.parametrize(
    ("sent", "understood"),
    [
        ({"task_id": "a"}, {"taskId": "a"}),
        ({"taskId": "a", "task_id": "b"}, {"taskId": "a"}),
        ({"task_id": "b", "taskId": "a"}, {"taskId": "a"}),
        ({"task_push_notification_config": {"task_id": 1}}, {"taskPushNotificationConfig": {"taskId": 1}}),
        ({"parts": [{"media_type": "x"}]}, {"parts": [{"mediaType": "x"}]}),
        ({"metadata": SNAKE, "data": SNAKE}, {"metadata": SNAKE, "data": SNAKE}),
        ({"_": 1, "_private": 2, "a__b": 3, "": 4}, {"_": 1, "_private": 2, "aB": 3, "": 4}),
        ([1, {"page_size": 2}], [1, {"pageSize": 2}]),
        ("task_id", "task_id"),
    ],
)
def test_names_become_camel_case_outside_of_what_belongs_to_clients(sent: Any, understood: Any) -> None:
    assert in_camel_case(sent) == understood


def snake_message(value: Json) -> Json:
    return {"message_id": "m", "role": "ROLE_USER", "parts": [{"data": value}]}


def test_a_message_in_original_names_runs_and_its_data_is_not_renamed(alice: Agent) -> None:
    tree = {"tasks": [{"name": "echo_executor", "inputs": SNAKE}]}
    params = {"message": snake_message(tree), "configuration": {"return_immediately": False, "history_length": 0}}
    over_rpc = alice.call("SendMessage", params)["task"]
    over_http = alice.http.post("/message:send", json=params, headers=alice.headers).json()["task"]
    for task in (over_rpc, over_http):
        assert task["artifacts"][0]["parts"][0]["data"] == SNAKE
        assert "history" not in task


def test_a_filter_in_original_names_filters(alice: Agent) -> None:
    task = alice.send(data(ECHO))
    assert alice.call("ListTasks", {"context_id": "none-such"})["tasks"] == []
    assert alice.http.get("/tasks?context_id=none-such", headers=alice.headers).json()["tasks"] == []
    query = f"context_id={task['contextId']}&page_size=1"
    assert alice.http.get(f"/tasks?{query}", headers=alice.headers).json()["tasks"][0]["id"] == task["id"]


def test_version_0_3_accepts_both_names_too(old_alice: Agent) -> None:
    message = old_message(ECHO)
    message["message_id"] = message.pop("messageId")
    task = old_alice.call("message/send", {"message": message, "configuration": {"history_length": 0}})
    assert task["status"]["state"] == "completed"
    assert "history" not in task
