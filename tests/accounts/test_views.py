import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jsonschema_rs
import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.utils import get_md5_hash_password

from a2a.rest.openapi import openapi_document
from accounts.models import SpentToken
from accounts.tokens import InvalidToken, issue, log_out, rotate
from accounts.urls import urlpatterns
from tests.accounts.conftest import PASSWORD, minted
from tests.accounts.hashers import CountingHasher
from tests.sections import replace


def post(client: Client, path: str, body: Any, *, content_type: str = "application/json") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content, content_type=content_type)


def log_in(client: Client, username: str, password: str) -> Any:
    return post(client, "/auth/login", {"username": username, "password": password})


def test_the_password_buys_a_token_that_works(client: Client, alice: User) -> None:
    response = log_in(client, "alice", PASSWORD)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies
    body = response.json()
    assert list(body) == ["access", "refresh", "token", "token_type", "expires_in"]
    assert (body["token"], body["token_type"], body["expires_in"]) == (body["access"], "Bearer", 900)
    me = client.get("/auth/me", headers={"Authorization": f"Bearer {body['token']}"})
    assert me.json() == {
        "user_id": "alice",
        "role": "operator",
        "is_read_only": False,
        "is_admin": False,
        "auth_enabled": True,
    }


def test_the_answers_are_as_the_openapi_document_says(client: Client, alice: User) -> None:
    paths = openapi_document(with_authentication=True)["paths"]
    tokens = log_in(client, "alice", PASSWORD).json()
    headers = {"Authorization": f"Bearer {tokens['access']}"}
    answers = {
        ("/auth/login", "post"): [
            log_in(client, "alice", PASSWORD),
            log_in(client, "alice", "wrong"),
            post(client, "/auth/login", {}),
        ],
        ("/auth/me", "get"): [client.get("/auth/me", headers=headers), client.get("/auth/me")],
        ("/auth/refresh", "post"): [post(client, "/auth/refresh", {"refresh": tokens["refresh"]})],
        ("/auth/logout", "post"): [client.post("/auth/logout", headers=headers)],
    }
    assert {f"/{url.pattern}" for url in urlpatterns} == {path.removeprefix("/auth") for path, _ in answers}
    for (path, method), responses in answers.items():
        described = paths[path][method]["responses"]
        for response in responses:
            found = described[str(response.status_code)]
            if "content" in found and "$ref" not in (schema := found["content"]["application/json"]["schema"]):
                jsonschema_rs.validate(schema, response.json())


def test_a_site_that_checks_csrf_lets_logins_through(client: Client, alice: User, settings: LazySettings) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csrf.CsrfViewMiddleware"]
    assert log_in(client, "alice", PASSWORD).status_code == 200
    assert post(client, "/auth/refresh", {"refresh": issue(alice)["refresh"]}).status_code == 200


@pytest.mark.filterwarnings("ignore:The HMAC key is 15 bytes long")
def test_the_secret_of_the_guide_works_though_it_is_weak(client: Client, alice: User, settings: LazySettings) -> None:
    settings.SIMPLE_JWT = {**settings.SIMPLE_JWT, "SIGNING_KEY": "your-secret-key"}
    token = log_in(client, "alice", PASSWORD).json()["token"]
    assert client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}).json()["user_id"] == "alice"


WRONG = [
    ("alice", "wrong"),
    ("alice", PASSWORD + " "),
    ("Alice", PASSWORD),
    ("nobody", PASSWORD),
    ("disabled", PASSWORD),
    ("without", PASSWORD),
    ("n" * 5000, PASSWORD),
    ("alice' OR 1=1 --", PASSWORD),
]


@pytest.mark.parametrize(("username", "password"), WRONG)
def test_wrong_credentials_get_one_answer_for_the_same_work(
    username: str, password: str, client: Client, alice: User
) -> None:
    User.objects.create_user("disabled", password=PASSWORD, is_active=False)
    User.objects.create_user("without")
    CountingHasher.encoded.clear()
    response = log_in(client, username, password)
    assert response.status_code == 401
    assert response.json() == {"error": {"code": "invalid_credentials", "message": "Wrong username or password."}}
    assert len(CountingHasher.encoded) == 1


BODIES: list[tuple[Any, int, str, str | None]] = [
    (b" ", 400, "invalid_json", None),
    (b"{", 400, "invalid_json", None),
    (b"\xff", 400, "invalid_json", None),
    (b'{"username": NaN}', 400, "invalid_json", None),
    (b'{"username": "\\ud800"}', 400, "invalid_json", None),
    (b"[" * 10_000, 400, "invalid_json", None),
    (b"username=alice&password=x", 400, "invalid_json", None),
    ([], 400, "invalid_request", None),
    ("alice", 400, "invalid_request", None),
    ({}, 400, "invalid_request", "username"),
    ({"username": "alice"}, 400, "invalid_request", "password"),
    ({"password": "x"}, 400, "invalid_request", "username"),
    ({"username": "alice", "password": ""}, 400, "invalid_request", "password"),
    ({"username": "alice", "password": 7}, 400, "invalid_request", "password"),
    ({"username": None, "password": "x"}, 400, "invalid_request", "username"),
    ({"username": ["alice"], "password": "x"}, 400, "invalid_request", "username"),
    ({"username": "a\0", "password": "x"}, 400, "invalid_request", "username"),
    ({"username": "alice", "password": "x\0"}, 400, "invalid_request", "password"),
    ({"username": "alice", "password": "x", "otp": "1"}, 400, "invalid_request", "otp"),
    ({"username": "alice", "password": "x" * 20_000}, 413, "too_large", None),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), BODIES)
def test_a_login_is_json_with_exactly_two_fields(
    body: Any, status: int, code: str, field: str | None, client: Client
) -> None:
    response = post(client, "/auth/login", body)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error.get("field")) == (code, field)
    assert field is None or field in error["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_login_says_that_it_is_json(content_type: str, client: Client) -> None:
    response = post(client, "/auth/login", {"username": "a", "password": "b"}, content_type=content_type)
    assert (response.status_code, response.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("get", "/auth/login", "POST"), ("get", "/auth/refresh", "POST"), ("post", "/auth/me", "GET")],
)
def test_another_method_is_refused(method: str, path: str, allowed: str, client: Client) -> None:
    response = client.generic(method.upper(), path)
    assert (response.status_code, response["Allow"]) == (405, allowed)


@pytest.mark.usefixtures("auth_off")
@pytest.mark.parametrize("path", ["/auth/login", "/auth/refresh"])
def test_while_it_is_off_the_answer_says_how_to_turn_it_on(path: str, client: Client) -> None:
    response = post(client, path, {"username": "a", "password": "b"})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "auth_disabled"
    assert "auth: {enabled: true, jwt_secret: …}" in error["message"]


def test_a_refresh_token_buys_one_new_pair(client: Client, alice: User) -> None:
    first = issue(alice)
    response = post(client, "/auth/refresh", {"refresh": first["refresh"]})
    assert response.status_code == 200
    second = response.json()
    assert client.get("/auth/me", headers={"Authorization": f"Bearer {second['access']}"}).status_code == 200
    assert post(client, "/auth/refresh", {"refresh": second["refresh"]}).status_code == 200


def test_a_refresh_token_that_is_used_again_ends_its_login(client: Client, alice: User) -> None:
    """Whoever of the two stole it: neither goes on. Other logins of the user are left."""
    first, other = issue(alice), issue(alice)
    second = post(client, "/auth/refresh", {"refresh": first["refresh"]}).json()
    again = post(client, "/auth/refresh", {"refresh": first["refresh"]})
    assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_token")
    for pair in (first, second):
        assert client.get("/auth/me", headers={"Authorization": f"Bearer {pair['access']}"}).status_code == 401
    assert post(client, "/auth/refresh", {"refresh": second["refresh"]}).status_code == 401
    assert post(client, "/auth/refresh", {"refresh": other["refresh"]}).status_code == 200


def test_who_logs_out_with_an_empty_object_ends_the_login_of_the_access_token(client: Client, alice: User) -> None:
    pair = issue(alice)
    headers = {"Authorization": f"Bearer {pair['access']}"}
    out = client.post("/auth/logout", {}, content_type="application/json", headers=headers)
    assert (out.status_code, out.content) == (204, b"")
    assert client.get("/auth/me", headers=headers).status_code == 401
    assert client.post("/auth/logout", {}, content_type="application/json").status_code == 401
    wrong = client.post("/auth/logout", {"token": "x"}, content_type="application/json", headers=headers)
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "token")


@pytest.mark.parametrize("kind", ["access", "garbage", "elsewhere", "disabled", "new password"])
def test_only_a_live_refresh_token_of_ours_buys_a_pair(kind: str, client: Client, alice: User) -> None:
    pair = issue(alice)
    foreign: dict[str, Any] = {"user_id": "alice", "token_type": "refresh", "jti": "1"}
    foreign["hash_password"] = get_md5_hash_password(alice.password)
    tokens = {"access": pair["access"], "garbage": "x", "elsewhere": minted(**foreign)}
    if kind == "disabled":
        User.objects.update(is_active=False)
    if kind == "new password":
        alice.set_password("another")
        alice.save()
    response = post(client, "/auth/refresh", {"refresh": tokens.get(kind, pair["refresh"])})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_token")
    assert not SpentToken.objects.exists()


@pytest.mark.both_engines
def test_of_two_who_spend_a_refresh_token_at_once_one_wins(served: None, alice: User) -> None:
    refresh = issue(alice)["refresh"]

    def spend(_: int) -> bool:
        try:
            rotate(refresh)
        except InvalidToken:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(spend, range(4))) == [False, False, False, True]


@pytest.mark.django_db
def test_spent_tokens_are_forgotten_once_they_would_have_expired() -> None:
    now = timezone.now()
    SpentToken.objects.spend("old", expires_at=now - timedelta(minutes=5))
    assert SpentToken.objects.spend("new", expires_at=now + timedelta(days=1))
    assert list(SpentToken.objects.values_list("jti", flat=True)) == ["new"]


def just_expired(refresh: str) -> str:
    """The same refresh token, whose time is over by less than the skew that clocks are allowed."""
    token = RefreshToken(refresh)  # type: ignore[arg-type]  # its annotation is wrong: it takes the text
    token.set_exp(lifetime=timedelta(seconds=-1))
    return str(token)


@pytest.mark.django_db
def test_a_refresh_token_is_spent_as_long_as_it_could_work(alice: User) -> None:
    refresh = just_expired(issue(alice)["refresh"])
    rotate(refresh)
    with pytest.raises(InvalidToken):
        rotate(refresh)


@pytest.mark.django_db
def test_a_login_is_over_as_long_as_its_tokens_could_work(alice: User, settings: LazySettings) -> None:
    settings.APFLOW = replace(settings.APFLOW, auth=replace(settings.APFLOW.auth, refresh_days=0))
    refresh = just_expired(issue(alice)["refresh"])
    log_out(refresh)
    rotate(issue(alice)["refresh"])  # it forgets what is not needed any more
    with pytest.raises(InvalidToken):
        rotate(refresh)


def me_with(client: Client, token: str) -> int:
    return int(client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code)


@pytest.mark.parametrize("kind", ["access", "refresh", "a later access"])
def test_after_a_logout_no_token_of_that_login_works(kind: str, client: Client, alice: User) -> None:
    first, other = issue(alice), issue(alice)
    second = rotate(first["refresh"])
    if kind == "refresh":
        response = post(client, "/auth/logout", {"refresh": second["refresh"]})
    else:
        token = (first if kind == "access" else second)["access"]
        response = client.generic("POST", "/auth/logout", headers={"Authorization": f"Bearer {token}"})
    assert (response.status_code, response.content) == (204, b"")
    assert [me_with(client, pair["access"]) for pair in (first, second, other)] == [401, 401, 200]
    assert post(client, "/auth/refresh", {"refresh": second["refresh"]}).status_code == 401
    assert post(client, "/auth/refresh", {"refresh": other["refresh"]}).status_code == 200


@pytest.mark.parametrize(
    "token",
    ["", "garbage", minted(sub="alice"), minted(sub="alice", iss="aipartnerupflow")],
    ids=["none", "garbage", "minted elsewhere", "as if it were ours"],
)
def test_only_a_login_of_ours_can_be_ended(token: str, client: Client, alice: User) -> None:
    assert client.generic("POST", "/auth/logout", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert not SpentToken.objects.exists()
