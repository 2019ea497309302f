"""`X-LLM-API-KEY`: a key that comes with a request and is good for one run (contract, section 6)."""

import re
from dataclasses import dataclass
from typing import Final

from llmkeys.providers import UnknownProvider, provider_named
from llmkeys.secret import Secret

HEADER: Final = "X-LLM-API-KEY"
MAX_CHARACTERS: Final = 4096
FORM: Final = "send '<key>' or '<provider>:<key>'"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentKey:
    """What the header says. Without a `provider` the key is meant for the one that the run's models have."""

    provider: str | None
    key: Secret


class MalformedKey(Exception):
    """The header, or a key that is to be stored, cannot be one. `message` says why without showing it."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


def parse_header(value: Secret) -> SentKey:
    """Raises MalformedKey."""
    provider, colon, rest = value.reveal().strip().partition(":")
    if not colon:
        return SentKey(provider=None, key=checked_key(Secret(provider)))
    try:
        return SentKey(provider=provider_named(provider), key=checked_key(Secret(rest.strip())))
    except UnknownProvider as unknown:
        # Not repeated: it may be the beginning of a key.
        raise MalformedKey(f"what stands before the colon is {unknown.message} Or {FORM}") from None


def checked_key(key: Secret) -> Secret:
    """The key, if it can be one. Raises MalformedKey."""
    text = key.reveal()
    if not text:
        raise MalformedKey(f"holds no key: {FORM}")
    if len(text) > MAX_CHARACTERS:
        raise MalformedKey(f"has more than {MAX_CHARACTERS:,} characters: {FORM}")
    if not re.fullmatch("[!-~]+", text):
        raise MalformedKey(f"holds a space or a character that no key has: {FORM}")
    return key
