"""`flows.label` and what callers of `NAME@LABEL` get, on a real server: each way in runs the version of the label."""

from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.mcp.mcp_client import Client
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]


def save(rpc: Rpc, name: str) -> None:
    for number in (1, 2):
        task = {"id": "greet", "name": "echo_executor", "inputs": {"text": f"{number}: {{{{run.inputs.message}}}}"}}
        schema = {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]}
        rpc("flows.save", {"name": name, "tasks": [task], "inputs_schema": schema, "is_tool": True})
    rpc("flows.label", {"name": name, "label": "production", "version": 1, "reason": "first"})


@pytest.mark.both_engines
def test_each_way_in_runs_the_version_of_the_label(rpc: Rpc, http: Any) -> None:
    name, inputs = "labels-ways", {"message": "hi"}
    reference = f"{name}@production"
    save(rpc, name)
    wait = {"wait": True, "wait_timeout_seconds": 600}
    ran = rpc("flows.run", {"name": reference, "inputs": inputs, **wait})
    assert ran["flow"] == {"name": name, "version": 1, "label": "production"}
    assert rpc("tasks.detail", {"task_id": ran["task_id"]})["flow"] == ran["flow"]
    (listed,) = rpc("runs.list", {"task_id": ran["task_id"]})["runs"]
    assert listed["flow"] == ran["flow"]
    assert rpc("flows.get", {"name": reference})["version"] == 1
    assert "label" not in rpc("flows.run", {"name": name, "inputs": inputs})["flow"]
    rest = http.post(f"/api/flows/{reference}/runs/", json={"inputs": inputs, **wait}).json()
    assert rest["flow"] == ran["flow"]
    answered = http.post("/v1/responses", json={"model": f"flow:{reference}", "input": "hi"}).json()
    assert answered["output"][0]["content"][0]["text"] == '{"text":"1: hi"}'
    inner = {"name": "run_tree_executor", "inputs": {"flow": reference, "inputs": inputs}}
    outer = rpc("tasks.execute", {"tasks": [inner], **wait})
    assert rpc("tasks.get", {"task_id": outer["task_id"]})["result"] == {"text": "1: hi"}
    called = Client(http=http).result("tools/call", {"name": f"flow_{reference}", "arguments": inputs})
    assert called["structuredContent"]["result"] == {"text": "1: hi"}
    schedule = rpc(
        "schedules.create", {"flow": reference, "inputs": inputs, "every_seconds": 86_400, "is_paused": True}
    )
    fired = rpc("schedules.trigger", {"schedule_id": schedule["id"]})
    assert rpc("runs.get", {"run_id": fired["run_id"]})["flow"] == ran["flow"]
    rpc("schedules.delete", {"schedule_id": schedule["id"]})
    rpc("flows.delete", {"name": name})


@pytest.mark.both_engines
def test_a_label_moves_shares_and_is_undone_over_the_wire(rpc: Rpc, http: Any, refusal: Rpc) -> None:
    name = "labels-moves"
    save(rpc, name)
    given: Json = {"name": name, "label": "candidate"}
    rpc("flows.label", given | {"version": 2, "reason": "to try"})
    found = rpc("flows.label", given | {"label": "production", "shares": {"candidate": 100}, "reason": "all"})
    assert [(each["label"], each["version"], each["shares"]) for each in found["labels"]] == [
        ("candidate", 2, {}),
        ("production", 1, {"candidate": 100}),
    ]
    ran = rpc("flows.run", {"name": f"{name}@production", "inputs": {"message": "hi"}, "share_key": "ada"})
    assert ran["flow"] == {"name": name, "version": 2, "label": "production", "share": "candidate"}
    assert rpc("flows.versions", {"name": name})["versions"][0]["version"] == 2
    assert rpc("flows.unlabel", given | {"reason": "worse"})["labels"][0]["shares"] == {}
    at, label = f"/api/flows/{name}/labels/", {"label": "production"}
    assert http.put(at, json=label | {"version": 2, "reason": "better"}).json()["labels"][0]["version"] == 2
    moves = http.post(f"{at}undo/", json=label | {"reason": "worse"}).json()["labels"][0]["moves"]
    assert [(move["version"], move["reason"]) for move in moves] == [(1, "first")]
    assert http.get(at).json() == rpc("flows.labels", {"name": name})
    policy = {"dataset": "rows", "evaluator": "accuracy", "at_least": 1}
    for asked in (policy, None):  # null removes it
        assert http.put(at, json=label | {"policy": asked, "reason": "measure"}).json()["labels"][0]["policy"] == asked
    for change, code, field in (
        ({"label": "new"}, -32602, "version"),
        ({"label": "production"}, -32602, "version"),
        ({"label": "production", "version": 9}, -32001, None),
        ({"label": "production", "shares": {"canary": 5}}, -32602, "shares.canary"),
        ({"label": "production", "shares": {"candidate": 130}}, -32602, "shares.candidate"),
        ({"label": "production", "policy": {"dataset": "rows"}}, -32602, "policy.evaluator"),
        (
            {"label": "production", "version": 2, "policy": {"dataset": "none", "evaluator": "a", "at_least": 1}},
            -32602,
            "version",
        ),
    ):
        error = refusal("flows.label", {"name": name, "reason": "no", **change})
        assert error["code"] == code, (change, error)
        assert field is None or field in [each["field"] for each in error["data"]], (change, error)
    assert refusal("flows.run", {"name": f"{name}@canary"})["code"] == -32001
    assert http.delete(at, params=label | {"reason": "unused"}).json()["labels"] == []
    rpc("flows.delete", {"name": name})


def test_labels_of_another_user_are_not_there(auth_server: Server) -> None:
    def asked(user: str, verb: str, path: str, **given: Any) -> Any:
        return auth_server.http.request(verb, f"/api/flows/{path}", headers=as_(user), **given)

    task = {"name": "echo_executor", "inputs": {"text": "x"}}
    asked("labels-alice", "PUT", "labels-own/", json={"tasks": [task]})
    at = "labels-own/labels/"
    label = {"json": {"label": "production", "version": 1, "reason": "first"}}
    assert asked("labels-alice", "PUT", at, **label).status_code == 200
    missing = asked("labels-bob", "GET", "labels-own/")
    for verb, path, given in (
        ("PUT", at, label),
        ("POST", f"{at}undo/", {"json": {"label": "production", "reason": "x"}}),
        ("DELETE", at, {"params": {"label": "production", "reason": "x"}}),
        ("GET", at, {}),
        ("GET", "labels-own/judges/", {}),
        ("PUT", "labels-own/judges/", {"json": {"name": "a", "evaluator": {"expression": "`1`"}, "sample": 1}}),
        ("DELETE", "labels-own/judges/", {"params": {"name": "a"}}),
        ("POST", "labels-own@production/runs/", {"json": {}}),
    ):
        answer = asked("labels-bob", verb, path, **given)
        assert (answer.status_code, answer.content) == (404, missing.content)
    asked("labels-alice", "DELETE", "labels-own/")
