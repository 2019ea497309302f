"""The part of an executor's result that can be stored, and its form. Pure."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from aipartnerupflow.executors import ExecutorError
from tasks.rules.files import MARK, VALUE_MARK

MOST_FILES = 1_000
"""The files that one result may name: each is a row to look up."""


def is_longer(result: Any, *, than: int) -> bool:
    """Return whether the result has more bytes as JSON, found without encoding all of it.

    A result may consist of those of many dependencies, a hundred times larger than allowed.
    """
    length = 0
    try:
        for part in _parts(result, levels=2):
            length += 1 + len(orjson.dumps(part))
            if length > than:
                return True
    except TypeError:  # `stored_form` describes what is not JSON
        return False
    return False


def _parts(value: Any, *, levels: int) -> Iterator[Any]:
    """Yield the values in an object or list, and in those inside it."""
    if levels and isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _parts(item, levels=levels - 1)
    else:
        yield value


def stored_form(result: Any, *, max_bytes: int) -> bytes:
    """Return the result as JSON text that every database accepts.

    Raises ExecutorError with the reason if it cannot.
    """
    try:
        text = orjson.dumps(result)
    except TypeError as error:
        raise ExecutorError(f"The result is not a JSON value: {error}.", permanent=True) from error
    if len(text) > max_bytes:
        raise too_long(f"The result has {len(text)} bytes, more", max_bytes)
    if MARK in text and text.count(MARK) - text.count(VALUE_MARK) > MOST_FILES:
        raise ExecutorError(f"The result names more than {MOST_FILES:,} files.", permanent=True)
    if b"\\u0000" in text and _contains(result, lambda value: isinstance(value, str) and "\0" in value):
        raise ExecutorError("The result contains the character NUL, which cannot be stored.", permanent=True)
    if b"null" in text and _contains(result, lambda value: isinstance(value, float) and not math.isfinite(value)):
        raise ExecutorError("The result contains NaN or Infinity, which JSON does not have.", permanent=True)
    return text


def too_long(what: str, max_bytes: int) -> ExecutorError:
    return ExecutorError(
        f"{what} than the {max_bytes} that limits.value_bytes and limits.result_bytes allow. "
        "Save it as a file and return that, or raise the limit.",
        permanent=True,
    )


def _contains(result: Any, is_bad: Callable[[Any], bool]) -> bool:
    """Return whether any value in the result is bad. Iterative: results may be nested deeply."""
    left = [result]
    while left:
        value = left.pop()
        if is_bad(value):
            return True
        if isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple):
            left += value
    return False
