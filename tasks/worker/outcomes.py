"""The outcome of an attempt at a task."""

from dataclasses import dataclass
from typing import Any

import orjson

from aipartnerupflow.executors import ExecutorError, Json, Spawn, Stopped
from llmkeys.redact import mask_start
from tasks.executors.llm.conversations import Turn
from tasks.rules.stored_results import stored_form
from tasks.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A terminal status with its result or its error. `stored` is the result as JSON text.

    `spawn`: the tasks that are added to the tree before that. `turn`: what the task said in a conversation, stored with its end.
    """

    status: Status
    result: Any = None
    stored: bytes | None = None
    error: str | None = None
    token_usage: Json | None = None
    may_retry: bool = False
    retry_after_seconds: float | None = None
    spawn: Spawn | None = None
    turn: Turn | None = None


def completed(result: Any, *, max_bytes: int) -> Outcome:
    """Return a completed outcome.

    Raises ExecutorError if the result is not a JSON value or too large to store.
    """
    stored = stored_form(result, max_bytes=max_bytes)
    # Dependents get the stored form, so that they see the same before and after a restart.
    return Outcome(status=Status.COMPLETED, result=orjson.loads(stored), stored=stored)


def failed(error: str, *, may_retry: bool = False, retry_after_seconds: float | None = None) -> Outcome:
    return Outcome(
        status=Status.FAILED, error=storable(error), may_retry=may_retry, retry_after_seconds=retry_after_seconds
    )


def skipped(reason: str) -> Outcome:
    return Outcome(status=Status.SKIPPED, error=storable(reason))


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
