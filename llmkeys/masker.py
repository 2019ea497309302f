"""Mask the named secrets of a run in what comes back from its tasks, however a service writes them.

A masker knows the secrets of one run, and only texts of that run pass through it: masking the texts of
other runs would allow their owners to guess a secret, and its owner to blank out words in their texts.
"""

import base64
import html
import json
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

import orjson

from llmkeys.secret_forms import MOST_LINES, SHORTEST

MASK: Final = "…"
BETWEEN: Final = "\0"
"""Between texts that are masked together. No secret has it."""
LONG_LINE: Final = 16
"""Lines of a secret of several lines are masked by themselves from this length on."""


class TooManyLines(Exception):
    """The secrets of one run have too many lines to look for all of them."""


class Masker:
    """The secrets that one run has used so far. `size` is how many texts it looks for."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._forms: list[str] = []
        self._as_json: list[bytes] = []
        self.add(values)

    @property
    def size(self) -> int:
        return len(self._forms)

    def values_in(self, inputs: Any) -> list[str]:
        """Return the secrets in the inputs of a task, for the process that executes it."""
        if not self._values:
            return []
        text = orjson.dumps(inputs)
        return sorted(value for value in self._values if _in_json(value) in text)

    def add(self, values: Iterable[str]) -> None:
        """Raise TooManyLines; then none is added."""
        known = self._values | set(values)
        if known == self._values:
            return
        if sum(len(value.splitlines()) for value in known) > MOST_LINES:
            raise TooManyLines
        forms = {form for value in known for form in _forms(value) if len(form) >= SHORTEST}
        self._values = known
        self._forms = sorted(forms, key=lambda form: (-len(form), form))  # one may contain another
        self._as_json = [_in_json(form) for form in self._forms]

    def text(self, text: str) -> str:
        """Return the text with `…` for each secret in it."""
        return self._masked([text])[0] if self._forms else text

    def json(self, value: Any) -> Any:
        """Return the JSON value with `…` for each secret in its texts, names and numbers."""
        if not self._forms:
            return value
        return _with_texts(value, iter(self._masked(list(_texts_in(value)))))

    def stored(self, text: bytes) -> bytes:
        """Return the JSON text with `…` for each secret."""
        if not self._forms or (b"%" not in text and all(form not in text for form in self._as_json)):
            return text
        value = orjson.loads(text)
        masked = self.json(value)
        return text if masked == value else orjson.dumps(masked)

    def _masked(self, texts: Sequence[str]) -> list[str]:
        """Mask all texts at once: a result may have a hundred thousand, and a run a thousand forms.

        A text in which a secret is found only once it is decoded as a URL becomes the decoded one:
        clients and servers quote different characters.
        """
        masked = self._replaced(texts)
        quoted = [index for index, text in enumerate(masked) if "%" in text]
        decoded = [unquote(masked[index]) for index in quoted]
        for index, before, after in zip(quoted, decoded, self._replaced(decoded), strict=True):
            masked[index] = masked[index] if before == after else after
        return masked

    def _replaced(self, texts: Sequence[str]) -> list[str]:
        if any(BETWEEN in text for text in texts):
            return [self._replaced_in(text) for text in texts]
        return self._replaced_in(BETWEEN.join(texts)).split(BETWEEN) if texts else []

    def _replaced_in(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, MASK)
        return text


MASKER: Final[ContextVar[Masker | None]] = ContextVar("masker of the run", default=None)
"""The masker of the run for which the current code works, for its log lines."""


def masked_here(text: str) -> str:
    """Mask the secrets of the run for which the current code works."""
    masker = MASKER.get()
    return text if masker is None else masker.text(text)


def _texts_in(value: Any) -> Iterator[str]:
    """Yield the texts, names and numbers in a JSON value."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts_in(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts_in(item)
        case bool() | None:
            return
        case _:
            yield str(value)


def _with_texts(value: Any, texts: Iterator[str]) -> Any:
    """Return the JSON value with other texts, in the order of `_texts_in`; a number whose text has changed becomes the text."""
    match value:
        case str():
            return next(texts)
        case list():
            return [_with_texts(item, texts) for item in value]
        case dict():
            return {next(texts): _with_texts(item, texts) for item in value.values()}
        case bool() | None:
            return value
        case _:
            return value if (text := next(texts)) == str(value) else text


def _forms(value: str) -> Iterator[str]:
    """Yield the forms in which services return a text."""
    value = value.strip()
    yield from (value, _in_json(value).decode(), json.dumps(value)[1:-1], html.escape(value))
    yield from (quote(value), quote(value, safe=""), quote_plus(value))
    for line in map(str.strip, value.splitlines()):
        if len(line) >= LONG_LINE:
            yield from (line, _in_json(line).decode())
    for each in (value.upper(), value.lower(), value[::-1]):
        yield from (each, _in_json(each).decode())
    data = value.encode()
    yield from (data.hex(), data.hex().upper())
    for name in ("&#{};", "&#x{:x};", "&#x{:X};"):
        yield "".join(name.format(ord(character)) for character in value)
    for offset in range(3):
        core = _base64_core(data, offset)
        yield core
        yield core.translate(URL_SAFE)
    for offset in range(5):
        core = _base32_core(data, offset)
        yield from (core, core.lower())


def _in_json(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]


URL_SAFE: Final = str.maketrans("+/", "-_")


def _base64_core(value: bytes, offset: int) -> str:
    """Return the characters that the value always has in Base64 when `offset` bytes of a group of three precede it.

    So `user:password` in a Basic header is recognized by the password.
    """
    start = (offset * 8 + 5) // 6
    end = (offset + len(value)) * 8 // 6
    return base64.b64encode(bytes(offset) + value).decode()[start:end]


def _base32_core(value: bytes, offset: int) -> str:
    """Return the characters that the value always has in Base32 when `offset` bytes of a group of five precede it."""
    start = (offset * 8 + 4) // 5
    end = (offset + len(value)) * 8 // 5
    return base64.b32encode(bytes(offset) + value).decode()[start:end]
