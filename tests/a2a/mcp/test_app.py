"""The app of runs: its document, the tools that it calls, and the rights of those who call them."""

from dataclasses import replace
from pathlib import Path

import pytest
from django.core import signing
from django.db import connection
from django.test.utils import CaptureQueriesContext

from a2a.mcp import sessions
from a2a.mcp.tools import app
from accounts.callers import LOCAL
from tasks.services import trees
from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import LEGACY, Client, Json
from tests.servers import Server

URI = "ui://aipartnerupflow/run"
APPS: Json = {"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}}


def with_apps(client: Client) -> Client:
    """The client as a host that shows apps."""
    return client.begun(**APPS) if client.version == LEGACY else replace(client, capabilities=APPS)


def waiting_for(path: Path) -> Json:
    return {"name": "work", "schemas": {"method": "scripted_executor"}, "inputs": {"gate": str(path)}}


def test_the_tools_name_an_app_that_is_there(alice: Client) -> None:
    tools = {tool["name"]: tool.get("_meta", {}).get("ui", {}) for tool in alice.result("tools/list")["tools"]}
    assert {name for name, ui in tools.items() if ui.get("resourceUri") == URI} == {
        *("run_tree", "run_flow", "show_run", "show_flow")
    }
    assert {name for name, ui in tools.items() if ui.get("visibility") == ["app"]} == {"watch_run", "link_file"}
    (content,) = alice.result("resources/read", {"uri": URI})["contents"]
    assert (content["uri"], content["mimeType"]) == (URI, "text/html;profile=mcp-app")
    assert content["text"].startswith("<!doctype html>")
    assert content["_meta"] == {"ui": {"prefersBorder": True}}


def test_no_other_document_is_there(alice: Client) -> None:
    missing = alice.error("resources/read", {"uri": "ui://aipartnerupflow/other"})
    of_run = alice.error("resources/read", {"uri": "task://no-such-run"})
    assert missing["code"] == of_run["code"]
    assert missing["message"] == "Resource not found: ui://aipartnerupflow/other"


def test_the_server_declares_apps(alice: Client) -> None:
    info = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "a-client", "version": "1"}}
    said = alice.result(*(("initialize", info) if alice.version == LEGACY else ("server/discover",)))
    assert "io.modelcontextprotocol/ui" in said["capabilities"]["extensions"]


def test_a_host_with_apps_gets_a_run_while_it_continues(alice: Client, tmp_path: Path) -> None:
    host = with_apps(alice)
    found = host.data("run_tree", tasks=waiting_for(tmp_path / "gate"))
    assert found["status"] == "in_progress"
    (tmp_path / "gate").touch()
    assert host.data("get_run", run_id=found["run_id"], wait_seconds=45)["status"] == "completed"


def test_an_app_asks_and_the_client_does_not(alice: Client) -> None:
    elicits = APPS | {"elicitation": {"form": {}}}
    host = alice.begun(**elicits) if alice.version == LEGACY else replace(alice, capabilities=elicits)
    ask = {"name": "ask", "schemas": {"method": "approval_executor"}, "inputs": {"question": "Publish?"}}
    (reply,) = host.messages("tools/call", {"name": "run_tree", "arguments": {"tasks": ask}})[-1:]
    found = reply["result"]["structuredContent"]
    assert [each["text"] for each in found["questions"]] == ["Publish?"]
    seen = host.data("watch_run", run_id=found["run_id"])
    assert [each["text"] for each in seen["questions"]] == ["Publish?"]
    host.data("cancel_run", run_id=found["run_id"])


def test_a_run_is_watched_from_its_beginning_to_its_end(alice: Client, tmp_path: Path) -> None:
    tasks = [
        {"id": "root", "name": "both", "dependencies": ["left"], "schemas": {"method": "aggregate_results_executor"}},
        waiting_for(tmp_path / "gate") | {"id": "left", "name": "left", "parent_id": "root"},
    ]
    run_id = with_apps(alice).data("run_tree", tasks=tasks)["run_id"]
    seen = alice.data("show_run", run_id=run_id)
    assert (seen["name"], seen["status"], seen["done"], seen["total"]) == ("both", "in_progress", 0, 2)
    assert [(task["name"], task["parent_id"] is None) for task in seen["tasks"]] == [("both", True), ("left", False)]
    (tmp_path / "gate").touch()
    while seen["status"] == "in_progress":
        later = alice.data("watch_run", run_id=run_id, after=seen["seq"], wait_seconds=45)
        assert later["seq"] > seen["seq"]
        seen = later
    assert (seen["status"], seen["done"]) == ("completed", 2)
    assert {task["status"] for task in seen["tasks"]} == {"completed"}
    again = alice.data(
        "watch_run", run_id=run_id, after=seen["seq"], wait_seconds=45
    )  # it is over: nothing to wait for
    assert again == seen


def test_an_earlier_run_is_shown_as_it_was(alice: Client, mcp_server: Server) -> None:
    task = {"name": "once", "schemas": {"method": "echo_executor"}, "inputs": {"say": "hello"}}
    first = alice.data("run_tree", tasks=task)
    again = {"task_id": first["task_id"], "wait": True}
    mcp_server.rpc("tasks.execute", again, Authorization=f"Bearer {alice.token}")
    seen = alice.data("show_run", run_id=first["run_id"])
    assert (seen["number"], seen["status"], seen["done"], seen["total"]) == (1, "completed", 1, 1)


def test_a_flow_is_shown_with_its_form(alice: Client, mcp_server: Server) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    task = {"name": "a", "schemas": {"method": "echo_executor"}, "inputs": {"text": "{{run.inputs.name}}"}}
    flow = {"name": f"shown-{alice.version}", "description": "Says a name.", "inputs_schema": schema, "tasks": task}
    mcp_server.rpc("flows.save", flow, Authorization=f"Bearer {alice.token}")
    assert alice.data("show_flow", name=flow["name"]) == {
        "flow": flow["name"],
        "version": 1,
        "description": "Says a name.",
        "inputs_schema": schema,
    }


@pytest.mark.parametrize(
    ("tool", "name"), [("show_run", "run_id"), ("watch_run", "run_id"), ("show_flow", "name"), ("link_file", "file_id")]
)
def test_what_is_not_yours_is_not_there(alice: Client, bob: Client, mcp_server: Server, tool: str, name: str) -> None:
    token = {"Authorization": f"Bearer {alice.token}"}
    task = {"name": "a", "schemas": {"method": "echo_executor"}}
    flow = f"hidden-{tool}-{alice.version}"
    mcp_server.rpc("flows.save", {"name": flow, "tasks": task}, **token)
    file = mcp_server.http.post("/files?name=a.txt", content=b"a", headers=token).json()["$file"]
    own = {"run_id": alice.data("run_tree", tasks=task)["run_id"], "name": flow, "file_id": file}[name]
    assert not alice.call(tool, **{name: own}).get("isError")
    missing = f"{own[:-1]}{'x' if own[-1] != 'x' else 'y'}"
    refused, absent = bob.call(tool, **{name: own}), bob.call(tool, **{name: missing})
    assert refused["isError"] is True
    assert str(refused).replace(own, missing) == str(absent)


def test_a_viewer_sees_and_does_not_change(alice: Client, mcp_server: Server, tmp_path: Path) -> None:
    viewer = replace(alice, token=token_of("alice", "viewer"))
    run_id = with_apps(alice).data("run_tree", tasks=waiting_for(tmp_path / "gate"))["run_id"]
    assert viewer.data("watch_run", run_id=run_id)["status"] == "in_progress"
    assert {"show_run", "watch_run"} <= {tool["name"] for tool in viewer.result("tools/list")["tools"]}
    assert "error" in viewer.messages("tools/call", {"name": "cancel_run", "arguments": {"run_id": run_id}})[-1]
    (tmp_path / "gate").touch()


def test_a_session_that_began_before_an_upgrade_continues() -> None:
    sent = {sessions.HEADER: signing.dumps(["its-id", LOCAL.user_id, ["form"], True], salt=sessions.SALT)}
    found = sessions.session_in(sent, LOCAL)
    assert found == sessions.Session(id="its-id", capabilities={"elicitation": {"form": {}}, "sampling": {}})


@pytest.mark.django_db
def test_a_large_tree_is_shown_by_its_first_tasks_without_a_query_for_each() -> None:
    queries = set()
    for count in (3, 700):
        root = {"id": f"root-{count}", "name": "root"}
        echo = {"parent_id": root["id"], "schemas": {"method": "echo_executor"}}
        tasks = [root, *({"id": f"{count}-{number}", "name": "leaf"} | echo for number in range(count))]
        run = trees.execute_tree(caller=LOCAL, tasks=tasks).run
        with CaptureQueriesContext(connection) as made:
            seen = app.shown(caller=LOCAL, run_id=run.id)["structuredContent"]
        queries.add(len(made))
    assert (len(seen["tasks"]), seen["total"], seen["done"], len(queries)) == (500, 701, 0, 1)
