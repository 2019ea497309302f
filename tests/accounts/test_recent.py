"""Callers of the last second: known without a query, and shut out within a second after any change."""

import pytest
from django.contrib.auth.models import Group, User

from accounts import api_keys, users
from accounts.callers import Caller
from accounts.recent import TRUSTED_SECONDS, RecentCallers, recent_callers

ALICE = Caller(user_id="alice")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_of_the_database_counts_for_less_than_a_second_from_the_question_on() -> None:
    clock = Clock()
    recent = RecentCallers(clock=clock)

    def check_slowly(token: str) -> Caller:
        clock.now += 0.5
        return ALICE

    assert recent.known("token") is None
    assert recent.caller("token", check_slowly) == ALICE
    assert recent.known("token") == ALICE
    clock.now = 100 + TRUSTED_SECONDS
    assert recent.known("token") is None
    assert TRUSTED_SECONDS < 1


def test_an_answer_that_is_older_than_a_change_is_not_remembered() -> None:
    recent = RecentCallers()

    def check_while_it_changes(token: str) -> Caller:
        recent.forget()
        return ALICE

    assert recent.caller("token", check_while_it_changes) == ALICE
    assert recent.known("token") is None


def test_a_refusal_is_not_remembered() -> None:
    recent = RecentCallers()

    def refuse(token: str) -> Caller:
        raise ValueError

    with pytest.raises(ValueError):
        recent.caller("token", refuse)
    assert recent.known("token") is None


def test_memory_is_bounded_and_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.recent.MOST_CALLERS", 3)
    recent = RecentCallers()
    for number in range(10):
        recent.caller(f"token-{number}", lambda token: ALICE)
    assert len(recent._callers) <= 3
    assert b"token" not in b"".join(recent._callers)


@pytest.mark.both_engines
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", ["disabled", "demoted", "key revoked", "deleted", "new password"])
def test_a_change_in_this_process_counts_at_once(change: str) -> None:
    user = users.create_user("alice", password="open-sesame-1")
    key, _ = api_keys.create_key(users.user_named("alice"), name="ci")
    recent = recent_callers()
    recent.caller("token", lambda token: ALICE)
    assert recent.known("token") == ALICE
    if change == "disabled":
        users.set_active("alice", is_active=False)
    elif change == "demoted":
        user.groups.add(Group.objects.get_or_create(name=users.VIEWERS)[0])
    elif change == "key revoked":
        api_keys.revoke_key(key.prefix)
    elif change == "deleted":
        User.objects.get(username="alice").delete()
    else:
        users.set_password("alice", password="open-sesame-2")
    assert recent.known("token") is None
