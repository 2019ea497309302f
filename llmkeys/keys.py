"""What a user does with the keys that they keep here. Everything is sealed before it is stored; only a worker opens it."""

import json
from datetime import UTC, datetime

from llmkeys import run_secrets
from llmkeys.cipher import is_newest, seal, unseal
from llmkeys.header import checked_key
from llmkeys.providers import provider_named
from llmkeys.secret import Secret
from llmkeys.signals import key_is_set
from llmkeys.stores import StoredKey, key_store


def set_key(*, user_id: str, provider: str, key: Secret) -> StoredKey:
    """Keep a key in the place of an earlier one. Raises UnknownProvider or MalformedKey."""
    provider = provider_named(provider)
    stored = StoredKey(
        user_id=user_id,
        provider=provider,
        sealed=seal(checked_key(key).reveal(), context=_context(user_id, provider)),
        last_four=key.last_four,
        created_at=datetime.now(UTC),
    )
    key_store().put(stored)
    key_is_set.send(None, user_id=user_id)
    return stored


def get_key(*, user_id: str, provider: str) -> Secret | None:
    """The key itself, or None. Raises CannotUnseal."""
    stored = key_store().get(user_id, provider_named(provider))
    return None if stored is None else _opened(stored)


def use_key(*, user_id: str, provider: str) -> Secret | None:
    """The same, and note that it was used."""
    stored = key_store().get(user_id, provider)
    if stored is None:
        return None
    key = _opened(stored)
    if not stored.is_used_now():
        key_store().change(stored, used_at=datetime.now(UTC))
    return key


def list_keys(*, user_id: str) -> list[StoredKey]:
    """What a user has, by provider."""
    return key_store().of_user(user_id)


def delete_key(*, user_id: str, provider: str) -> bool:
    """False: there was none."""
    return key_store().delete(user_id, provider_named(provider))


def clear_keys(*, user_id: str) -> int:
    """Delete all keys of a user. Returns how many there were."""
    return sum(key_store().delete(user_id, key.provider) for key in key_store().of_user(user_id))


def open_all() -> int:
    """Whether every stored key opens: how many they are. Raises CannotUnseal."""
    return len([_opened(key) for key in key_store().all()]) + run_secrets.open_all()


def rotate() -> int:
    """Seal anew, with the newest key, whatever an older one sealed. Returns how much that was.

    Safe beside running servers, and to repeat: what somebody changes meanwhile is sealed with the newest key anyway. Raises CannotUnseal.
    """
    return len([key for key in key_store().all() if _rotate(key)]) + run_secrets.rotate()


def _rotate(key: StoredKey) -> bool:
    if is_newest(key.sealed):
        return False
    context = _context(key.user_id, key.provider)
    return key_store().change(key, sealed=seal(unseal(key.sealed, context=context), context=context))


def _opened(key: StoredKey) -> Secret:
    return Secret(unseal(key.sealed, context=_context(key.user_id, key.provider)))


def _context(user_id: str, provider: str) -> str:
    return json.dumps(["llm_key", user_id, provider])
