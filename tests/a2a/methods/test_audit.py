"""`audit.list` on a real server: who reads what of the audit log, on every interface, page by page, and what is refused."""

from typing import Any

import pytest

from aipartnerupflow.client import Client
from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]


def do(server: Server, user: str, method: str, **params: Any) -> None:
    body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    assert "result" in server.http.post("/tasks", json=body, headers=as_(user)).json()


def read(server: Server, user: str, roles: list[str] | None = None, **query: Any) -> Json:
    found: Json = server.http.get("/api/audit/", params=query, headers=as_(user, roles=roles or ["operator"])).json()
    return found


def test_a_user_reads_what_they_did_and_an_administrator_reads_all(auth_server: Server) -> None:
    for user in ("audit-alice", "audit-bob"):
        do(auth_server, user, "flows.save", name="greet", tasks=[{"name": "echo_executor"}])
    do(auth_server, "audit-alice", "flows.delete", name="greet")
    entries = read(auth_server, "audit-alice")["entries"]
    deleted, saved = entries
    assert [entry["action"] for entry in entries] == ["flow.deleted", "flow.saved"]
    assert {entry["user_id"] for entry in entries} == {"audit-alice"}
    assert (saved["target"], saved["address"], saved["details"]) == ("greet", "127.0.0.1", {"version": 1})
    assert deleted["details"] == {"owner": "audit-alice", "versions": 1}
    auth_server.http.put("/api/flows/greet/", json={"tasks": [{"name": "echo_executor"}]}, headers=as_("audit-carol"))
    assert read(auth_server, "audit-carol")["entries"][0]["address"] == "127.0.0.1"
    assert read(auth_server, "audit-bob", user_id="audit-alice")["entries"] == []
    for user, action, found in (("audit-alice", "flow", entries), ("audit-bob", "flow.deleted", [])):
        admin = read(auth_server, "audit-carol", ["admin"], user_id=user, action=action)
        assert admin == {"entries": found, "next_cursor": None}
    before = read(auth_server, "audit-alice", until=deleted["at"])["entries"]
    assert [entry["action"] for entry in before] == ["flow.saved"]
    assert read(auth_server, "audit-alice", since="2999-01-01")["entries"] == []


@pytest.mark.both_engines
def test_clients_of_every_interface_read_page_after_page(open_server: Server, rpc: Rpc) -> None:
    for name in ("audit-1", "audit-2", "audit-3"):
        rpc("flows.save", {"name": name, "tasks": {"name": "echo_executor"}})
    wanted: Json = {"action": "flow.saved", "limit": 2}
    first = rpc("audit.list", wanted)
    assert [entry["target"] for entry in first["entries"]] == ["audit-3", "audit-2"]
    second = rpc("audit.list", wanted | {"cursor": first["next_cursor"]})
    assert second["entries"][0]["target"] == "audit-1"
    with Client(str(open_server.http.base_url)) as client:
        assert client.audit(action="flow.saved", limit=2) == first
    assert open_server.http.get("/api/audit/", params=wanted).json() == first


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"action": "nothing"}, "action"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-02", "until": "2026-11-01"}, "since"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "MjAyNi0xMS0wMVQwMDowMDowMCswMDowMCBhYmM="}, "cursor"),  # its id is no number
        ({"limit": 1001}, "limit"),
    ],
)
def test_what_cannot_be_meant_is_refused(refusal: Rpc, params: Json, field: str) -> None:
    error = refusal("audit.list", params)
    assert (error["code"], error["data"][0]["field"]) == (-32602, field)
