"""`home.get` on a real server: what failed, on every interface, for its user alone, and what is refused."""

from typing import Any

import pytest

from aipartnerupflow.client import Client
from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

Json = dict[str, Any]
FAILS: Json = {"name": "echo_executor", "inputs": {"n": "{{run.inputs.number_of_the_tests}}"}}


def run(server: Server, user: str, tasks: Json) -> None:
    params = {"tasks": tasks, "wait": True}
    body = {"jsonrpc": "2.0", "method": "tasks.execute", "params": params, "id": 1}
    assert "result" in server.http.post("/tasks", json=body, headers=as_(user)).json()


def read(server: Server, user: str, **claims: Any) -> Json:
    reply = server.http.get("/api/home/?since=1h", headers=as_(user, **claims))
    assert reply.status_code == 200, reply.text
    found: Json = reply.json()
    return found


@pytest.mark.both_engines
def test_what_failed_is_told_to_its_user_alone(auth_server: Server) -> None:
    for tasks in (FAILS, FAILS, {"name": "echo_executor", "inputs": {}}):
        run(auth_server, "home-alice", tasks)
    home = read(auth_server, "home-alice")
    sums = {name: home["totals"][name] for name in ("runs", "completed", "failed")}
    assert sums == {"runs": 3, "completed": 1, "failed": 2}
    (group,) = home["failures"]
    assert (group["runs"], group["is_new"], group["state"], home["causes"]) == (2, True, "", 1)
    assert group["flows"] == [{"name": "", "user_id": "", "runs": 2}]
    assert "number_of_the_tests" in group["error"] and home["since"] < group["first_at"] <= group["last_at"]
    others = read(auth_server, "home-bob")
    assert (others["failures"], others["totals"]["runs"], others["load"]["running"]) == ([], 0, 0)
    admin = read(auth_server, "home-carol", roles=["admin"])
    assert group["key"] in [each["key"] for each in admin["failures"]] and admin["totals"]["runs"] >= 3


def test_clients_of_every_interface_read_it(open_server: Server, rpc: Rpc) -> None:
    rpc("tasks.execute", {"tasks": FAILS, "wait": True})
    with Client(str(open_server.http.base_url)) as client:
        replies: list[Any] = [rpc("home.get", {"since": "7d"}), client.home("7d")]
    replies.append(open_server.http.get("/api/home/?since=7d").json())
    keys = {tuple(group["key"] for group in reply["failures"]) for reply in replies}
    assert len(keys) == 1 and len(next(iter(keys))) >= 1
    assert replies[0]["load"]["workers"] >= 1
    assert rpc("home.get", {}).keys() == replies[0].keys()


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"since": "2h"}, "since", "must be one of visit, 1h, 24h, 7d"),
        ({"since": "2000-01-01"}, "since", "at most 30 days ago"),
        ({"since": ""}, "since", "length"),
        ({"sinc": "1h"}, "sinc", "since"),
    ],
)
def test_another_time_is_refused_by_name(refusal: Rpc, params: Json, field: str, reason: str) -> None:
    error = refusal("home.get", params)
    assert error["code"] == -32602
    assert (error["data"][0]["field"], reason in error["data"][0]["reason"]) == (field, True), error
