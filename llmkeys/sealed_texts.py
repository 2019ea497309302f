"""Texts inside JSON that are encrypted where they are, as `sealed:<key id>:<token>`, each for its owner.

A text that only looks like one, or is another owner's, cannot be opened.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from llmkeys.cipher import CannotUnseal, fingerprint, is_newest, seal, unseal

PREFIX: Final = "sealed:"
SEALED: Final = re.compile(rf"{PREFIX}[0-9a-f]{{8}}:gAAAA[A-Za-z0-9_-]+={{0,2}}")


def may_contain(json_text: str) -> bool:
    """Return whether JSON, as a text, may have sealed texts in it."""
    return f'"{PREFIX}' in json_text


def is_sealed(value: object) -> bool:
    return isinstance(value, str) and value.startswith(PREFIX) and SEALED.fullmatch(value) is not None


def has_sealed(value: Any) -> bool:
    """Return whether a JSON value has a sealed text in it."""
    if isinstance(value, dict):
        return any(map(has_sealed, value.values()))
    return any(map(has_sealed, value)) if isinstance(value, list) else is_sealed(value)


def sealed(text: str, *, owner: str) -> str:
    """Encrypt a text for its owner."""
    return PREFIX + seal(text, context=_context(owner))


def opened(value: Any, *, owner: str) -> Any:
    """Return the JSON value with each sealed text decrypted. Raises CannotUnseal."""
    return mapped(value, lambda text: _opened(text, owner) if is_sealed(text) else text)


def opened_where_possible(value: Any, *, owner: str) -> Any:
    """Return the JSON value with each sealed text decrypted that can be."""

    def of(text: str) -> str:
        try:
            return _opened(text, owner) if is_sealed(text) else text
        except CannotUnseal:
            return text

    return mapped(value, of)


def resealed(value: Any, *, owner: str) -> Any:
    """Return the JSON value with the newest key used for each sealed text. Raises CannotUnseal."""

    def of(text: str) -> str:
        is_old = is_sealed(text) and not is_newest(text.removeprefix(PREFIX))
        return sealed(_opened(text, owner), owner=owner) if is_old else text

    return mapped(value, of)


def fingerprinted(value: Any, *, owner: str) -> Any:
    """Return the JSON value with a fingerprint for each sealed text: equal for equal texts, however often they were encrypted."""

    def of(text: str) -> str:
        if not is_sealed(text):
            return text
        try:
            return fingerprint(_opened(text, owner), context=_context(owner))
        except CannotUnseal:
            return text

    return mapped(value, of)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return the JSON value with each text changed."""
    if isinstance(value, dict):
        return {name: mapped(part, change) for name, part in value.items()}
    if isinstance(value, list):
        return [mapped(part, change) for part in value]
    return change(value) if isinstance(value, str) else value


def _opened(text: str, owner: str) -> str:
    return unseal(text.removeprefix(PREFIX), context=_context(owner))


def _context(owner: str) -> str:
    return json.dumps(["sealed_text", owner])
