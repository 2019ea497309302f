from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import users
from accounts.api_keys import create_key, keys_of, revoke_key
from accounts.auth import AuthenticationFailed, caller_from_token
from accounts.callers import Caller, Role
from accounts.models import APIKey
from tests.accounts.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines_nightly]


@pytest.fixture
def owner() -> User:
    users.create_user("owner", password=PASSWORD, role=Role.ADMIN)
    return users.user_named("owner")


@pytest.mark.both_engines
def test_a_key_is_long_random_and_kept_as_a_hash_only(owner: User) -> None:
    key, text = create_key(owner, name="CI")
    assert text.startswith("apf_")
    assert len(text.removeprefix(key.prefix)) * 6 >= 256  # bits that nobody is shown
    stored = APIKey.objects.values().get()
    assert stored["hash"] == sha256(text.encode()).hexdigest()
    assert text not in str(stored)
    assert str(key) == f"{text[:12]}… (CI)"


ROLES = [
    (Role.ADMIN, None, False, Caller(user_id="owner", role=Role.ADMIN)),
    (Role.ADMIN, None, True, Caller(user_id="owner", role=Role.ADMIN, is_read_only=True)),
    (Role.ADMIN, Role.VIEWER, False, Caller(user_id="owner", role=Role.VIEWER)),
    (Role.OPERATOR, None, False, Caller(user_id="owner")),
    (Role.OPERATOR, Role.OPERATOR, False, Caller(user_id="owner")),
    pytest.param(Role.VIEWER, None, False, Caller(user_id="owner", role=Role.VIEWER), marks=pytest.mark.both_engines),
]


@pytest.mark.parametrize(("role", "limit", "is_read_only", "caller"), ROLES)
def test_a_key_speaks_for_its_owner(role: Role, limit: Role | None, is_read_only: bool, caller: Caller) -> None:
    owner = users.create_user("owner", password=PASSWORD, role=role)
    _, text = create_key(users.user_named(owner.username), name="a", role=limit, is_read_only=is_read_only)
    assert caller_from_token(text) == caller


def test_who_only_reads_sees_all_and_changes_nothing() -> None:
    caller = Caller(user_id="a", role=Role.ADMIN, is_read_only=True)
    assert caller.sees_all
    assert [caller.may(role) for role in Role] == [True, False, False]


@pytest.mark.both_engines
def test_a_key_follows_its_owner_down_but_not_up(owner: User) -> None:
    _, text = create_key(owner, name="a", role=Role.OPERATOR)
    users.set_role("owner", Role.VIEWER)
    assert caller_from_token(text).role is Role.VIEWER
    users.set_role("owner", Role.ADMIN)
    assert caller_from_token(text).role is Role.OPERATOR


REFUSED = [
    ("", None, "1 to 100"),
    ("x" * 101, None, "1 to 100"),
    ("a\n", None, "printable"),
    ("a", Role.ADMIN, "cannot exceed"),
]


@pytest.mark.parametrize(("name", "role", "reason"), REFUSED)
def test_a_key_without_a_name_or_above_its_owner_is_refused(name: str, role: Role | None, reason: str) -> None:
    users.create_user("owner", password=PASSWORD)
    with pytest.raises(users.Refused, match=reason):
        create_key(users.user_named("owner"), name=name, role=role)
    assert not APIKey.objects.exists()


def _after(change: Callable[[], object], text: str) -> str:
    change()
    return text


DEAD: dict[str, Callable[[str], str]] = {
    "another": lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
    "its prefix": lambda text: text[:12],
    "its hash": lambda text: "apf_" + sha256(text.encode()).hexdigest(),
    "in capitals": lambda text: text.upper(),
    "half a character": lambda text: text + "\ud800",
    "NUL": lambda text: text + "\0",
    "revoked": lambda text: _after(lambda: revoke_key(text[:12]), text),
    "revoked by its text": lambda text: _after(lambda: revoke_key(text), text),
    "expired": lambda text: _after(lambda: APIKey.objects.update(expires_at=timezone.now()), text),
    "owner disabled": lambda text: _after(lambda: users.set_active("owner", is_active=False), text),
    "owner deleted": lambda text: _after(User.objects.all().delete, text),
}


#: On a push. They are only another text, and the statement is the same.
ON_ONE_ENGINE = {"another", "its prefix", "its hash", "revoked by its text"}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(spoil, id=name, marks=[] if name in ON_ONE_ENGINE else [pytest.mark.both_engines])
        for name, spoil in DEAD.items()
    ],
)
def test_a_key_that_does_not_count_is_refused_like_any_token(spoil: Callable[[str], str], owner: User) -> None:
    _, text = create_key(owner, name="a", lifetime=timedelta(days=1))
    assert caller_from_token(text).user_id == "owner"
    with pytest.raises(AuthenticationFailed):
        caller_from_token(spoil(text))


def test_a_key_outlives_the_password(owner: User) -> None:
    _, text = create_key(owner, name="a")
    users.set_password("owner", password="another sesame")
    assert caller_from_token(text).user_id == "owner"


@pytest.mark.both_engines
def test_its_use_is_noted_once_a_minute_and_else_costs_one_query(owner: User) -> None:
    key, text = create_key(owner, name="a")
    caller_from_token(text)
    key.refresh_from_db()
    first = key.last_used_at
    assert first is not None
    with CaptureQueriesContext(
        connection,
    ) as queries:
        caller_from_token(text)
    assert len(queries) == 1
    APIKey.objects.update(last_used_at=first - timedelta(seconds=61))
    caller_from_token(text)
    key.refresh_from_db()
    assert key.last_used_at is not None
    assert key.last_used_at >= first


@pytest.mark.both_engines
def test_only_keys_that_work_are_listed_and_only_own_ones_revoked(owner: User) -> None:
    other = users.create_user("other", password=PASSWORD)
    mine, _ = create_key(owner, name="mine")
    theirs, _ = create_key(users.user_named("other"), name="theirs")
    with pytest.raises(users.Refused, match="No active API key"):
        revoke_key(mine.prefix, user=other)
    revoke_key(theirs.prefix, user=other)
    assert list(keys_of()) == [mine]
    assert list(keys_of(other)) == []
    with pytest.raises(users.Refused, match="No active API key"):
        revoke_key(theirs.prefix)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Authorization": "Bearer {}"}, 200, marks=pytest.mark.both_engines),
        ({"X-API-Key": "{}"}, 200),
        pytest.param({"X-API-Key": "{}x"}, 401, marks=pytest.mark.both_engines),
        ({"X-API-Key": ""}, 401),
        ({"Authorization": "Bearer {}", "X-API-Key": "x"}, 200),
        ({"Authorization": "Bearer x", "X-API-Key": "{}"}, 401),
        ({"Authorization": "{}"}, 401),
        ({"Cookie": "X-API-Key={}"}, 401),
    ],
)
def test_a_key_comes_in_by_two_headers(headers: dict[str, str], status: int, client: Client, owner: User) -> None:
    _, text = create_key(owner, name="a")
    sent = {name: value.format(text) for name, value in headers.items()}
    assert client.get("/auth/me", headers=sent).status_code == status
