"""What administrators change: users, their roles and passwords, and API keys."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.admin.conftest import PASSWORD, Session, csrf_token
from tests.admin.test_access import make_user
from tests.servers import Server


def save(admin: Session, path: str, **fields: str) -> httpx.Response:
    return admin.post(path, data={**fields, "csrfmiddlewaretoken": csrf_token(admin.get(path).text)})


def log_in(server: Server, name: str, password: str = PASSWORD) -> httpx.Response:
    return server.http.post("/auth/login", json={"username": name, "password": password})


def id_of(server: Server, name: str) -> int:
    [(number,)] = server.query("SELECT id FROM auth_user WHERE username = %s", name)
    return int(number)


def me(server: Server, token: str) -> Any:
    return server.http.get("/auth/me", headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_a_new_user_has_the_role_that_was_chosen(role: str, admin_server: Server, admin: Session) -> None:
    make_user(admin, f"new-{role}", role=role)
    token = log_in(admin_server, f"new-{role}").json()["access"]
    assert me(admin_server, token).json()["role"] == role


def test_another_role_another_password_and_the_end(admin_server: Server, admin: Session) -> None:
    make_user(admin, "mona", role="operator")
    page = f"/admin/auth/user/{id_of(admin_server, 'mona')}"
    token = log_in(admin_server, "mona").json()["access"]
    assert save(admin, f"{page}/change/", role="viewer", is_active="on").status_code == 302
    assert me(admin_server, token).json()["role"] == "viewer"
    changed = save(
        admin, f"{page}/password/", password1="another one 17", password2="another one 17", usable_password="true"
    )
    assert changed.status_code == 302
    assert me(admin_server, token).status_code == 401
    token = log_in(admin_server, "mona", "another one 17").json()["access"]
    assert save(admin, f"{page}/change/", role="viewer").status_code == 302  # an unticked box is not sent
    assert me(admin_server, token).status_code == 401


def test_a_name_stays_and_nobody_is_deleted(admin_server: Server, admin: Session) -> None:
    page = f"/admin/auth/user/{id_of(admin_server, 'vera')}"
    save(admin, f"{page}/change/", role="viewer", is_active="on", username="root2", is_superuser="on")
    assert log_in(admin_server, "vera").status_code == 200
    assert admin.post(f"{page}/delete/", data={"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    ("name", "password", "why"),
    [
        ("olga", PASSWORD, "already exists"),
        ("a b", PASSWORD, "valid username"),
        ("оlga", PASSWORD, "mixes letters of several scripts"),
        ("weak", "12345678", "too common"),
    ],
)
def test_a_user_that_cannot_be_is_refused_with_the_reason(name: str, password: str, why: str, admin: Session) -> None:
    form = {"username": name, "password1": password, "password2": password, "role": "viewer"}
    refused = save(admin, "/admin/auth/user/add/", **form)
    assert (refused.status_code, why in refused.text) == (200, True)


def test_a_revoked_key_opens_nothing(admin_server: Server, admin: Session, api_key: Callable[[str], str]) -> None:
    key = api_key("olga")
    assert me(admin_server, key).json()["user_id"] == "olga"
    [(number,)] = admin_server.query("SELECT id FROM accounts_apikey WHERE prefix = %s", key[:12])
    said = save(admin, "/admin/accounts/apikey/", action="revoke", _selected_action=str(number))
    assert said.status_code == 302
    assert me(admin_server, key).status_code == 401
    assert key[12:] not in admin.get(f"/admin/accounts/apikey/{number}/change/").text
