"""`limits.*` on a real server: who sees and changes which limit, and what is refused."""

from typing import Any

import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.methods.test_secrets import call
from tests.a2a.rest.test_rest import as_
from tests.servers import Server, until

pytestmark = pytest.mark.both_engines_nightly

PAUSE = {"match": {"tag": "paused-by-test-limits"}, "at_once": 0}
Json = dict[str, Any]


@pytest.mark.both_engines
def test_a_limit_is_set_holds_tasks_back_and_is_deleted(rpc: Rpc) -> None:
    stored = rpc("limits.set", {"name": "held", "limit": PAUSE})
    assert stored.pop("set_at").endswith("+00:00")
    unused = {"waiting": 0, "since": None, "at_work": 0}
    assert (
        stored == {"name": "held", "user_id": None, "limit": PAUSE, "is_set": True, "set_by": stored["set_by"]} | unused
    )
    try:
        tasks = [f"limited-{number}" for number in range(1_000)]
        for task_id in tasks:  # until the worker has read the limits, with its heartbeat
            rpc("tasks.execute", {"tasks": [{"id": task_id, "name": "echo_executor"}], "tags": [PAUSE["match"]["tag"]]})  # type: ignore[index]

            def settled(task_id: str = task_id) -> Json | None:
                detail = rpc("tasks.detail", {"task_id": task_id})
                return detail if detail["wait"] or detail["status"] == "completed" else None

            detail = until(settled, seconds=60, what="the wait or the end of the task") or {}
            if detail["wait"]:
                break
        assert (detail["status"], detail["wait"]["limit"]) == ("pending", "held")
        (listed,) = rpc("limits.list", {})["limits"]
        assert (listed["waiting"], listed["since"]) == (1, detail["wait"]["since"])
        (waiting,) = rpc("limits.get", {"name": "held"})["tasks"]
        assert (waiting["task_id"], waiting["text"]) == (
            task_id,
            "for limit held, which lets nothing start (at_once: 0)",
        )
    finally:
        assert rpc("limits.delete", {"name": "held"}) == {"name": "held", "deleted": True}
    until(lambda: rpc("tasks.get", {"task_id": task_id})["status"] == "completed", seconds=60, what="its end")
    assert rpc("limits.delete", {"name": "held"})["deleted"] is False
    assert rpc("limits.list", {})["limits"] == []


def test_administrators_set_limits_of_all_and_users_of_their_own_tasks(auth_server: Server) -> None:
    admin = as_("limits-admin", roles=["admin"])
    for method, params in (("limits.set", {"name": "x", "limit": PAUSE}), ("limits.delete", {"name": "x"})):
        refused = call(auth_server, method, params | {"user_id": "limits-bob"}, "limits-alice", "/tasks")["error"]
        assert (refused["code"], "of other users" in str(refused)) == (-32004, True)
    own = call(auth_server, "limits.set", {"name": "own", "limit": {"at_once": 2}}, "limits-alice", "/tasks")["result"]
    assert (own["user_id"], own["set_by"]) == ("limits-alice", "limits-alice")
    of_user = {"name": "own", "limit": {"at_once": 2, "match": {"user": "limits-bob"}}}
    refused = call(auth_server, "limits.set", of_user, "limits-alice", "/tasks")["error"]
    assert "a limit of your own is for your tasks alone" in str(refused)
    names = {
        who: [limit["name"] for limit in call(auth_server, "limits.list", {}, who, "/tasks")["result"]["limits"]]
        for who in ("limits-alice", "limits-bob")
    }
    assert names == {"limits-alice": ["own"], "limits-bob": []}
    task = {"name": "echo_executor", "params": {"limits": ["own"]}}
    joined = {
        who: "error" in call(auth_server, "tasks.create", task, who, "/tasks") for who in ("limits-alice", "limits-bob")
    }
    assert joined == {"limits-alice": False, "limits-bob": True}
    listed = auth_server.http.get("/api/limits/?user_id=limits-alice", headers=admin).json()["limits"]
    assert [limit["name"] for limit in listed] == ["own"]
    deleted = auth_server.http.delete("/api/limits/own/?user_id=limits-alice", headers=admin)
    assert deleted.json() == {"name": "own", "deleted": True}
    assert auth_server.http.put("/api/limits/x/", json={"limit": PAUSE}, headers=admin).status_code == 200
    try:
        seen = auth_server.http.get("/api/limits/x/", headers=as_("limits-alice")).json()
        assert (seen["limit"], seen["set_by"], seen["tasks"]) == (PAUSE, None, [])
        assert auth_server.http.get("/api/limits/", headers=admin).json()["limits"][0]["set_by"] == "limits-admin"
    finally:
        assert auth_server.http.delete("/api/limits/x/", headers=admin).json() == {"name": "x", "deleted": True}


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"name": "a b", "limit": {"at_once": 1}}, "name", "up to 64 letters, digits, '_' and '-', without spaces"),
        ({"name": "a", "limit": {"at_once": 2, "cost": 3}}, "limit", "cost of 'a' is 3, more than its at_once of 2"),
        (
            {"name": "a", "limit": {"at_once": 2, "cost": "{{x}}"}},
            "limit",
            "cost of 'a' must be a whole number or a place",
        ),
        ({"name": "a", "limit": {"match": {"provider": "opnai"}, "at_once": 0}}, "limit.match.provider", "openai"),
        (
            {"name": "a", "limit": {"match": {"executor": "llm_executr"}, "at_once": 1}},
            "limit.match.executor",
            "there is no executor 'llm_executr'. Did you mean 'llm_executor'?",
        ),
        ({"name": "a", "limit": {"match": {"pool": "prcess"}, "at_once": 1}}, "limit", "must be loop, thread, process"),
        ({"name": "a", "limit": {"match": {"key": "sk-1"}, "at_once": 0}}, "limit", "and never the key"),
        ({"name": "a", "limit": {}}, "limit", "'a' limits nothing"),
        ({"name": "a", "limit": {"at_once": -1}}, "limit", "at_once of 'a' must be a whole number from 0"),
        ({"name": "a", "limit": {"at_onc": 1}}, "limit", "did you mean 'at_once'?"),
        ({"name": "a", "limit": {"match": {"provder": "x"}, "at_once": 0}}, "limit", "did you mean 'provider'?"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(
    rpc: Rpc, refusal: Any, params: Json, field: str, reason: str
) -> None:
    error = refusal("limits.set", params)
    assert error["data"][0]["field"] == field
    assert reason in str(error)
    assert rpc("limits.list", {})["limits"] == []


def test_an_unknown_limit_is_refused_with_the_nearest_name(rpc: Rpc, refusal: Any) -> None:
    rpc("limits.set", {"name": "crm", "limit": PAUSE})
    try:
        assert "Did you mean 'crm'?" in str(refusal("limits.get", {"name": "crn"}))
        task = {"name": "echo_executor", "params": {"limits": ["crn"]}}
        assert "Did you mean 'crm'?" in str(refusal("tasks.execute", {"tasks": task}))
    finally:
        rpc("limits.delete", {"name": "crm"})


# --- pauses ---


def test_each_kind_is_paused_and_resumed_on_every_interface(auth_server: Server, rpc: Rpc) -> None:
    admin, alice = as_("pauses-admin", roles=["admin"]), as_("pauses-alice")
    save = {"name": "paused-flow", "tasks": {"name": "echo_executor"}}
    assert call(auth_server, "flows.save", save, "pauses-alice", "/tasks")["result"]["version"] == 1
    subjects = {
        "flows/paused-flow": "flow",
        "executors/sleep_executor": "executor",
        "providers/azure": "provider",
        "users/pauses-carol": "user",
    }
    for address, kind in subjects.items():
        asks = alice if kind == "flow" else admin
        for _ in range(2):  # the second one changes nothing
            paused = auth_server.http.post(f"/api/{address}/pause/", headers=asks).json()
            assert (paused["kind"], paused["name"], paused["is_paused"]) == (kind, address.partition("/")[2], True)
            assert paused["paused_by"] == ("pauses-alice" if kind == "flow" else "pauses-admin")
        if kind != "flow":
            assert auth_server.http.post(f"/api/{address}/pause/", headers=alice).status_code == 403
    seen = {
        who: {pause["kind"] for pause in auth_server.http.get("/api/limits/", headers=headers).json()["pauses"]}
        for who, headers in (("alice", alice), ("carol", as_("pauses-carol")), ("admin", admin))
    }
    both = {"executor", "provider"}
    assert seen == {"alice": both | {"flow"}, "carol": both | {"user"}, "admin": both | {"flow", "user"}}
    for address, kind in subjects.items():
        of_alice = {"user_id": "pauses-alice"} if kind == "flow" else {}
        resumed = auth_server.http.post(f"/api/{address}/resume/", json=of_alice, headers=admin).json()
        assert resumed["is_paused"] is False
    assert auth_server.http.get("/api/limits/", headers=admin).json()["pauses"] == []


def test_a_pause_of_an_administrator_is_ended_by_administrators_alone(auth_server: Server) -> None:
    save = {"name": "held-flow", "tasks": {"name": "echo_executor"}}
    call(auth_server, "flows.save", save, "pauses-dora", "/tasks")
    of_dora = {"name": "held-flow", "user_id": "pauses-dora"}
    admin = as_("pauses-admin", roles=["admin"])
    assert auth_server.http.post(
        "/api/flows/held-flow/pause/", json={"user_id": "pauses-dora"}, headers=admin
    ).is_success
    refused = call(auth_server, "flows.resume", {"name": "held-flow"}, "pauses-dora", "/tasks")["error"]
    assert "An administrator has paused the flow 'held-flow'" in str(refused)
    (pause,) = call(auth_server, "limits.list", {}, "pauses-dora", "/tasks")["result"]["pauses"]
    assert (pause["name"], pause["paused_by"]) == ("held-flow", None)
    stranger = call(auth_server, "flows.pause", of_dora, "pauses-eve", "/tasks")["error"]
    absent = call(auth_server, "flows.pause", {"name": "held-flow"}, "pauses-eve", "/tasks")["error"]
    assert stranger == absent
    call(auth_server, "flows.delete", {"name": "held-flow"}, "pauses-dora", "/tasks")
    assert call(auth_server, "limits.list", {}, "pauses-dora", "/tasks")["result"]["pauses"] == []


@pytest.mark.parametrize(
    ("method", "params", "reason"),
    [
        ("executors.pause", {"executor_id": "echo_executo"}, "echo_executor"),
        ("providers.pause", {"provider": "opnai"}, "openai"),
        ("flows.pause", {"name": "no-such-flow"}, "no-such-flow"),
    ],
)
def test_what_there_is_not_cannot_be_paused(rpc: Rpc, refusal: Any, method: str, params: Json, reason: str) -> None:
    assert reason in str(refusal(method, params))
