import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from accounts.logins import TRIES, TooManyTries, WrongCredentials, log_in
from accounts.models import LoginTry
from accounts.tokens import issue
from tests.accounts.conftest import PASSWORD
from tests.accounts.test_views import log_in as post_login

pytestmark = [pytest.mark.django_db, pytest.mark.both_engines]


def outcome(username: str, password: str = "wrong", *, address: str = "192.0.2.1") -> str:
    try:
        return log_in(username, password, address=address).username
    except (WrongCredentials, TooManyTries) as error:
        return type(error).__name__


def test_a_user_has_so_many_tries_a_minute_from_one_address(alice: User) -> None:
    tries = [outcome("alice") for _ in range(8)]
    assert tries == ["WrongCredentials"] * TRIES["user"] + ["TooManyTries"] * 3
    assert outcome("alice", PASSWORD) == "TooManyTries"


def test_nobody_locks_a_user_out_from_another_address(alice: User) -> None:
    for number in range(1, 20):
        for _ in range(TRIES["user"] + 1):
            outcome("alice", address=f"192.0.2.{number}")
    assert outcome("alice", PASSWORD, address="198.51.100.7") == "alice"


def test_an_address_has_so_many_tries_a_minute_whoever_is_named(alice: User) -> None:
    tries = [outcome(f"user{number}") for number in range(23)]
    assert tries == ["WrongCredentials"] * TRIES["address"] + ["TooManyTries"] * 3
    assert outcome("alice", PASSWORD) == "TooManyTries"
    assert outcome("alice", PASSWORD, address="192.0.2.2") == "alice"


def test_the_minute_is_one_that_moves(alice: User) -> None:
    for _ in range(TRIES["user"]):
        outcome("alice")
    with pytest.raises(TooManyTries) as refusal:
        log_in("alice", "wrong", address="192.0.2.1")
    assert 0 < refusal.value.retry_after_seconds <= 60
    first, *_ = LoginTry.objects.order_by("at")
    LoginTry.objects.filter(at__lte=first.at).update(at=first.at - timedelta(minutes=1))
    assert outcome("alice") == "WrongCredentials"  # the oldest has left, which makes room for one
    assert outcome("alice") == "TooManyTries"


def test_who_is_refused_waits_no_longer_for_having_asked(alice: User) -> None:
    for _ in range(50):
        outcome("alice")
    assert LoginTry.objects.count() == 2 * TRIES["user"]


def test_who_knows_the_password_may_log_in_as_often_as_they_like(alice: User) -> None:
    assert {outcome("alice", PASSWORD) for _ in range(30)} == {"alice"}
    assert not LoginTry.objects.exists()


def test_a_right_password_wipes_out_no_wrong_ones(alice: User) -> None:
    """Else who has an account would guess at others between two of their own logins."""
    User.objects.create_user("mallory", password=PASSWORD)
    tries = []
    for number in range(25):
        tries.append(outcome(f"user{number}"))
        outcome("mallory", PASSWORD)
    assert tries.count("WrongCredentials") == TRIES["address"]


ADDRESSES = [
    ("2001:db8::1", "2001:db8::ffff:2", True),
    ("2001:db8::1", "2001:db8:0:1::1", False),
    ("192.0.2.1", "::ffff:192.0.2.1", True),
    ("192.0.2.1", "192.0.2.2", False),
    ("", "", True),
]


@pytest.mark.parametrize(("one", "other", "is_same"), ADDRESSES)
def test_an_address_of_version_6_counts_by_its_network(one: str, other: str, is_same: bool, db: None) -> None:
    for number in range(TRIES["address"]):
        outcome(f"user{number}", address=one)
    assert outcome("another", address=other) == ("TooManyTries" if is_same else "WrongCredentials")


@pytest.mark.django_db(transaction=True)
def test_of_many_who_try_at_once_no_more_get_through(alice: User) -> None:
    start = threading.Barrier(16)

    def attempt(_: int) -> str:
        start.wait(60)
        try:
            return outcome("alice")
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        found = Counter(pool.map(attempt, range(16)))
    assert found["WrongCredentials"] <= TRIES["user"]
    assert found.total() == 16


def test_nobody_learns_who_was_tried(alice: User) -> None:
    outcome("my-password-in-the-wrong-field")
    assert "password" not in str(list(LoginTry.objects.values()))


def test_over_http_it_says_when_to_come_back_and_live_tokens_work_on(client: Client, alice: User) -> None:
    token = issue(alice)["access"]
    statuses = [post_login(client, "alice", "wrong").status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    response = post_login(client, "alice", PASSWORD)
    assert response.status_code == 429
    error = response.json()["error"]
    assert error["code"] == "limit_reached"
    assert response["Retry-After"] == str(error["data"]["retry_after_seconds"])
    assert 1 <= error["data"]["retry_after_seconds"] <= 60
    assert client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_the_page_has_the_same_limits(client: Client, alice: User) -> None:
    unchecked = Client(headers={"Host": "localhost"})
    for _ in range(5):
        assert unchecked.post("/login/", {"username": "alice", "password": "wrong"}).status_code == 401
    response = unchecked.post("/login/", {"username": "alice", "password": PASSWORD})
    assert response.status_code == 429
    assert int(response["Retry-After"]) <= 60
    assert "Try again in" in response.content.decode()
    assert post_login(client, "alice", PASSWORD).status_code == 429
