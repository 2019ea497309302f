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
    assert stored == {"name": "held", "limit": PAUSE, "is_set": True, "set_by": stored["set_by"]} | unused
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
    assert rpc("limits.list", {}) == {"limits": []}


def test_only_administrators_change_limits_and_users_see_their_own_waits(auth_server: Server) -> None:
    admin = as_("limits-admin", roles=["admin"])
    for method, params in (("limits.set", {"name": "x", "limit": PAUSE}), ("limits.delete", {"name": "x"})):
        assert call(auth_server, method, params, "limits-alice", "/tasks")["error"]["code"] == -32004
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
        ({"name": "a b", "limit": {"at_once": 1}}, "name", "expected string matching regex"),
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
    assert rpc("limits.list", {}) == {"limits": []}


def test_an_unknown_limit_is_refused_with_the_nearest_name(rpc: Rpc, refusal: Any) -> None:
    rpc("limits.set", {"name": "crm", "limit": PAUSE})
    try:
        assert "Did you mean 'crm'?" in str(refusal("limits.get", {"name": "crn"}))
        task = {"name": "echo_executor", "params": {"limits": ["crn"]}}
        assert "Did you mean 'crm'?" in str(refusal("tasks.execute", {"tasks": task}))
    finally:
        rpc("limits.delete", {"name": "crm"})
