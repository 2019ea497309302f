"""Encrypt what must be stored: LLM keys, tokens, secrets of webhooks.

Each context has its own keys, derived from the operator's. A text that was encrypted as
`llm_key:alice:openai` does not decrypt in another context, so a ciphertext that is moved to another
row is useless.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

KEY_ID_CHARACTERS: Final = 8


class CannotUnseal(Exception):
    """A ciphertext cannot be decrypted.

    The message says why, and contains neither the text nor the ciphertext.
    """


def seal(text: str, *, context: str) -> str:
    """Encrypt a text with the newest key.

    Returns `<key id>:<token>`, about 4/3 as long as the text plus 110 characters.
    """
    return f"{_key_ids()[0]}:{_fernet(context).encrypt(text.encode()).decode()}"


def unseal(sealed: str, *, context: str) -> str:
    """Decrypt a text with the key that encrypted it. Raises CannotUnseal."""
    key_id, _, token = sealed.partition(":")
    if key_id not in _key_ids():
        raise CannotUnseal(
            f"It was encrypted with the key {key_id!r}, which this process does not have. Every machine needs the same "
            "llm.encryption_keys; keep an old key at the end of that list until `aipartnerupflow keys rotate` has run."
        )
    try:
        return _fernet(context).decrypt(token).decode()
    except InvalidToken:
        raise CannotUnseal("It was encrypted for another purpose or owner, or it is damaged.") from None


def fingerprint(text: str, *, context: str) -> str:
    """Return 64 characters that are the same for the same text in the same context, and say nothing about it without the keys."""
    return hmac.new(_derived(_secrets()[0], f"fingerprint:{context}"), text.encode(), hashlib.sha256).hexdigest()


def is_newest(sealed: str) -> bool:
    """Return whether the newest key encrypted it.

    If not, encrypt it again, so that the old key can be removed.
    """
    return sealed.partition(":")[0] == _key_ids()[0]


def _secrets() -> Sequence[str]:
    """Return the operator's keys, newest first."""
    secrets: Sequence[str] = settings.APFLOW_ENCRYPTION_KEYS
    return secrets


def _key_ids() -> list[str]:
    return [_key_id(secret) for secret in _secrets()]


@lru_cache(maxsize=64)
def _key_id(secret: str) -> str:
    return _derived(secret, "key id").hex()[:KEY_ID_CHARACTERS]


def _fernet(context: str) -> MultiFernet:
    return _fernet_of(tuple(_secrets()), context)


@lru_cache(maxsize=64)
def _fernet_of(secrets: tuple[str, ...], context: str) -> MultiFernet:
    return MultiFernet([Fernet(urlsafe_b64encode(_derived(secret, f"seal:{context}"))) for secret in secrets])


def _derived(secret: str, purpose: str) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret.encode())
