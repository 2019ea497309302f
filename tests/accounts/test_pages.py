import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from accounts.logins import make_link
from accounts.models import LoginLink
from tests.accounts.conftest import PASSWORD

PAGE = "/login/"


def log_in(client: Client, username: str, password: str, **fields: str) -> Any:
    """As a browser does: with the token of the form."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(PAGE).content.decode())
    assert token
    body = {"username": username, "password": password, "csrfmiddlewaretoken": token[1], **fields}
    return client.post(PAGE, body)


def who(client: Client) -> str | None:
    """Whom the server takes the session for."""
    found = re.search(r"logged in as (\w+)", client.get("/logout/").content.decode())
    return found[1] if found else None


def test_name_and_password_make_a_session_with_a_careful_cookie(client: Client, alice: User) -> None:
    response = log_in(client, "alice", PASSWORD)
    assert (response.status_code, response["Location"]) == (302, "/")
    cookie = response.cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 86_400)
    assert who(client) == "alice"


def test_a_form_without_its_token_is_refused(client: Client, alice: User) -> None:
    assert client.post(PAGE, {"username": "alice", "password": PASSWORD}).status_code == 403
    assert client.post("/logout/").status_code == 403
    assert who(client) is None


@pytest.mark.parametrize(
    ("username", "password"), [("alice", "wrong"), ("nobody", PASSWORD), ("a\0", "b"), ("", ""), ("alice", "")]
)
def test_wrong_credentials_get_the_form_again(username: str, password: str, client: Client, alice: User) -> None:
    response = log_in(client, username, password)
    assert response.status_code == 401
    page = response.content.decode()
    assert "Wrong username or password." in page
    assert PASSWORD not in page
    assert who(client) is None


NEXT = {
    "/ui/tasks/a/?tab=events": "/ui/tasks/a/?tab=events",
    "/admin/": "/admin/",
    "": "/",
    "https://evil.example/": "/",
    "//evil.example/": "/",
    "///evil.example": "/",
    "/\\evil.example": "/",
    "http:///evil.example": "/",
    "javascript:alert(1)": "/",
    "evil.example": "/",
    "/\t/evil.example": "/",
    "\x00/": "/",
}


@pytest.mark.parametrize(("wanted", "goes_to"), NEXT.items())
def test_the_login_leads_back_to_own_paths_only(wanted: str, goes_to: str, client: Client, alice: User) -> None:
    page = client.get(f"{PAGE}?next={quote(wanted)}").content.decode()
    assert f'name="next" value="{goes_to}"' in page
    assert log_in(client, "alice", PASSWORD, next=wanted)["Location"] == goes_to


def test_the_admin_has_no_other_way_in(client: Client, alice: User) -> None:
    response = client.get("/admin/", follow=True)
    assert unquote(response.redirect_chain[-1][0]) == "/login/?next=/admin/"
    assert client.post("/admin/login/", {"username": "alice", "password": PASSWORD}).status_code == 302
    assert who(client) is None


def test_a_logout_ends_the_session(client: Client, alice: User) -> None:
    log_in(client, "alice", PASSWORD)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/logout/").content.decode())
    assert token
    stolen = client.cookies["sessionid"].value
    response = client.post("/logout/", {"csrfmiddlewaretoken": token[1]})
    assert (response.status_code, response["Location"]) == (302, PAGE)
    client.cookies["sessionid"] = stolen
    assert who(client) is None


@pytest.mark.parametrize("change", ["disabled", "deleted", "new password"])
def test_a_session_ends_with_the_account_or_the_password(change: str, client: Client, alice: User) -> None:
    log_in(client, "alice", PASSWORD)
    assert who(client) == "alice"
    if change == "disabled":
        User.objects.update(is_active=False)
    elif change == "deleted":
        alice.delete()
    else:
        alice.set_password("another one")
        alice.save()
    assert who(client) is None


def test_a_session_opens_no_door_for_programs(client: Client, alice: User) -> None:
    log_in(client, "alice", PASSWORD)
    assert client.get("/auth/me").status_code == 401
    call = {"jsonrpc": "2.0", "method": "tasks.list", "params": {}, "id": 1}
    assert client.post("/tasks", call, content_type="application/json").status_code == 401
    assert client.get("/api/tasks/").status_code == 401


def test_the_page_is_kept_by_nobody_and_shown_in_no_frame(client: Client) -> None:
    response = client.get(PAGE)
    assert "no-store" in response["Cache-Control"]
    assert response["X-Frame-Options"] == "DENY"
    assert "script-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.usefixtures("auth_off")
@pytest.mark.parametrize("path", [PAGE, "/login/link/anything/"])
def test_while_authentication_is_off_there_is_nothing_to_log_in_to(path: str, client: Client) -> None:
    response = client.get(path)
    assert (response.status_code, response["Location"]) == (302, "/")


def test_a_login_link_works_once(client: Client, root: User) -> None:
    path = f"/login/link/{make_link(root)}/"
    assert client.head(path).status_code == 410  # what looks at links in advance does not use them up
    response = client.get(path)
    assert (response.status_code, response["Location"]) == (302, "/")
    assert who(client) == "root"
    other = Client(headers={"Host": "localhost"})
    assert other.get(path).status_code == 410
    assert who(other) is None


@pytest.mark.parametrize("case", ["too old", "never made", "disabled", "the hash itself"])
def test_only_a_fresh_login_link_works(case: str, client: Client, root: User) -> None:
    secret = make_link(root)
    if case == "too old":
        LoginLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    elif case == "disabled":
        User.objects.update(is_active=False)
    elif case == "the hash itself":
        secret = LoginLink.objects.get().hash
    response = client.get(f"/login/link/{'x' if case == 'never made' else secret}/")
    assert response.status_code == 410
    assert who(client) is None
