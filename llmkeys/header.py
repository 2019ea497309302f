"""The header `X-LLM-API-KEY`: a key sent with a request, for one run."""

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
    """The parsed header. Without a `provider` the key is for the provider of the run's models."""

    provider: str | None
    key: Secret


class MalformedKey(Exception):
    """The header, or a key to store, is invalid. `message` says why, without the key."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


def parse_header(value: Secret) -> SentKey:
    """Parse the header. Raises MalformedKey."""
    provider, colon, rest = value.reveal().strip().partition(":")
    if not colon:
        return SentKey(provider=None, key=checked_key(Secret(provider)))
    try:
        return SentKey(provider=provider_named(provider), key=checked_key(Secret(rest.strip())))
    except UnknownProvider as unknown:
        # The text is not repeated: it may be the beginning of a key.
        raise MalformedKey(f"the text before the colon is {unknown.message} Or {FORM}") from None


def checked_key(key: Secret) -> Secret:
    """Return the key if its form is valid. Raises MalformedKey."""
    text = key.reveal()
    if not text:
        raise MalformedKey(f"is empty: {FORM}")
    if len(text) > MAX_CHARACTERS:
        raise MalformedKey(f"has more than {MAX_CHARACTERS:,} characters: {FORM}")
    if not re.fullmatch("[!-~]+", text):
        raise MalformedKey(f"has a space or another character that keys cannot have: {FORM}")
    return key
