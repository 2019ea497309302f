"""`flows.*` on a real server: a definition is saved, versioned, and run with inputs, on every interface."""

from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines

Json = dict[str, Any]
TASKS: list[Json] = [
    {"id": "brew", "name": "echo_executor", "inputs": {"text": "{{run.inputs.topic}}", "n": "{{run.inputs.n}}"}},
    {"id": "pour", "name": "echo_executor", "parent_id": "brew", "dependencies": [], "inputs": {"text": "poured"}},
]
SCHEMA: Json = {
    "type": "object",
    "properties": {"topic": {"type": "string"}, "n": {"type": "integer", "default": 3}},
    "required": ["topic"],
}


def saved(rpc: Rpc, name: str, **changes: Any) -> Json:
    params = {"name": name, "tasks": TASKS, "inputs_schema": SCHEMA} | changes
    answer: Json = rpc("flows.save", params)
    return answer


def test_a_flow_runs_with_inputs_each_time_as_a_new_tree(rpc: Rpc) -> None:
    first = saved(rpc, "tea", description="Makes tea.")
    assert (first["version"], first["newest_version"], first["is_new"], first["warnings"]) == (1, 1, True, [])
    assert rpc("flows.get", {"name": "tea"}) == {
        name: value for name, value in first.items() if name not in ("is_new", "warnings")
    }
    ran = [rpc("flows.run", {"name": "tea", "inputs": {"topic": topic}, "wait": True}) for topic in ("oolong", "mate")]
    assert [each["task"]["result"] for each in ran] == [{"text": topic, "n": 3} for topic in ("oolong", "mate")]
    assert [each["flow"] for each in ran] == [{"name": "tea", "version": 1}] * 2
    ids = [set(each["ids"].values()) for each in ran]
    assert ids[0].isdisjoint(ids[1]) and set(ran[0]["ids"]) == {"brew", "pour"}


def test_a_run_stays_on_its_version(rpc: Rpc) -> None:
    saved(rpc, "versions")
    again = saved(rpc, "versions")
    assert (again["version"], again["is_new"]) == (1, False)
    changed = [TASKS[0] | {"inputs": {"text": "changed"}}]
    assert saved(rpc, "versions", tasks=changed)["version"] == 2
    run = {"name": "versions", "inputs": {"topic": "x"}, "wait": True}
    assert rpc("flows.run", run)["task"]["result"] == {"text": "changed"}
    assert rpc("flows.run", run | {"version": 1})["task"]["result"]["text"] == "x"
    assert rpc("flows.get", {"name": "versions", "version": 1})["tasks"] == TASKS


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        (
            {"tasks": [{"name": "a", "inputs": {"x": "{{run.inputs.topci}}"}}]},
            "tasks[0].inputs.x",
            "did you mean 'topic'?",
        ),
        ({"inputs_schema": {"type": "array"}}, "inputs_schema", "must describe an object"),
        (
            {"inputs_schema": {"properties": {"n": {"type": "integer", "default": "x"}}}},
            "inputs_schema",
            "properties.n",
        ),
        ({"inputs_schema": {"properties": 1}}, "inputs_schema", "not a valid JSON Schema"),
        ({"name": "a b"}, "name", "match"),
        ({"task_id": "x"}, "task_id", "cannot be combined"),
    ],
)
def test_what_cannot_run_is_not_saved(refusal: Rpc, change: Json, field: str, reason: str) -> None:
    error = refusal("flows.save", {"name": "bad", "tasks": TASKS, "inputs_schema": SCHEMA} | change)
    assert (error["code"], error["data"][0]["field"]) == (-32602, field), error
    assert reason in error["data"][0]["reason"]
    assert refusal("flows.get", {"name": "bad"})["code"] == -32001


@pytest.mark.parametrize(
    ("inputs", "field", "reason"),
    [
        ({}, "inputs.topic", "is required"),
        ({"topic": "x", "m": 1}, "inputs.m", "is no input of this flow"),
        ({"topic": 1}, "inputs", "topic"),
    ],
)
def test_inputs_that_do_not_fit_start_nothing(rpc: Rpc, refusal: Rpc, inputs: Json, field: str, reason: str) -> None:
    saved(rpc, "strict")
    error = refusal("flows.run", {"name": "strict", "inputs": inputs})
    assert (error["code"], error["data"][0]["field"]) == (-32602, field), error
    assert reason in error["data"][0]["reason"]


def test_flows_of_others_are_not_there(auth_server: Server) -> None:
    def call(user: str, method: str, params: Json, **claims: Any) -> Json:
        body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
        reply: Json = auth_server.http.post("/tasks", json=body, headers=as_(user, **claims)).json()
        return reply

    params = {"name": "mine", "tasks": TASKS[:1]}
    assert call("flow-alice", "flows.save", params)["result"]["version"] == 1
    for method in ("flows.get", "flows.run"):
        stranger = call("flow-bob", method, {"name": "mine", "user_id": "flow-alice"})
        assert stranger["error"]["code"] == -32001
        assert stranger == call("flow-bob", method, {"name": "mine", "user_id": "no-such-user"})
    assert call("flow-bob", "flows.save", params)["result"]["version"] == 1
    admin = call(
        "flow-carol",
        "flows.run",
        {"name": "mine", "user_id": "flow-alice", "inputs": {"topic": 1, "n": 1}},
        roles=["admin"],
    )
    task_id = admin["result"]["task_id"]
    assert call("flow-alice", "tasks.get", {"task_id": task_id})["result"]["user_id"] == "flow-alice"
