"""Map a provider's errors to messages that help and contain no secret.

A provider's own text is quoted only if it is about the request.
"""

from collections.abc import Mapping
from typing import Final

from aipartnerupflow.executors import ExecutorError
from aipartnerupflow.executors.http import wanted_wait_seconds

QUOTED_CHARACTERS: Final = 300
FEWEST_SECRET_CHARACTERS: Final = 6
HOW_TO_GIVE_A_KEY: Final = "Send one in the header X-LLM-API-KEY, or store one with config.llm_key.set; the operator may set it in the server's environment."


def problem(
    status: int | None, *, provider: str, model: str, headers: Mapping[str, str], said: str, key: str | None
) -> ExecutorError:
    """Return the error for a failed call.

    `status` None: there was no response. `key` must not be quoted.
    """
    retry_after_seconds = wanted_wait_seconds(headers.get("retry-after", ""))
    if status is None:
        return ExecutorError(
            f"{provider} could not be reached, or the connection was lost. Try again later, or check its address."
        )
    if status in (401, 403):
        return ExecutorError(
            f"{provider} refused the API key ({status}): it is wrong, or may not use {model}. {HOW_TO_GIVE_A_KEY}",
            permanent=True,
        )
    if status == 402:
        return ExecutorError(f"{provider} requires payment (402). Check the account of the key.", permanent=True)
    if status == 404:
        return ExecutorError(f"{provider} has no model {model} for this key (404). Check its name.", permanent=True)
    if status == 408:
        return ExecutorError(f"{provider} did not answer in time. Try again later.")
    if status == 429:
        return ExecutorError(
            f"{provider} limits the request rate, or the key's quota is used up (429). Try again later, or set params.retry.",
            retry_after_seconds=retry_after_seconds,
        )
    if status >= 500:
        return ExecutorError(
            f"{provider} had an internal error ({status}). Try again later, or set params.retry.",
            retry_after_seconds=retry_after_seconds,
        )
    return ExecutorError(f"{provider} refused the request to {model} ({status}){_quoted(said, key)}", permanent=True)


def _quoted(said: str, key: str | None) -> str:
    """Return the provider's text, unless it contains a part of the key."""
    text = " ".join(said.split())
    if not text or (key and _shares_a_part(text, key)):
        return ". Check the messages and options."
    return f": {text if len(text) <= QUOTED_CHARACTERS else f'{text[:QUOTED_CHARACTERS]}…'}"


def _shares_a_part(text: str, key: str) -> bool:
    length = min(FEWEST_SECRET_CHARACTERS, len(key))
    return any(key[start : start + length] in text for start in range(len(key) - length + 1))
