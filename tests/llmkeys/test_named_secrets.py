"""Named secrets: kept sealed, for those who may use them, within limits, and sealed again when the operator's key changes."""

import pytest
from pytest_django import Settings

from llmkeys import keys, named_secrets
from llmkeys.cipher import CannotUnseal
from llmkeys.models import NamedSecret
from llmkeys.secret import Secret
from llmkeys.secret_forms import MalformedSecret, may_be_sent_to
from tests.sections import replace

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db]
VALUE = Secret("canary of the tests")


def keep(name: str = "token", user: str = "alice", **fields: object) -> NamedSecret:
    return named_secrets.set_secret(**{"user_id": user, "name": name, "value": VALUE} | fields)  # type: ignore[arg-type]


def values(user: str, *names: str) -> dict[str, str]:
    return {name: found.value.reveal() for name, found in named_secrets.opened(user_id=user, names=names).items()}


@pytest.mark.both_engines
def test_it_comes_back_for_its_owner_only_and_lies_sealed() -> None:
    row = keep()
    assert "canary" not in row.sealed
    assert values("alice", "token", "none") == {"token": "canary of the tests"}
    assert values("bob", "token") == {}
    assert named_secrets.list_secrets(user_id="bob") == []


@pytest.mark.both_engines
def test_a_use_is_recorded_once_a_minute() -> None:
    keep()
    values("alice", "token")
    (row,) = named_secrets.list_secrets(user_id="alice")
    used_at = row.used_at
    assert used_at is not None
    values("alice", "token")
    row.refresh_from_db()
    assert row.used_at == used_at


@pytest.mark.both_engines
def test_a_shared_one_is_for_its_users_and_an_own_one_goes_before_it() -> None:
    keep(scope="shared", users=["alice", "bob"])
    keep("for_all", scope="shared")
    keep(value=Secret("of alice alone"))
    assert values("alice", "token", "for_all") == {"token": "of alice alone", "for_all": "canary of the tests"}
    assert values("bob", "token") == {"token": "canary of the tests"}
    assert values("carol", "token", "for_all") == {"for_all": "canary of the tests"}
    assert named_secrets.usable_names(user_id="alice") == ["for_all", "token"]
    assert len(named_secrets.list_secrets(user_id="carol")) == 1
    assert len(named_secrets.list_secrets(user_id="carol", sees_all=True)) == 2


@pytest.mark.both_engines
def test_a_new_value_keeps_hosts_and_users_until_they_are_changed() -> None:
    keep(scope="shared", users=["bob"], allow_hosts=["API.example.com.", "api.example.com"])
    row = keep(scope="shared", value=Secret("another value"))
    assert (row.allow_hosts, row.users) == (["api.example.com"], ["bob"])
    row = keep(scope="shared", allow_hosts=[], users=[])
    assert (row.allow_hosts, row.users) == ([], [])


@pytest.mark.both_engines
def test_what_is_deleted_is_gone() -> None:
    keep()
    keep(scope="shared")
    assert not named_secrets.delete_secret(user_id="bob", name="token")
    assert named_secrets.delete_secret(user_id="alice", name="token")
    assert not named_secrets.delete_secret(user_id="alice", name="token")
    assert named_secrets.delete_secret(user_id="bob", name="token", scope="shared")
    assert not NamedSecret.objects.exists()


@pytest.mark.parametrize(
    ("fields", "field", "why"),
    [
        ({"name": "a-b"}, "name", "letters, digits and underscores"),
        ({"name": "1a"}, "name", "not begin with a digit"),
        ({"name": "a" * 65}, "name", "1 to 64"),
        ({"name": "tökén"}, "name", "letters"),
        ({"value": Secret("1234567")}, "value", "fewer than 8 characters"),
        ({"value": Secret(" 123456 \n")}, "value", "fewer than 8 characters"),
        ({"value": Secret("12345678\0")}, "value", "NUL"),
        ({"value": Secret("12345678\ud800")}, "value", "lone surrogate"),
        ({"value": Secret("line\n" * 101)}, "value", "more than 100 lines"),
        ({"value": Secret("é" * 10_000)}, "value", "16,384 bytes"),
        ({"allow_hosts": ["https://a.example"]}, "allow_hosts[0]", "without port"),
        ({"allow_hosts": ["a.example", "*"]}, "allow_hosts[1]", "must be a host name"),
        ({"allow_hosts": ["a.*.example"]}, "allow_hosts[0]", "must be a host name"),
        ({"allow_hosts": [f"a{number}.example" for number in range(51)]}, "allow_hosts", "more than 50"),
        ({"users": ["bob"]}, "users", "only for a shared secret"),
        ({"scope": "shared", "users": list(map(str, range(1001)))}, "users", "more than 1,000"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_a_reason(fields: dict[str, object], field: str, why: str) -> None:
    with pytest.raises(MalformedSecret) as refusal:
        keep(**fields)  # type: ignore[arg-type]
    assert (refusal.value.field, why in refusal.value.message) == (field, True)
    assert not NamedSecret.objects.exists()


@pytest.mark.both_engines
def test_a_user_has_a_limited_number_which_may_be_replaced(settings: Settings) -> None:
    settings.APFLOW = replace(settings.APFLOW, limits=replace(settings.APFLOW.limits, secrets_per_user=1))
    keep()
    keep()
    with pytest.raises(MalformedSecret, match="as many as"):
        keep("another")
    keep("another", user="bob")


@pytest.mark.both_engines
def test_they_are_sealed_anew_and_checked_with_the_keys(settings: Settings) -> None:
    settings.APFLOW_ENCRYPTION_KEYS = ["an old key, long enough to be one"]
    keep()
    settings.APFLOW_ENCRYPTION_KEYS = ["a new key, long enough to be one.", "an old key, long enough to be one"]
    assert (keys.open_all(), keys.rotate(), keys.rotate()) == (1, 1, 0)
    settings.APFLOW_ENCRYPTION_KEYS = ["a new key, long enough to be one."]
    assert values("alice", "token") == {"token": "canary of the tests"}
    settings.APFLOW_ENCRYPTION_KEYS = ["quite another one, which is long."]
    with pytest.raises(CannotUnseal):
        keys.open_all()


def test_a_sealed_value_opens_for_its_owner_and_name_only() -> None:
    keep()
    for moved in ({"user_id": "bob"}, {"name": "other"}, {"user_id": ""}):
        NamedSecret.objects.update(**{"user_id": "alice", "name": "token"} | moved)
        with pytest.raises(CannotUnseal):
            keys.open_all()


@pytest.mark.parametrize(
    ("host", "hosts", "may"),
    [
        ("a.example", [], True),
        ("A.example.", ["a.example"], True),
        ("b.a.example", ["a.example"], False),
        ("b.a.example", ["*.a.example"], True),
        ("c.b.a.example", ["*.a.example"], True),
        ("a.example", ["*.a.example"], False),
        ("xa.example", ["*.a.example"], False),
        ("a.example.evil", ["a.example", "*.a.example"], False),
        ("", ["a.example"], False),
        ("::1", ["::1"], True),
    ],
)
def test_a_host_is_one_of_its_hosts(host: str, hosts: list[str], may: bool) -> None:
    assert may_be_sent_to(host, hosts) is may
