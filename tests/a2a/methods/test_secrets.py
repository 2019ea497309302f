"""`secrets.*` on a real server: what is stored and shown, for whom, and what is refused."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.a2a.conftest import Rpc
from tests.a2a.rest.test_rest import as_
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly

SYSTEM = "/system"
VALUE = "canary-of-this-test-1234"
Json = dict[str, Any]


@pytest.fixture
def system(rpc: Rpc) -> Iterator[Rpc]:
    """Call a method of `/system`; at the end no secret is left."""
    yield lambda name, params: rpc(f"secrets.{name}", params, path=SYSTEM)
    for secret in rpc("secrets.list", {}, path=SYSTEM)["secrets"]:
        rpc("secrets.delete", {"name": secret["name"], "scope": secret["scope"]}, path=SYSTEM)


@pytest.mark.both_engines
def test_a_secret_is_kept_listed_used_and_deleted_and_never_shown(system: Rpc, rpc: Rpc) -> None:
    stored = system("set", {"name": "token", "value": VALUE, "allow_hosts": ["API.example.com"]})
    assert stored.pop("created_at").endswith("+00:00")
    expected = {"name": "token", "scope": "own", "allow_hosts": ["api.example.com"], "users": None, "used_at": None}
    assert stored == expected | {"allow_in": ["auth", "headers"]}
    chosen = system("set", {"name": "token", "value": VALUE, "allow_in": ["json"]})
    assert (chosen["allow_hosts"], chosen["allow_in"]) == (["api.example.com"], ["json"])
    system("set", {"name": "token", "value": VALUE, "allow_hosts": [], "allow_in": []})
    task = {"name": "echo_executor", "inputs": {"x": "a {{secret.token}} b"}}
    ran = rpc("tasks.execute", {"tasks": task, "wait": True})["task"]
    assert ran["result"] == {"x": "a … b"}
    (listed,) = system("list", {})["secrets"]
    assert listed["used_at"] is not None
    assert "canary" not in str([stored, ran, listed])
    assert system("delete", {"name": "token"}) == {"name": "token", "scope": "own", "deleted": True}
    assert system("delete", {"name": "token"})["deleted"] is False
    assert system("list", {}) == {"secrets": []}


@pytest.mark.parametrize(
    ("params", "field", "reason"),
    [
        ({"value": VALUE}, "name", "required"),
        ({"name": "a"}, "value", "required"),
        ({"name": "a-b", "value": VALUE}, "name", "letters, digits and underscores"),
        ({"name": "a", "value": "canary"}, "value", "fewer than 8 characters"),
        ({"name": "a", "value": " canary  \n"}, "value", "fewer than 8 characters"),
        ({"name": "a", "value": 12345678}, "value", "expected string"),
        ({"name": "a", "value": VALUE * 1000}, "value", "limits.secret_bytes"),
        ({"name": "a", "value": VALUE, "allow_hosts": ["https://a.example"]}, "allow_hosts[0]", "without port"),
        ({"name": "a", "value": VALUE, "allow_in": ["a.b"]}, "allow_in[0]", "must be the name of an input"),
        ({"name": "a", "value": VALUE, "allow_hosts": "a.example"}, "allow_hosts", "expected array"),
        ({"name": "a", "value": VALUE, "users": ["bob"]}, "users", "only with scope shared"),
        ({"name": "a", "value": VALUE, "scope": "all"}, "scope", "own, shared"),
        ({"name": "a", "value": VALUE, "user_id": "bob"}, "user_id", "unknown parameter"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name_and_without_the_value(
    refusal: Rpc, params: Json, field: str, reason: str
) -> None:
    error = refusal("secrets.set", params, path=SYSTEM)
    assert error["code"] == -32602
    assert (error["data"][0]["field"], reason in error["data"][0]["reason"]) == (field, True), error
    assert "canary" not in str(error)


def call(server: Server, method: str, params: Json, user: str, path: str = SYSTEM) -> Json:
    body = {"jsonrpc": "2.0", "method": method, "params": params, "id": 1}
    reply: Json = server.http.post(path, json=body, headers=as_(user)).json()
    return reply


def test_the_name_of_another_users_secret_is_the_same_bytes_as_none(auth_server: Server) -> None:
    call(auth_server, "secrets.set", {"name": "of_alice", "value": VALUE}, "secret-alice")
    tree = {"tasks": {"name": "echo_executor", "inputs": {"x": "{{secret.NAME}}"}}}

    def answers(name: str) -> list[bytes]:
        text = str(tree).replace("NAME", name).replace("'", '"')
        calls = [
            ("/api/tasks/", text),
            ("/tasks", f'{{"jsonrpc": "2.0", "method": "tasks.execute", "params": {text}, "id": 1}}'),
            ("/", f'{{"jsonrpc": "2.0", "method": "tasks.create", "params": {text}, "id": 1}}'),
        ]
        headers = as_("secret-bob") | {"Content-Type": "application/json"}
        sent = [auth_server.http.post(path, content=body, headers=headers) for path, body in calls]
        sent.append(auth_server.http.delete(f"/api/secrets/{name}/", headers=headers))
        return [response.content.replace(name.encode(), b"NAME") for response in sent]

    assert answers("of_alice") == answers("of_nobody")
    assert b"There is no secret" in answers("of_alice")[0]
    (kept,) = call(auth_server, "secrets.list", {}, "secret-alice")["result"]["secrets"]
    assert kept["name"] == "of_alice"
    assert call(auth_server, "secrets.list", {}, "secret-bob")["result"] == {"secrets": []}


def test_only_administrators_share(auth_server: Server, http: httpx.Client) -> None:
    for method, params in (("secrets.set", {"name": "x", "value": VALUE}), ("secrets.delete", {"name": "x"})):
        error = call(auth_server, method, params | {"scope": "shared"}, "secret-carol")["error"]
        assert (error["code"], "Only administrators" in error["message"]) == (-32004, True), error
    refused = auth_server.http.put(
        "/api/secrets/x/", json={"value": VALUE, "scope": "shared"}, headers=as_("secret-carol")
    )
    assert refused.status_code == 403


def test_who_may_use_a_shared_secret_does_not_see_with_whom_or_when(auth_server: Server) -> None:
    admin = as_("secret-admin", roles=["admin"])
    shared = {"value": VALUE, "scope": "shared", "users": ["secret-dan"]}
    assert auth_server.http.put("/api/secrets/of_all/", json=shared, headers=admin).json()["users"] == ["secret-dan"]
    task = {"name": "echo_executor", "inputs": {"x": "{{secret.of_all}}"}}
    ran = call(auth_server, "tasks.execute", {"tasks": task, "wait": True}, "secret-dan", "/tasks")
    assert ran["result"]["task"]["result"] == {"x": "…"}
    (seen,) = call(auth_server, "secrets.list", {}, "secret-dan")["result"]["secrets"]
    assert (seen["scope"], seen["users"], seen["used_at"]) == ("shared", None, None)
    assert call(auth_server, "secrets.list", {}, "secret-eve")["result"]["secrets"] == []
    found = auth_server.http.get("/api/secrets/", headers=admin).json()["secrets"]
    assert [(each["users"], each["used_at"] is not None) for each in found] == [(["secret-dan"], True)]
    deleted = auth_server.http.delete("/api/secrets/of_all/", params={"scope": "shared"}, headers=admin).json()
    assert deleted["deleted"] is True
