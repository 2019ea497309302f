"""Formats of the texts in a form: the four that MCP has too. Pure."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

EMAIL: Final = re.compile(r"[^\s@<>\"]{1,64}@[^\s@<>\"]{1,254}")
MOST_CHARACTERS: Final = 2_000
"""The greatest length of a text in one of these formats."""


def fault_of_format(name: Any, text: Any) -> str | None:
    """Describe, as the rest of a sentence, why the text does not have the format; None if it has, or if it is no text."""
    if not isinstance(text, str):
        return None
    is_fit, what = FORMATS[name]
    return None if len(text) <= MOST_CHARACTERS and is_fit(text) else f"must be {what}"


def _is_date(text: str) -> bool:
    return len(text) == len("2027-01-31") and _is_read(date.fromisoformat, text)


def _is_time(text: str) -> bool:
    """Return whether it is a date, a time and a zone."""
    return (
        "T" in text.upper()
        and _is_read(datetime.fromisoformat, text)
        and datetime.fromisoformat(text).tzinfo is not None
    )


def _is_uri(text: str) -> bool:
    if any(character.isspace() or not character.isprintable() for character in text) or not _is_read(urlsplit, text):
        return False
    parts = urlsplit(text)
    return bool(parts.scheme and (parts.netloc or parts.path))


def _is_read(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


FORMATS: Final[Mapping[str, tuple[Callable[[str], bool], str]]] = MappingProxyType(
    {
        "email": (lambda text: EMAIL.fullmatch(text) is not None, "an e-mail address"),
        "uri": (_is_uri, "a URL with its scheme, such as https://example.com/"),
        "date": (_is_date, "a date, such as 2027-01-31"),
        "date-time": (_is_time, "a time with its zone, such as 2027-01-31T09:00:00+01:00"),
    }
)
"""The name of each, the check of a text, and what the text must be."""
