"""`runs.calls` on a real server: what models did, page by page, and only for those who may see the run."""

from datetime import datetime
from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly
Json = dict[str, Any]


def asks(name: str, prompt: str, **fields: Any) -> Json:
    inputs = {"prompt": prompt, "model": "demo/demo"}
    return {"id": name, "name": name, "schemas": {"method": "llm_executor"}, "inputs": inputs, **fields}


TREE: list[Json] = [
    {"id": "all", "name": "All"},
    asks("one", "First", parent_id="all"),
    asks("two", "Second {{one.content}}", parent_id="all", dependencies=["one"]),
]


@pytest.fixture(scope="module")
def ran(open_server: Server) -> Json:
    executed: Json = open_server.rpc("tasks.execute", {"tasks": TREE, "wait": True})
    (run,) = open_server.rpc("runs.list", {"task_id": executed["task_id"]})["runs"]
    return {"ids": executed["ids"], "run": run}


@pytest.mark.both_engines
def test_calls_come_in_order_a_page_at_a_time(open_server: Server, rpc: Rpc, ran: Json) -> None:
    run_id, ids = ran["run"]["id"], ran["ids"]
    both = rpc("runs.calls", {"run_id": run_id})
    assert ([call["task_id"] for call in both["calls"]], both["next_cursor"]) == ([ids["one"], ids["two"]], None)
    first = rpc("runs.calls", {"run_id": run_id, "limit": 1})
    second = rpc("runs.calls", {"run_id": run_id, "limit": 1, "cursor": first["next_cursor"]})
    assert (first["calls"] + second["calls"], second["next_cursor"]) == (both["calls"], None)
    assert rpc("runs.calls", {"run_id": run_id, "task_id": ids["two"]})["calls"] == both["calls"][1:]
    assert rpc("runs.calls", {"run_id": run_id, "task_id": "another"})["calls"] == []
    by_rest = open_server.http.get(f"/api/runs/{run_id}/calls/", params={"limit": 1}).json()
    assert by_rest == first


def test_a_call_says_what_was_said_and_what_it_used(rpc: Rpc, ran: Json) -> None:
    call, after = rpc("runs.calls", {"run_id": ran["run"]["id"]})["calls"]
    assert call["content"]["messages"] == [{"role": "user", "content": "First"}]
    assert call["content"]["answer"].endswith("You asked: First")
    assert after["content"]["messages"][0]["content"].startswith("Second This is the built-in demo model")
    assert (call["executor"], call["model"], call["status"]) == ("llm_executor", "demo/demo", "completed")
    assert (call["finish_reason"], call["error"], call["agent"], call["cost_usd"]) == ("stop", None, None, 0)
    assert call["usage"]["total_tokens"] == call["usage"]["prompt_tokens"] + call["usage"]["completion_tokens"]


def test_a_run_has_the_sum_of_its_calls(rpc: Rpc, ran: Json) -> None:
    calls = rpc("runs.calls", {"run_id": ran["run"]["id"]})["calls"]
    used = ran["run"]["token_usage"]
    assert used["total_tokens"] == sum(call["usage"]["total_tokens"] for call in calls)
    assert rpc("runs.get", {"run_id": ran["run"]["id"]})["token_usage"] == used
    compared = rpc("runs.compare", {"a": ran["run"]["id"], "b": ran["run"]["id"]})
    assert compared["a"]["token_usage"] == compared["b"]["token_usage"] == used


def test_details_name_the_calls_without_what_was_said(rpc: Rpc, ran: Json) -> None:
    calls = rpc("runs.calls", {"run_id": ran["run"]["id"]})["calls"]
    light = [{name: value for name, value in call.items() if name != "content"} for call in calls]
    assert rpc("runs.get", {"run_id": ran["run"]["id"]})["model_calls"] == light
    assert rpc("tasks.detail", {"task_id": ran["ids"]["two"]})["model_calls"] == light[1:]
    assert rpc("tasks.detail", {"task_id": ran["ids"]["all"]})["model_calls"] == []


@pytest.mark.both_engines
def test_feedback_is_stored_with_its_call(open_server: Server, rpc: Rpc, ran: Json) -> None:
    run_id = ran["run"]["id"]
    call, other = rpc("runs.calls", {"run_id": run_id})["calls"]
    assert (call["feedback"], call["content"]["options"]) == (None, {})
    given = rpc("feedback.set", {"call_id": call["id"], "thumb": "up", "score": 1})
    at = given["feedback"].pop("at")
    assert datetime.fromisoformat(at) >= datetime.fromisoformat(call["started_at"])
    first = {"thumb": "up", "score": 1, "note": None, "by": "local"}
    assert given == {"call_id": call["id"], "run_id": run_id, "task_id": call["task_id"], "feedback": first}
    address = f"/api/calls/{call['id']}/feedback/"
    by_rest = open_server.http.put(address, json={"score": None, "note": "Too <long>."}).json()
    stored, unchanged = rpc("runs.calls", {"run_id": run_id})["calls"]
    assert (
        stored["feedback"] == by_rest["feedback"] == rpc("runs.get", {"run_id": run_id})["model_calls"][0]["feedback"]
    )
    assert {**stored["feedback"], "at": at} == {**first, "score": None, "note": "Too <long>.", "at": at}
    assert (unchanged, stored["content"]) == (other, call["content"])
    assert open_server.http.put(address, json={"thumb": None, "note": None}).json()["feedback"] is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "thumb: required, or score or note"),
        ({"thumb": "sideways"}, "thumb: "),
        ({"score": 1.5}, "score: "),
        ({"score": True}, "score: "),
        ({"note": ""}, "note: "),
        ({"note": "x" * 10_001}, "note: "),
        ({"thumbs": "up"}, "thumbs: "),
    ],
)
def test_feedback_that_says_nothing_is_refused(open_server: Server, ran: Json, given: Json, problem: str) -> None:
    (call, *_) = open_server.rpc("runs.calls", {"run_id": ran["run"]["id"]})["calls"]
    error = open_server.call("feedback.set", {"call_id": call["id"]} | given)["error"]
    assert error["code"] == -32602
    assert any(f"{each['field']}: {each['reason']}".startswith(problem) for each in error["data"]), error


def test_feedback_on_a_call_that_is_not_there_is_refused(open_server: Server) -> None:
    error = open_server.call("feedback.set", {"call_id": "none", "thumb": "up"})["error"]
    assert (error["code"], error["data"]) == (-32001, {"call_id": "none"})
    reply = open_server.http.put("/api/calls/none/feedback/", json={"thumb": "up"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "call_not_found")


def test_calls_of_others_look_like_missing_ones(auth_server: Server) -> None:
    body = {
        "jsonrpc": "2.0",
        "method": "tasks.execute",
        "params": {"tasks": asks("a", "Secret"), "wait": True},
        "id": 1,
    }
    http = auth_server.http
    task_id = http.post("/tasks", json=body, headers=as_("calls-alice")).json()["result"]["task_id"]
    (run,) = http.get(f"/api/tasks/{task_id}/runs/", headers=as_("calls-alice")).json()["runs"]
    assert len(http.get(f"/api/runs/{run['id']}/calls/", headers=as_("calls-alice")).json()["calls"]) == 1
    theirs = http.get(f"/api/runs/{run['id']}/calls/", headers=as_("calls-bob"))
    missing = http.get(f"/api/runs/{'x' * len(run['id'])}/calls/", headers=as_("calls-bob"))
    assert theirs.status_code == missing.status_code == 404
    assert theirs.content.replace(run["id"].encode(), b"") == missing.content.replace(b"x" * len(run["id"]), b"")
