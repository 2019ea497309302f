"""The outcome of an attempt at a task, and what of it can be stored."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from aipartnerupflow.executors import ExecutorError, Json, Stopped
from llmkeys.redact import mask_start
from tasks.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A terminal status with its result or its error. `stored` is the result as JSON text."""

    status: Status
    result: Any = None
    stored: bytes | None = None
    error: str | None = None
    token_usage: Json | None = None
    may_retry: bool = False
    retry_after_seconds: float | None = None


def completed(result: Any, *, max_bytes: int) -> Outcome:
    """Return a completed outcome.

    Raises ExecutorError if the result is not a JSON value or too large to store.
    """
    stored = stored_form(result, max_bytes=max_bytes)
    # Dependents get the stored form, so that they see the same before and after a restart.
    return Outcome(status=Status.COMPLETED, result=orjson.loads(stored), stored=stored)


def is_longer(result: Any, *, than: int) -> bool:
    """Whether the result has more bytes as JSON, found without encoding all of it.

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


def failed(error: str, *, may_retry: bool = False, retry_after_seconds: float | None = None) -> Outcome:
    return Outcome(
        status=Status.FAILED, error=storable(error), may_retry=may_retry, retry_after_seconds=retry_after_seconds
    )


def cancelled(error: str, *, stopped: Stopped | None = None, max_bytes: int) -> Outcome:
    """Return a cancelled outcome, with the executor's partial result if it can be stored."""
    if stopped is None:
        return Outcome(status=Status.CANCELLED, error=error)
    try:
        stored = stored_form(stopped.result, max_bytes=max_bytes)
    except ExecutorError:
        stored = None
    return Outcome(status=Status.CANCELLED, stored=stored, error=error, token_usage=stopped.token_usage)


def storable(text: str) -> str:
    """Mask keys in the text; replace NUL and lone surrogates, which some databases refuse."""
    return mask_start(text).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


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
    if b"\\u0000" in text and _contains(result, _is_text_with_nul):
        raise ExecutorError("The result contains the character NUL, which cannot be stored.", permanent=True)
    if b"null" in text and _contains(result, _is_not_finite):
        raise ExecutorError("The result contains NaN or Infinity, which JSON does not have.", permanent=True)
    return text


def too_long(what: str, max_bytes: int) -> ExecutorError:
    return ExecutorError(
        f"{what} than the {max_bytes} that limits.result_bytes allows. "
        "Store it elsewhere and return a reference, or raise the limit.",
        permanent=True,
    )


def _is_text_with_nul(value: Any) -> bool:
    return isinstance(value, str) and "\0" in value


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _contains(result: Any, is_bad: Any) -> bool:
    """Whether any value in the result is bad. Iterative: results may be nested deeply."""
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
