"""Users' keys, in each store: kept sealed, found by their owner only, sealed anew when the operator's key changes."""

from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import Settings
from redis import Redis

from llmkeys import keys
from llmkeys.cipher import CannotUnseal
from llmkeys.models import LLMKey
from llmkeys.providers import MalformedKey, UnknownProvider
from llmkeys.secret import Secret
from llmkeys.stores import MemoryStore, key_store

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db]

FIRST, SECOND = Secret("sk-first-canary-0001"), Secret("sk-second-canary-0002")
OLD, NEW = "an old key, long enough to be one", "a new key, long enough to be one."


def test_a_key_comes_back_for_its_owner_and_its_provider_only(store: str) -> None:
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    assert keys.get_key(user_id="alice", provider="OpenAI") == FIRST
    assert keys.get_key(user_id="alice", provider="anthropic") is None
    assert keys.get_key(user_id="bob", provider="openai") is None
    assert keys.list_keys(user_id="bob") == []


def test_google_and_gemini_are_one(store: str) -> None:
    keys.set_key(user_id="alice", provider="google", key=FIRST)
    assert keys.get_key(user_id="alice", provider="gemini") == FIRST


def test_a_second_key_takes_the_place_of_the_first(store: str) -> None:
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    keys.use_key(user_id="alice", provider="openai")
    keys.set_key(user_id="alice", provider="openai", key=SECOND)
    [stored] = keys.list_keys(user_id="alice")
    assert (stored.provider, stored.last_four, stored.used_at) == ("openai", "0002", None)
    assert keys.get_key(user_id="alice", provider="openai") == SECOND


def test_keys_are_listed_by_provider_and_without_themselves(store: str) -> None:
    for provider in ("openai", "anthropic", "groq"):
        keys.set_key(user_id="alice", provider=provider, key=FIRST)
    found = keys.list_keys(user_id="alice")
    assert [key.provider for key in found] == ["anthropic", "groq", "openai"]
    assert "canary" not in repr(found)
    assert abs(datetime.now(UTC) - found[0].created_at) < timedelta(minutes=1)


def test_a_use_is_noted_once_a_minute(store: str) -> None:
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    assert keys.use_key(user_id="alice", provider="openai") == FIRST
    [first] = keys.list_keys(user_id="alice")
    assert keys.use_key(user_id="alice", provider="openai") == FIRST
    [second] = keys.list_keys(user_id="alice")
    assert first.used_at is not None
    assert second.used_at == first.used_at
    key_store().change(second, used_at=datetime.now(UTC) - timedelta(minutes=2))
    keys.use_key(user_id="alice", provider="openai")
    assert (keys.list_keys(user_id="alice")[0].used_at or first.used_at) >= first.used_at


def test_a_deleted_key_is_gone(store: str) -> None:
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    assert keys.delete_key(user_id="bob", provider="openai") is False
    assert keys.delete_key(user_id="alice", provider="openai") is True
    assert keys.delete_key(user_id="alice", provider="openai") is False
    assert keys.get_key(user_id="alice", provider="openai") is None


def test_clearing_takes_all_keys_of_one_user(store: str) -> None:
    for user_id, provider in (("alice", "openai"), ("alice", "groq"), ("bob", "groq")):
        keys.set_key(user_id=user_id, provider=provider, key=FIRST)
    assert keys.clear_keys(user_id="alice") == 2
    assert keys.list_keys(user_id="alice") == []
    assert keys.get_key(user_id="bob", provider="groq") == FIRST


def test_no_store_holds_the_key_itself(store: str, valkey: str) -> None:
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    redis = Redis.from_url(valkey)
    rows = [*LLMKey.objects.values(), *(redis.hgetall(name) for name in redis.scan_iter())]
    kept = key_store()
    held = vars(kept)["_keys"] if isinstance(kept, MemoryStore) else rows
    assert len(held) == 1
    assert "canary" not in repr(held)


@pytest.mark.parametrize(
    ("provider", "key", "error"),
    [
        ("opnai", "k", UnknownProvider),
        ("", "k", UnknownProvider),
        ("openai", "", MalformedKey),
        ("openai", "two words", MalformedKey),
    ],
)
def test_what_cannot_be_kept_is_refused(store: str, provider: str, key: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        keys.set_key(user_id="alice", provider=provider, key=Secret(key))
    assert keys.list_keys(user_id="alice") == []


def test_rotation_seals_all_anew_so_that_the_old_key_can_go(store: str, settings: Settings) -> None:
    settings.APFLOW_ENCRYPTION_KEYS = (OLD,)
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    keys.set_key(user_id="bob", provider="groq", key=SECOND)
    settings.APFLOW_ENCRYPTION_KEYS = (NEW, OLD)
    assert keys.rotate() == 2
    assert keys.rotate() == 0
    settings.APFLOW_ENCRYPTION_KEYS = (NEW,)
    assert keys.get_key(user_id="alice", provider="openai") == FIRST
    assert keys.get_key(user_id="bob", provider="groq") == SECOND


def test_a_key_that_cannot_be_opened_any_more_says_so(store: str, settings: Settings) -> None:
    settings.APFLOW_ENCRYPTION_KEYS = (OLD,)
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    settings.APFLOW_ENCRYPTION_KEYS = (NEW,)
    with pytest.raises(CannotUnseal, match=r"llm\.encryption_keys"):
        keys.get_key(user_id="alice", provider="openai")
    with pytest.raises(CannotUnseal):
        keys.rotate()


def test_a_change_of_a_key_that_was_replaced_meanwhile_does_nothing(store: str) -> None:
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    [read] = keys.list_keys(user_id="alice")
    keys.set_key(user_id="alice", provider="openai", key=SECOND)
    assert key_store().change(read, sealed="as it was") is False
    assert keys.get_key(user_id="alice", provider="openai") == SECOND
    keys.delete_key(user_id="alice", provider="openai")
    assert key_store().change(read, sealed="as it was") is False
    assert keys.list_keys(user_id="alice") == []


def test_the_ciphertext_of_another_user_opens_for_nobody_else(store: str) -> None:
    keys.set_key(user_id="alice", provider="openai", key=FIRST)
    keys.set_key(user_id="mallory", provider="openai", key=SECOND)
    [alices], [mallorys] = keys.list_keys(user_id="alice"), keys.list_keys(user_id="mallory")
    key_store().change(mallorys, sealed=alices.sealed)
    with pytest.raises(CannotUnseal):
        keys.get_key(user_id="mallory", provider="openai")
