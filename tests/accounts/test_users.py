import pytest
from django.conf import LazySettings
from django.contrib.auth import authenticate
from django.contrib.auth.models import User

from accounts import users
from accounts.callers import Role
from tests.accounts.conftest import PASSWORD

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("role", Role)
def test_a_created_user_has_the_role_and_can_log_in(role: Role) -> None:
    users.create_user("alice", password=PASSWORD, role=role)
    assert users.role_of(users.user_named("alice")) is role
    user = authenticate(username="alice", password=PASSWORD)
    assert isinstance(user, User)
    assert (user.is_superuser, user.is_staff) == (role is Role.ADMIN, role is Role.ADMIN)


@pytest.mark.parametrize("before", Role)
@pytest.mark.parametrize("after", Role)
def test_a_role_takes_the_place_of_the_last_one(before: Role, after: Role) -> None:
    users.create_user("alice", password=PASSWORD, role=before)
    users.set_role("alice", after)
    assert users.role_of(users.user_named("alice")) is after


REFUSED = [
    ("taken", PASSWORD, "already exists"),
    ("", PASSWORD, "cannot be blank"),
    ("a b", PASSWORD, "valid username"),
    ("a" * 151, PASSWORD, "150 characters"),
    ("alice", "", "empty"),
    ("alice", "a\0b", "NUL"),
    ("alice", "q7#Kz9", "too short"),
    ("alice", "password123", "too common"),
    ("alice", "74923658", "numeric"),
    ("correct-horse", "correct-horse1", "similar"),
]


@pytest.mark.parametrize(("name", "password", "reason"), REFUSED)
def test_a_bad_name_or_password_creates_nobody(name: str, password: str, reason: str) -> None:
    User.objects.create_user("taken")
    with pytest.raises(users.Refused, match=reason):
        users.create_user(name, password=password)
    assert User.objects.count() == 1


LOOK_ALIKES = [
    ("Alice", "looks like the user 'alice'"),
    ("ALICE", "looks like the user 'alice'"),
    ("аlice", r"mixes letters of several scripts: Cyrillic \('а'\), Latin \('l'\)"),
    ("аӏісе", "looks like the user 'alice'"),
    ("αlice", "mixes letters of several scripts: Greek"),
    ("strasse", "looks like the user 'straße'"),
]


@pytest.mark.parametrize(("name", "reason"), LOOK_ALIKES)
def test_a_name_that_looks_like_another_one_is_refused(name: str, reason: str) -> None:
    User.objects.bulk_create([User(username="alice"), User(username="straße")])
    with pytest.raises(users.Refused, match=reason):
        users.create_user(name, password=PASSWORD)
    assert User.objects.count() == 2


@pytest.mark.parametrize(
    "name", ["alice", "алиса", "Ада_2", "ελένη", "山田たろう", "ada.lovelace+1@example.com", "zoë"]
)
def test_a_name_of_one_script_is_taken(name: str) -> None:
    User.objects.create_user("bob")
    assert users.create_user(name, password=PASSWORD).username == name


def test_existing_users_with_names_that_look_alike_go_on() -> None:
    User.objects.bulk_create([User(username="alice"), User(username="Alice"), User(username="аlice")])
    for name in ("alice", "Alice", "аlice"):
        users.set_password(name, password=PASSWORD)
        users.set_role(name, Role.VIEWER)
        assert authenticate(username=name, password=PASSWORD) is not None


def test_who_insists_may_have_a_weak_password_but_not_an_empty_one() -> None:
    users.create_user("user", password="pass", is_weak_allowed=True)
    assert authenticate(username="user", password="pass") is not None
    with pytest.raises(users.Refused):
        users.set_password("user", password="", is_weak_allowed=True)


def test_the_password_can_be_changed() -> None:
    users.create_user("alice", password=PASSWORD)
    users.set_password("alice", password="another sesame")
    assert authenticate(username="alice", password=PASSWORD) is None
    assert authenticate(username="alice", password="another sesame") is not None


def test_who_is_disabled_may_be_enabled_again(settings: LazySettings) -> None:
    users.create_user("alice", password=PASSWORD)
    users.set_active("alice", is_active=False)
    assert authenticate(username="alice", password=PASSWORD) is None
    users.set_active("alice", is_active=True)
    assert authenticate(username="alice", password=PASSWORD) is not None


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(users.Refused, match="users create"):
        users.user_named("alice")
    users.create_user("alice", password=PASSWORD)
    with pytest.raises(users.Refused, match="Users: alice"):
        users.set_active("alcie", is_active=False)


def test_the_first_admin_is_the_oldest_who_may_come_in() -> None:
    assert users.first_admin() is None
    users.create_user("alice", password=PASSWORD)
    for name in ("root", "boss"):
        users.create_user(name, password=PASSWORD, role=Role.ADMIN)
    assert str(users.first_admin()) == "root"
    users.set_active("root", is_active=False)
    assert str(users.first_admin()) == "boss"
