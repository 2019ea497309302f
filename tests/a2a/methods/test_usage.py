"""`usage.get` on a real server: what the demo model used, on every interface, and what is refused. And what a run has
spent of its budget.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aipartnerupflow.client import Client
from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server, until

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
TASK: Json = {"name": "llm_executor", "inputs": {"prompt": "Name three rivers.", "model": "demo/rivers"}}


def asked(server: Server, user: str) -> Json:
    """Let a model answer, and return what its task used."""
    params = {"tasks": TASK, "wait": True}
    body = {"jsonrpc": "2.0", "method": "tasks.execute", "params": params, "id": 1}
    reply = server.http.post("/tasks", json=body, headers=as_(user)).json()
    used: Json = reply["result"]["task"]["token_usage"]
    return used


@pytest.mark.both_engines
def test_what_a_model_used_is_counted_for_its_user_alone(auth_server: Server) -> None:
    used = asked(auth_server, "usage-alice")
    query = {"by": ["day", "model", "executor", "user"]}
    report = auth_server.http.get("/api/usage/", params=query, headers=as_("usage-alice")).json()
    today = datetime.now(UTC).date()
    assert report["since"] == (today - timedelta(days=29)).isoformat()
    (row,) = report["rows"]
    named = {"day": today.isoformat(), "model": "demo/rivers", "executor": "llm_executor", "user": "usage-alice"}
    assert row == named | used | {"calls": 1, "unpriced_calls": 0}
    assert report["total"] == used | {"calls": 1, "unpriced_calls": 0}
    others = auth_server.http.get("/api/usage/", params=query, headers=as_("usage-bob")).json()
    assert (others["rows"], others["total"]["calls"]) == ([], 0)
    mine = {"user_id": "usage-alice", "by": "user"}
    assert auth_server.http.get("/api/usage/", params=mine, headers=as_("usage-bob")).json()["rows"] == []
    admin = auth_server.http.get("/api/usage/", params=mine, headers=as_("usage-carol", roles=["admin"])).json()
    assert [row["user"] for row in admin["rows"]] == ["usage-alice"]


def test_clients_of_every_interface_read_it(open_server: Server, rpc: Rpc) -> None:
    tasks = TASK | {"inputs": {"prompt": "Hi", "model": "demo/hi"}}
    rpc("flows.save", {"name": "hi-flow", "tasks": tasks})
    rpc("flows.run", {"name": "hi-flow", "wait": True})
    by_rpc = rpc("usage.get", {"by": ["model", "flow"], "model": "demo/hi"})
    assert [(row["model"], row["flow"]) for row in by_rpc["rows"]] == [("demo/hi", "hi-flow")]
    with Client(str(open_server.http.base_url)) as client:
        assert client.usage(by=["model", "flow"], flow="hi-flow") == by_rpc
    assert open_server.http.get("/api/usage/?by=model&by=flow&flow=hi-flow").json() == by_rpc
    page = open_server.http.get("/ui/usage/?days=7").text
    assert "demo/hi" in page
    assert "<td>hi-flow</td>" in page


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"since": "yesterday"}, "since", "regex"),
        ({"since": "2026-02-30"}, "since", "no day of the calendar"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "since", "must not be after"),
        ({"by": "week"}, "by", "one of day, executor, flow, model, user"),
        ({"days": 3}, "days", "unknown parameter"),
    ],
)
def test_what_is_no_report_is_refused_by_name(refusal: Rpc, params: Json, field: str, reason: str) -> None:
    error = refusal("usage.get", params)
    assert error["code"] == -32602
    assert (error["data"][0]["field"], reason in error["data"][0]["reason"]) == (field, True), error


def test_what_a_run_has_spent_of_its_budget_is_shown_and_its_owner_is_asked(open_server: Server, rpc: Rpc) -> None:
    budget = {"tokens": 5, "cost_usd": 2, "on_exceeded": "ask"}
    first = {"id": "first", "parent_id": "root", **TASK}
    last = {"id": "last", "name": "echo_executor", "parent_id": "root", "dependencies": ["first"]}
    tree = [{"id": "root", "name": "Root", "params": {"budget": budget}}, first, last]
    execution = rpc("tasks.execute", {"tasks": tree})
    root_id, last_id = execution["root_task_id"], execution["ids"]["last"]
    question = until(lambda: rpc("tasks.detail", {"task_id": last_id})["question"], seconds=60, what="the question")
    used = rpc("tasks.get", {"task_id": execution["ids"]["first"]})["token_usage"]["total_tokens"]
    assert question["text"].startswith(f"Spent {used} of 5 tokens. Raise the budget to how much?")
    tokens, cost = rpc("tasks.tree", {"task_id": root_id})["budget"]
    assert tokens == {"measure": "tokens", "spent": used, "allowed": 5, "text": f"{used} of 5 tokens"}
    assert (cost["measure"], cost["spent"], cost["allowed"]) == ("cost_usd", 0, 2)
    head = open_server.http.get(f"/ui/tasks/{root_id}").text
    assert f'<meter min="0" max="5" high="4" value="5" aria-label="Budget">{used} of 5 tokens</meter>' in head
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks.answer", "params": {"task_id": last_id, "answer": used}}
    assert "above" in open_server.http.post("/tasks", json=body).json()["error"]["message"]
    rpc("tasks.answer", {"task_id": last_id, "answer": 1000})
    until(lambda: rpc("tasks.get", {"task_id": last_id})["status"] == "completed", seconds=60, what="the end")
    assert rpc("tasks.tree", {"task_id": root_id})["budget"][0]["allowed"] == 1000
    assert "budget" not in rpc("tasks.tree", {"task_id": rpc("tasks.execute", {"tasks": TASK})["root_task_id"]})
