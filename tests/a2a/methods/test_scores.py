"""`feedback.set` for runs: a score that replaces the one before it, shown with the run, and gone with its tree."""

from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
ECHO: Json = {"id": "score-me", "name": "echo_executor", "inputs": {"text": "x"}}


def ran(rpc: Rpc) -> tuple[str, str]:
    done = rpc("tasks.execute", {"tasks": [ECHO], "wait": True, "wait_timeout_seconds": 600})
    (run,) = rpc("runs.list", {"task_id": done["task_id"]})["runs"]
    return run["id"], done["task_id"]


def scores(rpc: Rpc, run_id: str) -> list[tuple[Any, ...]]:
    found = rpc("runs.get", {"run_id": run_id})["scores"]
    return [(each["name"], each["value"], each["reason"], each["source"], each["task_id"]) for each in found]


@pytest.mark.both_engines
def test_feedback_replaces_what_the_same_source_said_and_goes_with_the_tree(rpc: Rpc, http: Any) -> None:
    run_id, task_id = ran(rpc)
    of = {"run_id": run_id}
    assert scores(rpc, run_id) == []
    given = rpc("feedback.set", of | {"score": False, "note": "wrong address"})
    assert given == of | {"task_id": None, "score": given["score"]}
    rpc("feedback.set", of | {"score": True})
    rpc("feedback.set", of | {"score": 4.5, "source": "person"})
    rpc("feedback.set", of | {"score": "polite", "name": "tone", "task_id": task_id})
    assert scores(rpc, run_id) == [
        ("feedback", True, None, "end_user", None),
        ("feedback", 4.5, None, "person", None),
        ("tone", "polite", None, "end_user", task_id),
    ]
    at = f"/api/runs/{run_id}/feedback/"
    assert http.put(at, json={"score": 1, "note": "good"}).json()["score"]["reason"] == "good"
    assert http.put(at, json={"score": None}).json()["score"] is None
    assert [each[3] for each in scores(rpc, run_id)] == ["person", "end_user"]
    rpc("tasks.delete", {"task_id": task_id, "force": True})
    again, task_id = ran(rpc)
    assert scores(rpc, again) == []
    rpc("tasks.delete", {"task_id": task_id, "force": True})


@pytest.mark.both_engines
def test_what_is_no_score_is_refused_by_name(rpc: Rpc, refusal: Rpc) -> None:
    run_id, task_id = ran(rpc)
    for given, field in (
        ({}, "score"),
        ({"score": "much too polite"}, "score"),
        ({"score": 1, "name": "two words"}, "name"),
        ({"score": 1, "thumb": "up"}, "thumb"),
        ({"score": 1, "call_id": "x"}, "call_id"),
        ({"score": 1, "source": "evaluator"}, "source"),
    ):
        error = refusal("feedback.set", {"run_id": run_id} | given)
        assert (error["code"], [each["field"] for each in error["data"]]) == (-32602, [field]), (given, error)
    assert refusal("feedback.set", {"score": 1})["data"][0]["field"] == "run_id"
    assert refusal("feedback.set", {"call_id": "x", "score": 7})["data"][0]["field"] == "score"
    assert refusal("feedback.set", {"call_id": "x", "score": 1, "name": "a"})["data"][0]["field"] == "name"
    assert refusal("feedback.set", {"run_id": run_id, "score": 1, "task_id": "none"})["code"] == -32001
    assert scores(rpc, run_id) == []
    rpc("tasks.delete", {"task_id": task_id, "force": True})


def test_a_run_of_another_user_is_not_there(auth_server: Server) -> None:
    def asked(user: str, method: str, params: Json) -> Json:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer: Json = auth_server.http.post("/tasks", json=body, headers=as_(user)).json()
        return answer

    run_id, task_id = ran(lambda method, params: asked("scores-alice", method, params)["result"])
    hers = asked("scores-bob", "feedback.set", {"run_id": run_id, "score": True})["error"]
    missing = asked("scores-bob", "feedback.set", {"run_id": f"{run_id}-x", "score": True})["error"]
    assert hers["message"] == missing["message"].replace(f"{run_id}-x", run_id)
    assert asked("scores-alice", "runs.get", {"run_id": run_id})["result"]["scores"] == []
    asked("scores-alice", "tasks.delete", {"task_id": task_id, "force": True})
