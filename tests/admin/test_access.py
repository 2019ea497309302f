"""Who gets into the admin, and what may be done there by a request of any kind."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.admin.conftest import PASSWORD, Session, csrf_token, session_of
from tests.servers import Server

PAGES = """
    /admin/ /admin/tasks/task/ /admin/tasks/task/example-diamond/change/ /admin/tasks/run/ /admin/tasks/taskevent/
    /admin/tasks/question/ /admin/tasks/workerprocess/ /admin/tasks/webhook/ /admin/tasks/webhookdelivery/ /admin/auth/user/ /admin/auth/user/1/change/
    /admin/auth/user/add/ /admin/auth/user/1/password/ /admin/accounts/apikey/ /admin/accounts/auditentry/ /admin/llmkeys/llmkey/ /admin/llmkeys/namedsecret/ /admin/search/?s=a
""".split()
FOREIGN_PAGES = """
    /admin/django_q/ /admin/django_q/ormq/ /admin/django_q/success/ /admin/django_q/failure/ /admin/django_q/schedule/
    /admin/auth/group/ /admin/tasks/idempotencykey/ /admin/llmkeys/runsecret/ /admin/accounts/spenttoken/
""".split()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_for_administrators_only(path: str, admin_server: Server, sessions: Callable[[str], Session]) -> None:
    anonymous = admin_server.http.get(path)
    assert (anonymous.status_code, anonymous.headers["location"].split("?")[0]) == (302, "/admin/login/")
    for name in ("olga", "vera"):
        refused = sessions(name).get(path, follow_redirects=True)
        assert (refused.status_code, f"logged in as {name}" in refused.text) == (403, True)
    assert sessions("root").get(path, follow_redirects=True).status_code == 200


def test_who_is_not_logged_in_is_asked_to_and_comes_back(admin_server: Server) -> None:
    response = admin_server.http.get("/admin/tasks/run/", follow_redirects=True)
    assert response.url.path == "/login/"
    assert response.url.params["next"] == "/admin/tasks/run/"


def test_a_disabled_administrator_is_out_at_once(admin_server: Server, admin: Session) -> None:
    make_user(admin, "gone", role="admin")
    with session_of("gone", admin_server) as session:
        assert session.get("/admin/tasks/task/").status_code == 200
        admin_server.query("UPDATE auth_user SET is_active = %s WHERE username = 'gone'", False)
        assert session.get("/admin/tasks/task/").status_code == 302


@pytest.mark.parametrize("path", FOREIGN_PAGES)
def test_there_is_no_page_for_what_is_nobodys_to_see(path: str, admin: Session) -> None:
    assert admin.get(path).status_code == 404


@pytest.mark.parametrize("path", [path for path in PAGES if "/tasks/" in path])
def test_a_post_with_everything_changes_nothing(path: str, admin: Session, rpc: Callable[..., Any]) -> None:
    before = rpc("tasks.get", {"task_id": "example-diamond"}, name="root")
    token = csrf_token(admin.get("/admin/auth/user/add/").text)
    form = {"csrfmiddlewaretoken": token, "name": "changed", "status": "failed", "_save": "Save", "post": "yes"}
    assert admin.post(path, data=form).status_code in (200, 302, 403)
    for verb in ("add/", "example-diamond/delete/"):
        refused = admin.post(f"/admin/tasks/task/{verb}", data=form)
        assert refused.status_code == 403
    assert rpc("tasks.get", {"task_id": "example-diamond"}, name="root") == before


@pytest.mark.parametrize("action", ["execute", "cancel"])
def test_an_action_needs_the_token_of_the_form(action: str, admin: Session) -> None:
    form = {"action": action, "_selected_action": "example-diamond"}
    assert admin.post("/admin/tasks/task/", data=form).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/admin/tasks/task/%00/change/",
        "/admin/tasks/run/a%00b/change/",
        "/admin/tasks/task/?q=%00",
        "/admin/tasks/task/?status__exact=%00",
        "/admin/tasks/task/?created_at__gte=never",
        "/admin/tasks/task/?nothing=1",
        "/admin/tasks/webhook/?sealed__startswith=v1",
        "/admin/tasks/question/?memo__startswith=v1",
        "/admin/llmkeys/llmkey/?sealed__startswith=v1",
        "/admin/llmkeys/namedsecret/?sealed__startswith=v1",
        "/admin/accounts/apikey/?hash__startswith=a",
        "/admin/accounts/apikey/?user__password__startswith=pbkdf2",
        "/admin/auth/user/?password__startswith=pbkdf2",
    ],
)
def test_a_query_that_makes_no_sense_or_would_guess_a_secret_is_refused(path: str, admin: Session) -> None:
    response = admin.get(path)
    assert response.status_code < 500
    assert response.status_code != 200 or 'id="result_list"' not in response.text or "q=" in path


def test_only_the_admin_may_evaluate_text_as_code(admin_server: Server, admin: Session) -> None:
    policies = {path: admin.get(path).headers["content-security-policy"] for path in ("/admin/tasks/task/", "/login/")}
    assert "script-src 'self' 'unsafe-eval';" in policies["/admin/tasks/task/"] + ";"
    assert "style-src 'self';" in policies["/admin/tasks/task/"] + ";"
    assert "unsafe" not in policies["/login/"]
    assert "unsafe" not in admin_server.http.get("/health").headers.get("content-security-policy", "")


def test_only_administrators_read_the_metrics(admin_server: Server, sessions: Callable[[str], Session]) -> None:
    http = admin_server.http
    assert http.get("/metrics").status_code == 401
    assert sessions("root").get("/metrics").status_code == 401  # a session is for pages
    for name, status in (("olga", 403), ("vera", 403), ("root", 200)):
        login = http.post("/auth/login", json={"username": name, "password": PASSWORD}).json()
        bearer = {"Authorization": f"Bearer {login['access']}"}
        assert http.get("/metrics", headers=bearer).status_code == status
    assert http.post("/metrics").status_code == 405


def make_user(admin: Session, name: str, *, role: str, password: str = PASSWORD) -> None:
    page = admin.get("/admin/auth/user/add/")
    form = {"username": name, "password1": password, "password2": password, "role": role}
    saved = admin.post("/admin/auth/user/add/", data={**form, "csrfmiddlewaretoken": csrf_token(page.text)})
    assert saved.status_code == 302, re.findall(r'class="[^"]*errornote.+', saved.text)
