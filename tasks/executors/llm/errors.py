"""Map a provider's errors to messages that help and contain no secret.

A provider's own text is quoted only if it is about the request.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import orjson

from aipartnerupflow.executors import ExecutorError
from aipartnerupflow.executors.http import wanted_wait_seconds
from tasks.executors.llm.fallbacks import (
    CONNECTION,
    CONTEXT_LENGTH,
    RATE_LIMIT,
    REFUSAL,
    SERVER_ERROR,
    TIMEOUT,
    ModelError,
)
from tasks.executors.llm.prompt import Completion
from tasks.executors.llm.wire import Wire

QUOTED_CHARACTERS: Final = 300
FEWEST_SECRET_CHARACTERS: Final = 6
TRY_AGAIN: Final = "Try again later, or set params.retry."
#: The key's account has no money left: another attempt will not help.
QUOTA_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
#: What a provider calls an error within a stream that is the fault of the request.
FINAL_CODES: Final = frozenset(
    """
    authentication_error content_filter content_policy_violation context_length_exceeded invalid_api_key invalid_prompt
    invalid_request_error model_not_found not_found_error permission_error request_too_large
    """.split()
)
KINDS_OF_CODES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "context_length_exceeded": CONTEXT_LENGTH,
        "request_too_large": CONTEXT_LENGTH,
        "content_filter": REFUSAL,
        "content_policy_violation": REFUSAL,
        "rate_limit_error": RATE_LIMIT,
        "rate_limit_exceeded": RATE_LIMIT,
        "RESOURCE_EXHAUSTED": RATE_LIMIT,
    }
)
TOO_LARGE: Final = 413
HOW_TO_GIVE_A_KEY: Final = "Send one in the header X-LLM-API-KEY, or store one with config.llm_key.set; the operator may set it in the server's environment."


def problem(
    status: int | None,
    *,
    provider: str,
    model: str,
    headers: Mapping[str, str],
    said: str,
    key: str | None,
    code: str = "",
    kind: str = "",
) -> ModelError:
    """Return the error for a failed call.

    `status` None: there was no response. `code` is the provider's word for the error, and `kind` one of KINDS if it is
    known otherwise. `key` must not be quoted.
    """
    kind = kind or KINDS_OF_CODES.get(code, "")
    milliseconds = headers.get("retry-after-ms", "").strip()  # of OpenAI and Azure, and more exact
    if milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) < 12:
        retry_after_seconds: float | None = int(milliseconds) / 1000
    else:
        retry_after_seconds = wanted_wait_seconds(headers.get("retry-after", ""))
    if code in QUOTA_CODES:
        return ModelError(
            f"The quota of the key for {provider} is used up ({code}). Check its plan and billing.",
            kind=RATE_LIMIT,
            permanent=True,
        )
    if status is None:
        return ModelError(
            f"{provider} could not be reached, or the connection was lost. Try again later, or check its address.",
            kind=kind or CONNECTION,
        )
    if status in (401, 403):
        return ModelError(
            f"{provider} refused the API key ({status}): it is wrong, or may not use {model}. {HOW_TO_GIVE_A_KEY}",
            permanent=True,
        )
    if status == 402:
        return ModelError(f"{provider} requires payment (402). Check the account of the key.", permanent=True)
    if status == 404:
        return ModelError(f"{provider} has no model {model} for this key (404). Check its name.", permanent=True)
    if status == 408:
        return ModelError(f"{provider} did not answer in time. Try again later.", kind=TIMEOUT)
    if status == 429:
        return ModelError(
            f"{provider} limits the request rate, or the key's quota is used up (429). Try again later, or set params.retry.",
            kind=RATE_LIMIT,
            retry_after_seconds=retry_after_seconds,
        )
    if status >= 500:
        return ModelError(
            f"{provider} had an internal error ({status}). Try again later, or set params.retry.",
            kind=kind or SERVER_ERROR,
            retry_after_seconds=retry_after_seconds,
        )
    kind = kind or (CONTEXT_LENGTH if status == TOO_LARGE else "")
    text = f"{provider} refused the request to {model} ({status}){_quoted(said, key)}"
    return ModelError(text, kind=kind, permanent=True)


def fault_of(answer: Completion | None, wire: Wire, *, provider: str, model: str, key: str | None) -> ModelError | None:
    """Return the error for a response that is no answer, or None.

    `answer` None: the call failed in another way, which is the error unless the response says more.
    """
    if wire.is_deaf:
        return ModelError(
            f"{model} takes no audio. Leave the part input_audio out, or use another model.", permanent=True
        )
    if (wire.status or 0) >= 400:
        return None
    if wire.error:
        return _error_within(wire, provider=provider, model=model, key=key)
    if wire.stray and (answer is None or not wire.is_done):
        what = (
            "an answer that cannot be read"
            if wire.has_known_format
            else f"no answer ({wire.content_type or 'no type'})"
        )
        return ModelError(f"{provider} sent {what}{_quoted(wire.stray, key, f'. {TRY_AGAIN}')}", kind=CONNECTION)
    if wire.is_cut:
        text = f"The connection to {provider} was lost in the middle of the answer. {TRY_AGAIN}"
        return ModelError(text, kind=CONNECTION)
    if wire.refusal:
        text = f"{model} refused to answer{_quoted(wire.refusal, key, '.')}"
        return ModelError(text, kind=REFUSAL, permanent=True)
    if answer is None:
        return None
    if answer.finish_reason == "content_filter":
        return ModelError(
            f"The content filter of {provider} withheld the answer (finish_reason: content_filter). Change the messages.",
            kind=REFUSAL,
            permanent=True,
        )
    if not answer.content and not answer.tool_calls:
        reason = f" (finish_reason: {answer.finish_reason})" if answer.finish_reason and wire.frames else ""
        return ModelError(f"{model} returned an empty answer{reason}. {TRY_AGAIN}", kind=CONNECTION)
    return None


def not_taken(model: str, names: Sequence[str]) -> ExecutorError:
    """Return the error for parameters that the model does not take."""
    listed = ", ".join(names)
    return ExecutorError(
        f"{model} does not take {listed}. Leave {'it' if len(names) == 1 else 'them'} out, or use another model.",
        permanent=True,
    )


def code_in(body: bytes) -> str:
    """Return the provider's word for the error in the body of a response, such as `insufficient_quota`."""
    try:
        said: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return _code_of(said.get("error")) if isinstance(said, dict) else ""


def _code_of(error: Any) -> str:
    words = [error.get(name) for name in ("code", "type", "status")] if isinstance(error, dict) else []
    texts = [word for word in words if isinstance(word, str)]
    return next((text for text in texts if text in QUOTA_CODES), texts[0] if texts else "")


def _error_within(wire: Wire, *, provider: str, model: str, key: str | None) -> ModelError:
    """Return the error for one that came instead of an answer or within it, with a status of success."""
    error: Any = wire.error
    said = error.get("message") if isinstance(error, dict) else error
    status = error.get("code") if isinstance(error, dict) else None
    code = _code_of(error)
    if code in QUOTA_CODES or (isinstance(status, int) and 400 <= status < 600):
        known = status if isinstance(status, int) else 429
        return problem(
            known, provider=provider, model=model, headers=wire.headers, said=str(said or ""), key=key, code=code
        )
    when = "in the middle of its answer" if wire.frames > 1 else "instead of an answer"
    name = f" ({code})" if code and not (key and _shares_a_part(code, key)) else ""
    is_final = code in FINAL_CODES
    return ModelError(
        f"{provider} reported an error {when}{name}{_quoted(str(said or ''), key, f'. {TRY_AGAIN}')}",
        kind=KINDS_OF_CODES.get(code, "" if is_final else SERVER_ERROR),
        permanent=is_final,
    )


def _quoted(said: str, key: str | None, otherwise: str = ". Check the messages and options.") -> str:
    """Return the provider's text, unless it contains a part of the key."""
    text = " ".join(said.split())
    if not text or (key and _shares_a_part(text, key)):
        return otherwise
    return f": {text if len(text) <= QUOTED_CHARACTERS else f'{text[:QUOTED_CHARACTERS]}…'}"


def _shares_a_part(text: str, key: str) -> bool:
    length = min(FEWEST_SECRET_CHARACTERS, len(key))
    return any(key[start : start + length] in text for start in range(len(key) - length + 1))
