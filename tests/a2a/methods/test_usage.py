"""`usage.get` on a real server: what the demo model used, on every interface, and what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aipartnerupflow.client import Client
from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines

Json = dict[str, Any]
TASK: Json = {"name": "llm_executor", "inputs": {"prompt": "Name three rivers.", "model": "demo/rivers"}}


def asked(server: Server, user: str) -> Json:
    """Let a model answer, and return what its task used."""
    params = {"tasks": TASK, "wait": True}
    body = {"jsonrpc": "2.0", "method": "tasks.execute", "params": params, "id": 1}
    reply = server.http.post("/tasks", json=body, headers=as_(user)).json()
    used: Json = reply["result"]["task"]["token_usage"]
    return used


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
    rpc("tasks.execute", {"tasks": TASK | {"inputs": {"prompt": "Hi", "model": "demo/hi"}}, "wait": True})
    by_rpc = rpc("usage.get", {"by": "model", "model": "demo/hi"})
    assert [row["model"] for row in by_rpc["rows"]] == ["demo/hi"]
    with Client(str(open_server.http.base_url)) as client:
        assert client.usage(by="model", model="demo/hi") == by_rpc
    assert open_server.http.get("/api/usage/?by=model&model=demo/hi").json() == by_rpc
    assert "demo/hi" in open_server.http.get("/ui/usage/?days=7").text


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"since": "yesterday"}, "since", "regex"),
        ({"since": "2026-02-30"}, "since", "no day of the calendar"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "since", "must not be after"),
        ({"by": "week"}, "by", "one of day, executor, model, user"),
        ({"days": 3}, "days", "unknown parameter"),
    ],
)
def test_what_is_no_report_is_refused_by_name(refusal: Rpc, params: Json, field: str, reason: str) -> None:
    error = refusal("usage.get", params)
    assert error["code"] == -32602
    assert (error["data"][0]["field"], reason in error["data"][0]["reason"]) == (field, True), error
