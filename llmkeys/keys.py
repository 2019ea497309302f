"""Manage the users' stored LLM keys.

They are encrypted before they are stored; only workers decrypt them.
"""

import json
from datetime import UTC, datetime

from llmkeys import named_secrets, run_secrets
from llmkeys.cipher import is_newest, seal, unseal
from llmkeys.providers import checked_key, provider_named
from llmkeys.secret import Secret
from llmkeys.signals import key_is_set
from llmkeys.stores import StoredKey, key_store


def set_key(*, user_id: str, provider: str, key: Secret) -> StoredKey:
    """Store a key, replacing an earlier one. Raises UnknownProvider or MalformedKey."""
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
    """Return the decrypted key, or None. Raises CannotUnseal."""
    stored = key_store().get(user_id, provider_named(provider))
    return None if stored is None else _decrypted(stored)


def use_key(*, user_id: str, provider: str) -> Secret | None:
    """Return the decrypted key, or None, and record the use. Raises CannotUnseal."""
    stored = key_store().get(user_id, provider)
    if stored is None:
        return None
    key = _decrypted(stored)
    if not stored.is_used_now():
        key_store().change(stored, used_at=datetime.now(UTC))
    return key


def list_keys(*, user_id: str) -> list[StoredKey]:
    """Return a user's keys, by provider."""
    return key_store().of_user(user_id)


def delete_key(*, user_id: str, provider: str) -> bool:
    """Delete a key. False: there was none."""
    return key_store().delete(user_id, provider_named(provider))


def clear_keys(*, user_id: str) -> int:
    """Delete all keys of a user. Returns their number."""
    return sum(key_store().delete(user_id, key.provider) for key in key_store().of_user(user_id))


def open_all() -> int:
    """Decrypt every stored key and secret, as a check. Returns their number. Raises CannotUnseal."""
    keys = [_decrypted(key) for key in key_store().all()]
    return len(keys) + run_secrets.open_all() + named_secrets.open_all()


def rotate() -> int:
    """Encrypt keys and secrets again that an older encryption key encrypted. Returns their number.

    Safe while servers run, and to repeat: a key that changes meanwhile is encrypted with the newest
    encryption key anyway. Raises CannotUnseal.
    """
    count = 0
    for key in key_store().all():
        if not is_newest(key.sealed):
            context = _context(key.user_id, key.provider)
            count += key_store().change(key, sealed=seal(unseal(key.sealed, context=context), context=context))
    return count + run_secrets.rotate() + named_secrets.rotate()


def _decrypted(key: StoredKey) -> Secret:
    return Secret(unseal(key.sealed, context=_context(key.user_id, key.provider)))


def _context(user_id: str, provider: str) -> str:
    return json.dumps(["llm_key", user_id, provider])
