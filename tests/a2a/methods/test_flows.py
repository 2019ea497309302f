"""`flows.*` on a real server: a definition is saved, versioned, and run with inputs, on every interface."""

import json
from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

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


@pytest.mark.both_engines
def test_a_flow_runs_with_inputs_each_time_as_a_new_tree(rpc: Rpc) -> None:
    first = saved(rpc, "tea", description="Makes tea.")
    assert (first["version"], first["newest_version"], first["is_new"], first["warnings"]) == (1, 1, True, [])
    assert rpc("flows.get", {"name": "tea"}) == {
        name: value for name, value in first.items() if name not in ("is_new", "warnings")
    }
    ran = [rpc("flows.run", {"name": "tea", "inputs": {"topic": topic}, "wait": True}) for topic in ("oolong", "mate")]
    assert [each["task"]["result"] for each in ran] == [{"text": topic, "n": 3} for topic in ("oolong", "mate")]
    assert [each["flow"] for each in ran] == [{"name": "tea", "version": 1}] * 2
    assert rpc("tasks.detail", {"task_id": ran[1]["task_id"]})["flow"] == {"name": "tea", "version": 1}
    ids = [set(each["ids"].values()) for each in ran]
    assert ids[0].isdisjoint(ids[1]) and set(ran[0]["ids"]) == {"brew", "pour"}


@pytest.mark.both_engines
def test_a_mistyped_flow_or_run_is_answered_with_the_nearest_one(rpc: Rpc, refusal: Rpc) -> None:
    saved(rpc, "water-the-plants")
    ran = rpc("flows.run", {"name": "water-the-plants", "inputs": {"topic": "x"}, "wait": True})
    (run,) = rpc("runs.list", {"task_id": ran["task_id"]})["runs"]
    id_of_run = run["id"]
    one_off = id_of_run[:-1] + ("0" if id_of_run[-1] != "0" else "1")
    for method, params, meant in (
        ("flows.run", {"name": "water-the-plant"}, "water-the-plants"),
        ("runs.list", {"flow": "water-teh-plants"}, "water-the-plants"),
        ("runs.get", {"run_id": id_of_run[:30]}, id_of_run),
        ("runs.tree", {"run_id": one_off}, id_of_run),
        ("runs.calls", {"run_id": ran["task_id"]}, id_of_run),
    ):
        error = refusal(method, params)
        assert (error["code"], f"not found. Did you mean '{meant}'" in error["message"]) == (-32001, True), error
    assert refusal("runs.get", {"run_id": "%"})["message"].endswith("that the run belongs to you.")


def test_a_flow_or_run_of_another_user_is_never_suggested(auth_server: Server) -> None:
    def post(user_id: str, method: str, params: Json) -> Json:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply: Json = auth_server.http.post("/tasks", json=body, headers=as_(user_id)).json()
        return reply

    post("nearest-ada", "flows.save", {"name": "only-of-ada", "tasks": TASKS})
    started = post("nearest-ada", "flows.run", {"name": "only-of-ada", "inputs": {"topic": "x", "n": 1}})["result"]
    (run,) = post("nearest-ada", "runs.list", {"task_id": started["task_id"]})["result"]["runs"]
    for method, params in (
        ("flows.run", {"name": "only-of-ad"}),
        ("runs.get", {"run_id": run["id"][:30]}),
        ("runs.get", {"run_id": started["task_id"]}),
    ):
        said = {user: post(user, method, params)["error"]["message"] for user in ("nearest-ada", "nearest-bob")}
        assert ["Did you mean" in each for each in said.values()] == [True, False], said


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


@pytest.mark.both_engines
def test_flows_are_listed_page_by_page_and_deleted_and_their_runs_stay(rpc: Rpc, refusal: Rpc) -> None:
    names = ["paged-a", "paged-b", "paged-c"]
    for name in names:
        saved(rpc, name)
    ran = rpc("flows.run", {"name": "paged-b", "inputs": {"topic": "x"}, "wait": True})
    found: list[Json] = []
    cursor: str | None = ""
    while cursor is not None:
        page = rpc("flows.list", {"limit": 2, "cursor": cursor})
        assert len(page["flows"]) <= 2
        found += page["flows"]
        cursor = page["next_cursor"]
    mine = [flow for flow in found if flow["name"] in names]
    assert [flow["name"] for flow in mine] == names
    assert [flow["last_run"] and flow["last_run"]["task_id"] for flow in mine] == [None, ran["task_id"], None]
    assert (mine[1]["last_run"]["status"], mine[1]["last_run"]["version"]) == ("completed", 1)
    assert "tasks" not in mine[0]
    saved(rpc, "paged-b", description="Again.")
    versions = rpc("flows.versions", {"name": "paged-b"})["versions"]
    assert [(each["version"], each["description"]) for each in versions] == [(2, "Again."), (1, "")]
    gone = rpc("flows.delete", {"name": "paged-b"})
    assert gone == {"success": True, "name": "paged-b", "versions_deleted": 2, "runs_kept": 1}
    assert refusal("flows.get", {"name": "paged-b"})["code"] == -32001
    assert rpc("tasks.detail", {"task_id": ran["task_id"]})["flow"] == {"name": None, "version": 1}
    assert rpc("tasks.get", {"task_id": ran["task_id"]})["status"] == "completed"
    assert refusal("flows.list", {"cursor": "!"})["data"][0]["field"] == "cursor"


def test_rest_speaks_of_the_same_flows(open_server: Server, rpc: Rpc) -> None:
    http = open_server.http
    body = {"tasks": TASKS, "inputs_schema": SCHEMA}
    codes = [http.put("/api/flows/rest-tea/", json=body).status_code for _ in range(2)]
    assert codes == [201, 200]
    assert http.get("/api/flows/rest-tea/", params={"version": 1}).json() == rpc("flows.get", {"name": "rest-tea"})
    ran = http.post("/api/flows/rest-tea/runs/", json={"inputs": {"topic": "green"}, "wait": True})
    assert (ran.status_code, ran.json()["task"]["result"]["text"]) == (200, "green")
    assert http.post("/api/flows/rest-tea/runs/", json={"inputs": {"topic": "green"}}).status_code == 202
    assert http.post("/api/flows/rest-tea/runs/", json={"inputs": {}}).status_code == 400
    assert "rest-tea" in [flow["name"] for flow in http.get("/api/flows/").json()["flows"]]
    assert [each["version"] for each in http.get("/api/flows/rest-tea/versions/").json()["versions"]] == [1]
    assert http.delete("/api/flows/rest-tea/").json()["runs_kept"] == 2
    missing = http.get("/api/flows/rest-tea/")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "flow_not_found")


def test_the_same_key_runs_a_flow_once(open_server: Server, rpc: Rpc) -> None:
    saved(rpc, "keyed")
    body = {"jsonrpc": "2.0", "method": "flows.run", "params": {"name": "keyed", "inputs": {"topic": "x"}}, "id": 1}
    first, second = (
        open_server.http.post("/tasks", json=body, headers={"Idempotency-Key": "keyed-once"}).json()["result"]
        for _ in range(2)
    )
    assert first == second
    other = body | {"params": {"name": "keyed", "inputs": {"topic": "y"}}}
    refused = open_server.http.post("/tasks", json=other, headers={"Idempotency-Key": "keyed-once"}).json()
    assert refused["error"]["data"][0]["field"] == "Idempotency-Key"


def test_a_tree_of_a_run_becomes_the_same_flow(rpc: Rpc) -> None:
    definition: list[Json] = [
        {"id": "top", "name": "Top"},
        {"id": "a", "name": "echo_executor", "parent_id": "top", "inputs": {"text": "{{run.inputs.x}}"}},
        {
            "id": "b",
            "name": "echo_executor",
            "parent_id": "top",
            "dependencies": [{"id": "a", "required": True}],
            "inputs": {"text": "{{a.text}}!"},
            "priority": 1,
        },
    ]
    params = {"name": "round", "tasks": definition, "inputs_schema": None}
    rpc("flows.save", params)
    ran = rpc("flows.run", {"name": "round", "inputs": {"x": "hi"}, "wait": True})
    again = rpc("flows.save", {"name": "round-again", "task_id": ran["task_id"]})
    expected = [task | ({"dependencies": ["a"]} if task["id"] == "b" else {}) for task in definition]
    assert again["tasks"] == expected
    result = rpc("flows.run", {"name": "round-again", "inputs": {"x": "ho"}, "wait": True})["task"]
    assert [child["result"]["text"] for child in result["children"]] == ["ho", "ho!"]


def test_an_input_of_the_run_may_be_a_number_of_a_task_without_dependencies(rpc: Rpc, refusal: Rpc) -> None:
    sleep = {"name": "sleep_executor", "inputs": {"seconds": "{{run.inputs.n}}"}}
    ran = rpc("tasks.execute", {"tasks": sleep, "run_inputs": {"n": 0}, "wait": True})
    assert ran["task"]["result"] == {"slept_seconds": 0}
    wrong = rpc("tasks.execute", {"tasks": sleep, "run_inputs": {"n": "long"}, "wait": True})
    assert (wrong["status"], "seconds" in wrong["task"]["error"]) == ("failed", True)
    assert refusal("tasks.create", sleep | {"inputs": {"seconds": "{{other.n}}"}})["code"] == -32602


def test_a_run_takes_what_an_execution_takes(open_server: Server, rpc: Rpc, refusal: Rpc) -> None:
    model = {
        "id": "ask",
        "name": "llm_executor",
        "inputs": {"prompt": "{{run.inputs.topic}}", "model": "openai/gpt-4o"},
    }
    saved(rpc, "options", tasks=model)
    run = {"name": "options", "inputs": {"topic": "tea"}}
    demo = rpc("flows.run", run | {"use_demo": True, "wait": True})
    assert demo["status"] == "completed" and "demo run" in demo["warnings"][0]
    hook = {"url": "http://127.0.0.1:9/hook"}
    assert (
        refusal("flows.run", run | {"webhook_config": {"url": "nothing"}})["data"][0]["field"] == "webhook_config.url"
    )
    assert refusal("flows.run", run | {"webhook_config": hook})["data"][0]["field"] == "webhook_config.url"
    both = refusal("flows.run", run | {"wait": True, "use_streaming": True})
    assert "choose one" in both["data"][0]["reason"]
    resumed = refusal("flows.run", run | {"use_streaming": True, "last_event_id": 3})
    assert (
        resumed["data"][0]["reason"]
        == "resume with tasks.execute and the task_id of the reply; this request would start another run"
    )
    body = {"jsonrpc": "2.0", "method": "flows.run", "params": run | {"use_streaming": True, "use_demo": True}, "id": 1}
    with open_server.http.stream("POST", "/tasks", json=body) as response:
        events = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    types = [event["type"] for event in map(json.loads, events) if "type" in event]
    assert (types[0], types[-2:]) == ("task_start", ["final", "stream_end"])


def test_a_task_of_a_run_is_an_a2a_task_with_its_flow(open_server: Server, rpc: Rpc) -> None:
    saved(rpc, "as-a2a")
    body = {
        "jsonrpc": "2.0",
        "method": "flows.run",
        "params": {"name": "as-a2a", "inputs": {"topic": "x"}, "wait": True},
    }
    task = open_server.http.post("/", json=body | {"id": 1}).json()["result"]
    assert (task["kind"], task["metadata"]["flow"]) == ("task", {"name": "as-a2a", "version": 1})
    listed = open_server.http.post("/", json={"jsonrpc": "2.0", "method": "flows.list", "params": {}, "id": 1}).json()
    assert "as-a2a" in [flow["name"] for flow in listed["result"]["parts"][0]["data"]["flows"]]
