"""The audit log of a server: what comes over HTTP, from pages and the admin, and from commands, and who reads it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.admin.conftest import PASSWORD, Session, csrf_token, session_of
from tests.admin.test_access import make_user
from tests.admin.test_people import id_of, save
from tests.fork_server import run_command
from tests.servers import Server, environment_of

Rpc = Callable[..., Any]
LIST = "/admin/accounts/auditentry/"
CLIENT = {"X-Forwarded-For": "198.51.100.9"}
"""What the trusted proxy says of its client."""


def entries(server: Server, target: str) -> list[tuple[Any, ...]]:
    statement = "SELECT action, actor, address FROM accounts_auditentry WHERE target = %s ORDER BY id"
    return [tuple(row) for row in server.query(statement, target)]


def command(server: Server, *words: str) -> str:
    done = run_command(*words, env=environment_of(server.database_url, server.data_dir))
    done.check_returncode()
    assert "audit:" not in done.stderr
    return done.stdout


def test_calls_are_recorded_with_the_address_behind_the_trusted_proxy(admin_server: Server, rpc: Rpc) -> None:
    secret = {"name": "audited_secret", "value": "a value of the tests"}
    rpc("secrets.set", secret, path="/system", **CLIENT)
    rpc("secrets.delete", {"name": "audited_secret"}, path="/system", **CLIENT)
    rpc("tasks.create", [{"id": "audited-tree", "name": "echo_executor"}], **CLIENT)
    rpc("tasks.delete", {"task_id": "audited-tree"}, name="root", **CLIENT)
    address = CLIENT["X-Forwarded-For"]
    assert entries(admin_server, "audited_secret") == [
        ("secret.set", "olga", address),
        ("secret.deleted", "olga", address),
    ]
    assert entries(admin_server, "audited-tree") == [("tree.deleted", "root", address)]


def test_an_administrator_is_recorded(admin_server: Server, admin: Session) -> None:
    make_user(admin, "audited", role="viewer")
    page = f"/admin/auth/user/{id_of(admin_server, 'audited')}"
    save(admin, f"{page}/change/", role="admin", is_active="on")
    password = {"password1": "another one 17", "password2": "another one 17", "usable_password": "true"}
    save(admin, f"{page}/password/", **password)
    save(admin, f"{page}/change/", role="admin")
    actions = ["created", "role_set", "role_set", "password_set", "disabled"]
    assert entries(admin_server, "audited") == [(f"user.{action}", "root", "127.0.0.1") for action in actions]


def test_a_secret_that_an_administrator_deletes_is_recorded(admin_server: Server, admin: Session, rpc: Rpc) -> None:
    rpc("secrets.set", {"name": "removed_secret", "value": "a value of the tests"}, path="/system")
    statement = "SELECT id FROM llmkeys_namedsecret WHERE name = 'removed_secret'"
    page = f"/admin/llmkeys/namedsecret/{admin_server.query(statement)[0][0]}/delete/"
    assert save(admin, page, post="yes").status_code == 302
    assert entries(admin_server, "removed_secret")[1:] == [("secret.deleted", "root", "127.0.0.1")]


def test_the_command_lists_what_happened(admin_server: Server) -> None:
    command(admin_server, "users", "create", "by-command", "--password", "open sesame 42")
    with session_of("by-command", admin_server) as session:
        token = csrf_token(session.get("/logout/").text)
        session.post("/logout/", data={"csrfmiddlewaretoken": token})
    mine = json.loads(command(admin_server, "audit", "--user", "by-command", "--since", "2026-01-01", "--json"))
    assert [(entry["action"], entry["address"]) for entry in mine] == [("logout", "127.0.0.1"), ("login", "127.0.0.1")]
    [created] = [
        entry
        for entry in map(json.loads, command(admin_server, "audit", "--action", "user.created").splitlines())
        if entry["target"] == "by-command"
    ]
    assert (created["user_id"], created["address"][:4], created["details"]) == ("", "cli:", {"role": "operator"})
    login = admin_server.http.post("/auth/login", json={"username": "root", "password": PASSWORD}).json()
    there = ("audit", "--url", admin_server.url, "--token", login["access"], "--limit", "1", "--json")
    assert json.loads(command(admin_server, *there, "--action", "user.created"))[0].keys() == created.keys()


@pytest.mark.parametrize("path", [LIST, f"{LIST}?q=olga", f"{LIST}?action__exact=login"])
def test_the_list_of_the_admin_is_read_only(path: str, admin_server: Server, admin: Session) -> None:
    assert admin.get(path).status_code == 200
    [[entry]] = admin_server.query("SELECT max(id) FROM accounts_auditentry")
    form = {"csrfmiddlewaretoken": csrf_token(admin.get("/admin/auth/user/add/").text), "post": "yes"}
    for verb in ("add/", f"{entry}/change/", f"{entry}/delete/"):
        assert admin.post(f"{LIST}{verb}", data=form).status_code == 403
