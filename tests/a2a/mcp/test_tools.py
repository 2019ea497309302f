"""Calls of tools: what they return at the end of a run and before it, and what happens to a run whose client leaves."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.a2a.mcp.mcp_client import PREFIX, Client, Json
from tests.servers import Server, until

TREE: Json = {
    "tasks": [
        {"id": "root", "name": "both", "schemas": {"method": "aggregate_results_executor"}, "dependencies": ["left"]},
        {"id": "left", "name": "left", "parent_id": "root", "schemas": {"method": "echo_executor"}, "inputs": {"a": 1}},
    ]
}
WORK: Json = {"name": "work", "schemas": {"method": "scripted_executor"}}
OVER = {"completed", "failed", "cancelled"}


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there yet: gated tasks end once it is."""
    return tmp_path / "gate"


@pytest.fixture
def status_of(mcp_server: Server) -> Callable[[str], str]:
    def status_of(run_id: str) -> str:
        ((status,),) = mcp_server.query("SELECT status FROM tasks_run WHERE id = %s", run_id)
        return str(status)

    return status_of


def text_of(result: Json) -> str:
    text: str = result["content"][0]["text"]
    return text


# --- at the end of a run ---


def test_an_executor_is_a_tool_with_its_own_inputs_and_result(alice: Client) -> None:
    result = alice.call("echo_executor", say="hello")
    assert text_of(result) == '{"say":"hello"}'
    assert result["structuredContent"]["status"] == "completed"
    assert result["structuredContent"]["result"] == {"say": "hello"}


def test_a_tree_returns_all_its_results(alice: Client) -> None:
    data = alice.data("run_tree", **TREE)
    assert data["status"] == "completed"
    (left,) = data["tree"]["children"]
    assert (left["name"], left["result"]) == ("left", {"a": 1})
    again = alice.data("get_run", run_id=data["run_id"])
    assert again == data


def test_a_run_gets_inputs(alice: Client) -> None:
    task = {"name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"topic": "{{run.inputs.topic}}"}}
    data = alice.data("run_tree", tasks=task, run_inputs={"topic": "tea"}, tags=["mcp"])
    assert data["result"] == {"topic": "tea"}
    assert alice.data("list_runs", tag="mcp", fields="id")["runs"][0] == {"id": data["run_id"]}


def test_a_demo_run_calls_nothing(alice: Client) -> None:
    data = alice.data(
        "run_tree",
        tasks={"name": "a", "schemas": {"method": "sleep_executor"}, "inputs": {"seconds": 99}},
        use_demo=True,
    )
    assert data["status"] == "completed"


def test_a_task_that_fails_is_an_error_that_the_model_reads(alice: Client) -> None:
    result = alice.call("scripted_executor", then="fail")
    assert result["isError"] is True
    assert result["structuredContent"]["status"] == "failed"
    assert result["structuredContent"]["error"] in text_of(result)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("run_tree", {"tasks": []}, "tasks"),
        ("run_tree", {"tasks": [{"name": "a", "parent_id": "b"}]}, "parent"),
        ("run_tree", {"tasks": {"name": "a"}, "surprise": 1}, "surprise"),
        ("run_flow", {"name": "no-such-flow"}, "no-such-flow"),
        ("get_run", {"run_id": "no-such-run"}, "no-such-run"),
        ("cancel_run", {"run_id": "no-such-run"}, "no-such-run"),
        ("answer_question", {"task_id": "no-such-task", "answer": "yes"}, "no-such-task"),
        ("sleep_executor", {"seconds": "many"}, "seconds"),
        ("sleep_executor", {"second": 1}, "second: unknown parameter, did you mean 'seconds'?"),
        ("send_event", {"payload": 1}, "event"),
        ("list_runs", {"limit": 0}, "limit"),
    ],
)
def test_arguments_that_are_refused_are_a_result_that_says_why(
    alice: Client, tool: str, arguments: Json, said: str
) -> None:
    result = alice.call(tool, **arguments)
    assert result["isError"] is True
    assert said in text_of(result)


def test_a_flow_runs_with_inputs(alice: Client, mcp_server: Server) -> None:
    flow = {
        "name": f"greet-{alice.version}",
        "inputs_schema": {"properties": {"name": {"type": "string", "description": "Who"}}, "required": ["name"]},
        "tasks": {"name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"text": "{{run.inputs.name}}"}},
    }
    mcp_server.rpc("flows.save", flow, Authorization=f"Bearer {alice.token}")
    listed = {each["name"]: each for each in alice.result("prompts/list")["prompts"]}
    assert listed[flow["name"]]["arguments"] == [{"name": "name", "required": True, "description": "Who"}]
    prompt = alice.result("prompts/get", {"name": flow["name"], "arguments": {"name": "Ada"}})
    assert '{"name":"Ada"}' in prompt["messages"][0]["content"]["text"]
    assert alice.error("prompts/get", {"name": "no-such-flow"})["code"] == -32602
    for arguments, field in (({}, "arguments.name"), ({"name": "Ada", "nam": "x"}, "arguments.nam")):
        error = alice.error("prompts/get", {"name": flow["name"], "arguments": arguments})
        assert (error["code"], [each["field"] for each in error["data"]]) == (-32602, [field])
    data = alice.data("run_flow", name=flow["name"], inputs={"name": "Ada"})
    assert data["result"] == {"text": "Ada"}
    (run,) = alice.data("list_runs", flow=flow["name"])["runs"]
    assert run["id"] == data["run_id"]


def test_a_tree_is_scheduled_previewed_and_moved(alice: Client) -> None:
    task_id = alice.data("run_tree", tasks={"name": "a", "schemas": {"method": "echo_executor"}})["task_id"]
    times = {"cron": "0 7 * * *", "timezone": "Europe/Berlin"}
    assert alice.data("preview_schedule", **times)["in_words"] == "At 07:00 every day (Europe/Berlin)"
    schedule_id = alice.data("create_schedule", task_id=task_id, **times)["id"]
    moved = alice.data("update_schedule", schedule_id=schedule_id, cron="0 6 * * *")
    assert alice.data("get_schedule", schedule_id=schedule_id)["in_words"] == moved["in_words"]
    assert alice.data("trigger_schedule", schedule_id=schedule_id)["outcome"] == "started"
    assert [each["outcome"] for each in alice.data("list_schedule_runs", schedule_id=schedule_id)["runs"]] == [
        "started"
    ]
    assert alice.data("delete_schedule", schedule_id=schedule_id)["deleted"] is True
    refused = alice.call("create_schedule", tasks=[{"name": "a"}], **times)
    assert "run the tree first" in text_of(refused)


def test_a_client_that_asks_its_user_is_asked_for_the_arguments_of_a_prompt(modern: Client, mcp_server: Server) -> None:
    flow = {
        "name": "asks",
        "inputs_schema": {"properties": {"many": {"type": "integer"}, "deep": {"type": "array"}}, "required": ["many"]},
        "tasks": {"name": "a", "schemas": {"method": "echo_executor"}},
    }
    mcp_server.rpc("flows.save", flow, Authorization=f"Bearer {modern.token}")
    asker = replace(modern, capabilities={"elicitation": {}})
    asked = asker.result("prompts/get", {"name": "asks"})
    (request,) = asked["inputRequests"].values()
    assert (asked["resultType"], request["method"]) == ("input_required", "elicitation/create")
    assert request["params"]["requestedSchema"]["properties"] == {"many": {"type": "integer"}}
    accepted = {"arguments": {"action": "accept", "content": {"many": 3}}}
    answered = asker.result("prompts/get", {"name": "asks", "inputResponses": accepted})
    assert '{"many":3}' in answered["messages"][0]["content"]["text"]
    declined = {"arguments": {"action": "decline"}}
    assert asker.error("prompts/get", {"name": "asks", "inputResponses": declined})["code"] == -32602


def test_a_flow_is_a_tool_of_its_owner_if_it_is_saved_as_one(alice: Client, bob: Client, mcp_server: Server) -> None:
    headers = {"Authorization": f"Bearer {alice.token}"}
    schema = {"properties": {"name": {"type": "string"}}, "required": ["name"]}
    task = {"name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"text": "{{run.inputs.name}}"}}
    flow = {"name": f"Tool.{alice.version}", "tasks": task, "inputs_schema": schema, "description": "Greets."}
    name = f"flow_{flow['name']}"

    def listed(client: Client) -> Json | None:
        return next((tool for tool in client.result("tools/list")["tools"] if tool["name"] == name), None)

    assert mcp_server.rpc("flows.save", flow, **headers)["is_tool"] is False
    assert listed(alice) is None
    saved = mcp_server.rpc("flows.save", flow | {"is_tool": True}, **headers)
    assert (saved["is_tool"], saved["is_new"]) == (True, False)
    tool = listed(alice)
    assert tool is not None
    assert (tool["description"], tool["inputSchema"]) == ("Greets.", {"type": "object"} | schema)
    data = alice.data(name, name="Ada")
    assert (data["status"], data["result"]) == ("completed", {"text": "Ada"})
    assert "name" in text_of(alice.call(name))
    assert listed(bob) is None
    unknown = bob.error("tools/call", {"name": name, "arguments": {}})
    missing = f"flow_{'x' * len(flow['name'])}"
    absent = bob.error("tools/call", {"name": missing, "arguments": {}})
    assert str(unknown).replace(name, missing) == str(absent)
    kept = mcp_server.rpc("flows.save", flow | {"description": "Says hello."}, **headers)
    assert (kept["is_tool"], kept["version"]) == (True, 2)
    mcp_server.rpc("flows.save", flow | {"is_tool": False}, **headers)
    assert listed(alice) is None


def test_an_earlier_run_of_a_tree_keeps_its_result(alice: Client, mcp_server: Server) -> None:
    first = alice.data("echo_executor", number=1)
    headers = {"Authorization": f"Bearer {alice.token}"}
    again = {"task_id": first["task_id"], "wait": True}
    mcp_server.rpc("tasks.execute", again, **headers)
    runs = alice.data("list_runs", task_id=first["task_id"])["runs"]
    assert len(runs) == 2
    assert alice.data("get_run", run_id=first["run_id"])["result"] == {"number": 1}


def test_executors_are_listed(alice: Client) -> None:
    listed = {each["id"] for each in alice.data("list_executors")["executors"]}
    assert {"echo_executor", "llm_executor", "rest_executor"} <= listed


# --- while it continues ---


def test_progress_and_logs_come_before_the_result(alice: Client) -> None:
    meta: Json = {"progressToken": "mine"} | ({f"{PREFIX}logLevel": "info"} if alice.is_modern else {})
    arguments = {"seconds": 1.5, "steps": 3}
    messages = alice.messages("tools/call", {"name": "scripted_executor", "arguments": arguments}, **meta)
    progress = [each["params"] for each in messages if each.get("method") == "notifications/progress"]
    assert {each["progressToken"] for each in progress} == {"mine"}
    reached = [each["progress"] for each in progress]
    assert len(reached) > 1
    assert reached == sorted(set(reached))
    assert messages[-1]["result"]["structuredContent"]["status"] == "completed"


def test_a_newer_client_gets_no_logs_unless_it_asks_for_them(modern: Client) -> None:
    params: Json = {"name": "scripted_executor", "arguments": {"seconds": 1.5, "how": "log", "says": b"a line".hex()}}
    quiet = modern.messages("tools/call", params)
    assert [each.get("method") for each in quiet if "method" in each] == []
    sent = modern.messages("tools/call", params, **{f"{PREFIX}logLevel": "debug"})
    assert "a line" in [each["params"]["data"] for each in sent if each.get("method") == "notifications/message"]


def test_a_run_that_takes_long_is_returned_by_its_id(hasty: Client, gate: Path) -> None:
    result = hasty.call("scripted_executor", gate=str(gate))
    data = result["structuredContent"]
    assert (data["status"], data["result"]) == ("in_progress", None)
    assert "get_run" in text_of(result)
    link = result["content"][1]
    assert (link["type"], link["uri"]) == ("resource_link", f"task://{data['run_id']}")
    gate.touch()
    ended = hasty.data("get_run", run_id=data["run_id"], wait_seconds=40)
    assert ended["status"] == "completed"


def test_a_run_that_waits_for_a_person_says_what_it_asks(alice: Client) -> None:
    result = alice.call("approval_executor", question="Publish it?", options=["yes", "no"])
    data = result["structuredContent"]
    (question,) = data["questions"]
    assert (data["status"], question["text"], question["options"]) == ("in_progress", "Publish it?", ["yes", "no"])
    assert "Publish it?" in text_of(result)
    assert alice.data("answer_question", task_id=question["task_id"], answer="yes")["success"]
    assert alice.data("get_run", run_id=data["run_id"], wait_seconds=40)["status"] == "completed"


def test_an_event_is_sent(alice: Client) -> None:
    """Before the wait, so that the task takes it at once."""
    event = {"event": f"paid-{alice.version}", "payload": {"order": 42}, "id": f"evt-{alice.version}"}
    sent = alice.data("send_event", **event)
    assert sent | event == sent
    assert alice.data("send_event", **event) == sent
    inputs = {"event": event["event"], "match": {"/order": 42}, "retain_seconds": 600}
    task = {"name": "paid", "schemas": {"method": "event_executor"}, "inputs": inputs}
    assert alice.data("run_tree", tasks=[task])["result"]["payload"] == {"order": 42}


def test_a_run_is_cancelled(hasty: Client, gate: Path) -> None:
    run_id = hasty.data("scripted_executor", gate=str(gate))["run_id"]
    assert hasty.data("cancel_run", run_id=run_id)["run_id"] == run_id
    ended = hasty.call("get_run", run_id=run_id, wait_seconds=40)
    assert (ended["isError"], ended["structuredContent"]["status"]) == (True, "cancelled")
    assert "before" in hasty.data("cancel_run", run_id=run_id)["message"]


# --- clients that leave ---


def test_a_call_whose_client_leaves_is_cancelled(modern: Client, gate: Path, status_of: Callable[[str], str]) -> None:
    """Up to 2025-11-25 it is not (`test_calls`)."""
    with modern.stream(
        "tools/call", {"name": "scripted_executor", "arguments": {"gate": str(gate)}}, progressToken=1
    ) as messages:
        assert next(messages)["method"] == "notifications/progress"
        run_id = modern.data("list_runs", limit=1)["runs"][0]["id"]
    until(lambda: status_of(run_id) == "cancelled", seconds=60, what="the end of a run whose client has left")


def test_a_run_whose_id_was_given_survives_its_client(hasty: Client, gate: Path) -> None:
    run_id = hasty.data("scripted_executor", gate=str(gate))["run_id"]
    with hasty.stream("tools/call", {"name": "get_run", "arguments": {"run_id": run_id, "wait_seconds": 40}}):
        pass
    hasty.data("scripted_executor")  # the server has served a further call, and the run is still there
    assert hasty.data("get_run", run_id=run_id)["status"] == "in_progress"
    gate.touch()
    assert hasty.data("get_run", run_id=run_id, wait_seconds=40)["status"] == "completed"


# --- others ---


def test_runs_of_others_are_not_there(alice: Client, bob: Client) -> None:
    run_id = alice.data("echo_executor", secret="of alice")["run_id"]
    missing = "0" * len(run_id)
    attacks: list[tuple[str, Json]] = [("get_run", {}), ("get_run", {"wait_seconds": 1}), ("cancel_run", {})]
    for tool, rest in attacks:
        theirs = str(bob.call(tool, run_id=run_id, **rest)).replace(run_id, missing)
        assert theirs == str(bob.call(tool, run_id=missing, **rest))
    assert run_id not in str(bob.data("list_runs"))
    for part in ("", "/tree", "/events", "/events?after=1"):
        uri = f"task://{run_id}{part}"
        assert alice.result("resources/read", {"uri": uri})["contents"][0]["uri"] == uri
        assert str(bob.error("resources/read", {"uri": uri})).replace(run_id, missing) == str(
            bob.error("resources/read", {"uri": f"task://{missing}{part}"})
        )
    assert run_id not in str(bob.result("resources/list"))


def test_a_run_is_a_resource(alice: Client) -> None:
    data = alice.data("echo_executor", say="hello")
    uris = [each["uri"] for each in alice.result("resources/list")["resources"]]
    assert f"task://{data['run_id']}" in uris
    (content,) = alice.result("resources/read", {"uri": f"task://{data['run_id']}"})["contents"]
    assert '"say":"hello"' in content["text"]
    templates = alice.result("resources/templates/list")["resourceTemplates"]
    assert [each["uriTemplate"] for each in templates] == [
        "task://{id}",
        "task://{id}/tree",
        "task://{id}/events{?after}",
        "files://{id}",
    ]
    error = alice.error("resources/read", {"uri": "task://no-such-run"})
    assert error["code"] == (-32602 if alice.is_modern else -32002)


def test_arguments_of_prompts_and_ids_of_runs_are_completed(alice: Client, bob: Client) -> None:
    flow = {
        "name": "complete-me",
        "tasks": [{"name": "a", "schemas": {"method": "echo_executor"}}],
        "inputs_schema": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Parma", "Rome"], "default": "Rome"}, "dry": {"type": "boolean"}},
        },
    }
    saved = {"jsonrpc": "2.0", "id": 1, "method": "flows.save", "params": flow}
    alice.http.post("/tasks", json=saved, headers={"Authorization": f"Bearer {alice.token}"})

    def values(client: Client, ref: Any, name: str, value: str) -> Any:
        params = {"ref": ref, "argument": {"name": name, "value": value}}
        return client.result("completion/complete", params)["completion"]

    prompt = {"type": "ref/prompt", "name": "complete-me"}
    assert values(alice, prompt, "city", "par") == {"values": ["Paris", "Parma"], "total": 2, "hasMore": False}
    assert values(alice, prompt, "city", "")["values"] == ["Rome", "Paris", "Parma"]
    assert values(alice, prompt, "dry", "t")["values"] == ["true"]
    assert values(alice, prompt, "unknown", "")["values"] == []
    run_id = alice.data("run_tree", tasks=[{"name": "a", "schemas": {"method": "echo_executor"}}])["run_id"]
    resource = {"type": "ref/resource", "uri": "task://{id}/tree"}
    assert values(alice, resource, "id", run_id[:-1])["values"] == [run_id]
    assert values(bob, resource, "id", run_id[:-1])["values"] == []
    theirs = {"ref": prompt, "argument": {"name": "city", "value": ""}}
    absent = {"ref": prompt | {"name": "nothing"}, "argument": {"name": "city", "value": ""}}
    assert bob.error("completion/complete", theirs) == bob.error("completion/complete", absent)
