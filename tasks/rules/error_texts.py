"""The pattern of an error: its first line without what differs from run to run. Failures are grouped by it. Pure."""

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Final

LONGEST_LINE: Final = 500
"""The number of characters of an error that count."""
KEY_CHARACTERS: Final = 16
LONG_WORD: Final = 16
FEW_DIGITS: Final = 3
"""A word of LONG_WORD characters with letters and so many digits is an id."""
TRACEBACK: Final = "Traceback"
Replacement = str | Callable[[re.Match[str]], str]


def _id_or_word(found: re.Match[str]) -> str:
    word = found[0]
    digits = sum(map(str.isdigit, word))
    return "ID" if FEW_DIGITS <= digits < len(word) else word


REPLACED: Final[tuple[tuple[re.Pattern[str], Replacement], ...]] = (
    (re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://[^\s'\"`<>)\]}]+", re.IGNORECASE), "URL"),
    (re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+\.[\w.-]*\w"), "ADDRESS"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "ID"),
    (re.compile(r"(?<![\w/.~])(?:[A-Za-z]:\\|(?:\.{1,2}|~)?/)[^\s'\"`,;:()<>]+"), "PATH"),
    (re.compile(r"\b(?:0x[0-9a-f]+|(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,})\b", re.IGNORECASE), "ID"),
    (re.compile(rf"\b\w{{{LONG_WORD},}}\b"), _id_or_word),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "N"),
)
"""Parts and their replacements, in order: a URL has paths and numbers, and an id has digits."""


def first_line(error: str) -> str:
    """Return the line that names the error: the first one or, of a traceback, the last one."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    if not lines:
        return ""
    return lines[-1 if lines[0].startswith(TRACEBACK) else 0][:LONGEST_LINE]


def pattern_of(error: str) -> str:
    """Return the error with URLs, addresses, times, ids, paths and numbers replaced by words."""
    line = first_line(error)
    for part, replacement in REPLACED:
        line = part.sub(replacement, line)
    return " ".join(line.split())


def key_of(error: str) -> str:
    """Return the key of the group of an error: errors with the same pattern have the same."""
    return sha256(pattern_of(error).encode(errors="replace")).hexdigest()[:KEY_CHARACTERS]
