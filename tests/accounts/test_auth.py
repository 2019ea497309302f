import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from rest_framework_simplejwt.tokens import AccessToken

from accounts.auth import AuthenticationFailed, caller_from_token
from accounts.callers import LOCAL, Caller, Role
from accounts.tokens import issue
from tests.accounts.conftest import SECRET, minted
from tests.sections import replace

pytestmark = pytest.mark.django_db

NOW = int(time.time())


def forged(header: Any, claims: Any, *, key: str = SECRET) -> str:
    """A token put together by hand, with an HMAC whatever its header says."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    text = ".".join(_base64(part) for part in parts)
    return f"{text}.{_base64(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest())}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(**claims: Any) -> str:
    return forged({"alg": "none"}, claims).rpartition(".")[0] + "."


def own(user: User, **changes: Any) -> str:
    """An access token of this server with some claims changed, signed with our secret."""
    token = AccessToken(issue(user)["access"])  # type: ignore[arg-type]
    token.payload.update(changes)
    return str(token)


CLAIMS = {"sub": "carol", "exp": NOW + 3600}
HS256 = {"alg": "HS256", "typ": "JWT"}

REFUSED: dict[str, Callable[[User], str]] = {
    "empty": lambda alice: "",
    "garbage": lambda alice: "garbage",
    "three empty parts": lambda alice: "..",
    "five parts, as JWE": lambda alice: "a.b.c.d.e",
    "not ASCII": lambda alice: minted(sub="carol") + "é",
    "half a character": lambda alice: "\ud800",
    "NUL": lambda alice: minted(sub="carol") + "\0",
    "1 MB": lambda alice: minted(sub="carol", padding="x" * 1_000_000),
    "header is not JSON": lambda alice: forged(b"{", CLAIMS),
    "header is a list": lambda alice: forged([], CLAIMS),
    "claims are not JSON": lambda alice: forged(HS256, b"{"),
    "claims are a list": lambda alice: forged(HS256, [CLAIMS]),
    "claims are deeply nested": lambda alice: forged(HS256, b"[" * 5000 + b"]" * 5000),
    "signature cut off": lambda alice: minted(sub="carol").rpartition(".")[0],
    "signature empty": lambda alice: minted(sub="carol").rpartition(".")[0] + ".",
    "claims changed": lambda alice: _with_claims(minted(sub="carol"), {**CLAIMS, "sub": "alice"}),
    "alg none": lambda alice: unsigned(**CLAIMS),
    "alg None with signature": lambda alice: forged({"alg": "None"}, CLAIMS),
    "alg missing": lambda alice: forged({"typ": "JWT"}, CLAIMS),
    "alg RS256": lambda alice: forged({"alg": "RS256"}, CLAIMS),
    "alg ES256": lambda alice: forged({"alg": "ES256"}, CLAIMS),
    "alg HS512": lambda alice: forged({"alg": "HS512"}, CLAIMS),
    "alg in lower case": lambda alice: forged({"alg": "hs256"}, CLAIMS),
    "alg is a list": lambda alice: forged({"alg": ["HS256"]}, CLAIMS),
    "unknown critical header": lambda alice: forged({**HS256, "crit": ["exp"]}, CLAIMS),
    "detached payload": lambda alice: forged({**HS256, "crit": ["b64"], "b64": False}, CLAIMS),
    "wrong key": lambda alice: minted(key="another-secret-another-secret-another", sub="carol"),
    "wrong key that its own header names": lambda alice: forged(
        {**HS256, "jwk": {"kty": "oct", "k": _base64(b"k" * 32)}, "jku": "http://127.0.0.1/"}, CLAIMS, key="k" * 32
    ),
    "for more than a month": lambda alice: minted(sub="carol", exp=NOW + 32 * 86_400),
    "for more than a month, and nearly over": lambda alice: minted(sub="carol", iat=NOW - 40 * 86_400),
    "issued at no time": lambda alice: minted(sub="carol", iat="now"),
    "expired": lambda alice: minted(sub="carol", exp=NOW - 60),
    "expired, ours": lambda alice: own(alice, exp=NOW - 60),
    "without exp": lambda alice: minted(sub="carol", exp=None),
    "exp is null": lambda alice: forged(HS256, {"sub": "carol", "exp": None}),
    "exp is a text": lambda alice: forged(HS256, {"sub": "carol", "exp": "tomorrow"}),
    "exp is infinite": lambda alice: forged(HS256, b'{"sub": "carol", "exp": 1e999}'),
    "exp is no number": lambda alice: forged(HS256, b'{"sub": "carol", "exp": NaN}'),
    "not yet valid": lambda alice: minted(sub="carol", nbf=NOW + 86_400),
    "issued in the future": lambda alice: minted(sub="carol", iat=NOW + 86_400),
    "without identity": lambda alice: minted(),
    "identity is empty": lambda alice: minted(sub=""),
    "identity is blank": lambda alice: minted(sub=" "),
    "identity has a space at its end": lambda alice: minted(sub="carol "),
    "identity has a NUL": lambda alice: minted(sub="carol\0"),
    "identity is null": lambda alice: forged(HS256, {**CLAIMS, "sub": None}),
    "identity is a list": lambda alice: minted(user_id=["alice"]),
    "identity is true": lambda alice: minted(user_id=True),
    "identity is too long": lambda alice: minted(sub="c" * 256),
    "refresh, ours": lambda alice: issue(alice)["refresh"],
    "refresh, of another simplejwt": lambda alice: minted(user_id="carol", token_type="refresh"),
    "refresh, of another library": lambda alice: minted(sub="carol", type="refresh"),
    "refresh, of another server": lambda alice: minted(sub="carol", typ="Refresh"),
    "ours, of nobody": lambda alice: own(alice, user_id="nobody"),
    "ours, of a number": lambda alice: own(alice, user_id=alice.pk),
    "ours, of another user": lambda alice: own(User.objects.create_user("bob", password="b"), user_id="alice"),
    "ours, without the password's mark": lambda alice: own(alice, hash_password=None),
    "ours, user disabled": lambda alice: _then(issue(alice)["access"], lambda: _change(alice, is_active=False)),
    "ours, user deleted": lambda alice: _then(issue(alice)["access"], alice.delete),
    "ours, password changed": lambda alice: _then(issue(alice)["access"], lambda: _change(alice, password="new")),
    "minted elsewhere for a disabled user": lambda alice: _then(
        minted(sub="alice"), lambda: _change(alice, is_active=False)
    ),
}


def _with_claims(token: str, claims: dict[str, Any]) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{_base64(json.dumps(claims).encode())}.{signature}"


def _then(token: str, change: Callable[[], Any]) -> str:
    change()
    return token


def _change(user: User, **fields: Any) -> None:
    User.objects.filter(pk=user.pk).update(**fields)


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
def test_an_odd_token_is_refused_with_the_same_words(make: Callable[[User], str], alice: User) -> None:
    with pytest.raises(AuthenticationFailed) as failure:
        caller_from_token(make(alice))
    assert failure.value.message == (
        "Authentication required: send 'Authorization: Bearer' with a token from POST /auth/login or an API key."
    )
    assert failure.value.__cause__ is None


ACCEPTED: dict[str, tuple[Callable[[], str], Caller]] = {
    "sub": (lambda: minted(sub="carol"), Caller(user_id="carol")),
    "user_id": (lambda: minted(user_id="carol"), Caller(user_id="carol")),
    "user_id is a number": (lambda: minted(user_id=7), Caller(user_id="7")),
    "sub goes first": (lambda: minted(sub="carol", user_id="dave"), Caller(user_id="carol")),
    "longest identity": (lambda: minted(sub="c" * 255), Caller(user_id="c" * 255)),
    "beyond ASCII": (lambda: minted(sub="josé"), Caller(user_id="josé")),
    "admin": (lambda: minted(sub="carol", roles=["x", "admin"]), Caller(user_id="carol", role=Role.ADMIN)),
    "viewer": (lambda: minted(sub="carol", roles=["viewer"]), Caller(user_id="carol", role=Role.VIEWER)),
    "the highest role": (lambda: minted(sub="c", roles=["viewer", "operator"]), Caller(user_id="c")),
    "no role of ours": (lambda: minted(sub="carol", roles=["Admin", "root"]), Caller(user_id="carol")),
    "no roles": (lambda: minted(sub="carol", roles=[]), Caller(user_id="carol")),
    "roles is a text": (lambda: minted(sub="carol", roles="admin"), Caller(user_id="carol")),
    "roles nested": (lambda: minted(sub="carol", roles=[["admin"]]), Caller(user_id="carol")),
    "other claims": (lambda: minted(sub="carol", aud="x", iss="y", is_superuser=True), Caller(user_id="carol")),
    "another simplejwt": (lambda: minted(user_id="carol", token_type="access"), Caller(user_id="carol")),
    "a clock that is ahead": (lambda: minted(sub="carol", iat=int(time.time()) + 3), Caller(user_id="carol")),
    "headers that we ignore": (lambda: minted(sub="carol", headers={"kid": "../x"}), Caller(user_id="carol")),
}


@pytest.mark.parametrize(("make", "caller"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_a_token_minted_elsewhere_with_our_secret_enters(make: Callable[[], str], caller: Caller) -> None:
    assert caller_from_token(make()) == caller


def test_our_own_token_enters_under_the_user_name(alice: User) -> None:
    assert caller_from_token(issue(alice)["access"]) == Caller(user_id="alice")


def test_an_admin_sees_all_until_the_role_is_taken_away(root: User) -> None:
    token = issue(root)["access"]
    assert caller_from_token(token) == Caller(user_id="root", role=Role.ADMIN)
    _change(root, is_superuser=False)
    assert caller_from_token(token) == Caller(user_id="root")


def test_an_access_token_of_ours_lives_a_quarter_of_an_hour(alice: User) -> None:
    token = AccessToken(issue(alice)["access"])  # type: ignore[arg-type]
    assert token["exp"] - token["iat"] == timedelta(minutes=15).total_seconds()


HEADERS: dict[str, tuple[Callable[[str], str], int]] = {
    "as documented": ("Bearer {}".format, 200),
    "in lower case": ("bearer {}".format, 200),
    "with two spaces": ("Bearer  {}".format, 200),
    "another scheme": ("Basic {}".format, 401),
    "without scheme": ("{}".format, 401),
    "scheme alone": (lambda token: "Bearer", 401),
    "two tokens": ("Bearer {0} {0}".format, 401),
    "two headers, as they arrive": ("Bearer {0},Bearer {0}".format, 401),
    "nothing": (lambda token: "", 401),
}


@pytest.mark.parametrize(("header", "status"), HEADERS.values(), ids=HEADERS.keys())
def test_only_a_bearer_token_opens_the_door(
    header: Callable[[str], str], status: int, client: Client, alice: User
) -> None:
    response = client.get("/auth/me", headers={"Authorization": header(issue(alice)["access"])})
    assert response.status_code == status
    assert response["Cache-Control"] == "no-store"
    assert response.headers.get("WWW-Authenticate") == (None if status == 200 else "Bearer")


@pytest.mark.parametrize("header", ["", "Bearer garbage", f"Bearer {minted(sub='carol')}"])
def test_while_it_is_off_everybody_is_local(header: str, auth_off: None, client: Client) -> None:
    response = client.get("/auth/me", headers={"Authorization": header})
    assert response.json() == {
        "user_id": LOCAL.user_id,
        "role": "admin",
        "is_read_only": False,
        "is_admin": True,
        "auth_enabled": False,
    }


def test_a_session_cookie_is_no_identity(client: Client, alice: User) -> None:
    client.cookies["sessionid"] = client.cookies["access"] = issue(alice)["access"]
    response = client.get("/auth/me")
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "authentication_required"


@pytest.mark.parametrize(
    ("claims", "is_meant"),
    [
        ({"aud": "https://here"}, True),
        ({"aud": ["https://elsewhere", "https://here"]}, True),
        ({"aud": "https://elsewhere"}, False),
        ({"aud": []}, False),
        ({"aud": {"https://here": 1}}, False),
        ({}, False),
    ],
)
def test_with_an_audience_only_tokens_for_this_server_are_accepted(
    settings: LazySettings, alice: User, claims: dict[str, Any], is_meant: bool
) -> None:
    assert caller_from_token(minted(sub="carol", **claims)).user_id == "carol"
    settings.APFLOW = replace(settings.APFLOW, auth=replace(settings.APFLOW.auth, audience="https://here"))
    if is_meant:
        assert caller_from_token(minted(sub="carol", **claims)).user_id == "carol"
    else:
        with pytest.raises(AuthenticationFailed):
            caller_from_token(minted(sub="carol", **claims))
    assert caller_from_token(issue(alice)["access"]).user_id == "alice"
