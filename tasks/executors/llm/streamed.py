"""The chunks of one streamed answer, kept small: a provider sends one for each token.

Imports nothing of LiteLLM, whose chunks look like OpenAI's.
"""

from copy import deepcopy
from typing import Any, Final

from aipartnerupflow.executors import ExecutorError

MAX_PARTS: Final = 20_000
"""The number of chunks that an answer may have besides text: parts of tool calls."""

JOINED_AT_ONCE: Final = 20_000
"""Up to how many characters an answer is joined on the event loop."""


class Streamed:
    """Joins the texts as they come and keeps one chunk for all of them, since each takes kilobytes.

    `max_characters` limits the text. An answer that was not streamed is `whole`.
    """

    def __init__(self, *, max_characters: int) -> None:
        self.whole: Any = None
        self._max_characters = max_characters
        self._characters = 0
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._logprobs: list[Any] = []
        self._sample: Any = None
        self._usage: Any = None
        self._others: list[Any] = []

    def add(self, chunk: Any) -> str:
        """Keep what is needed of the chunk, and return its text. Raises ExecutorError above the limits."""
        text, thought = _text_of(chunk), thought_of(chunk)
        self._characters += len(text) + len(thought)
        if thought:
            self._thoughts.append(thought)
        self._logprobs += _logprobs_of(chunk)
        if not _is_plain(chunk):
            self._others.append(chunk)
        else:
            self._texts.append(text)
            if getattr(chunk, "usage", None):
                self._usage = chunk  # some providers send the usage so far with each token
            self._sample = self._sample or chunk
        if self._characters > self._max_characters or len(self._others) > MAX_PARTS:
            raise ExecutorError(
                f"The answer was stopped: it has more than the {self._max_characters:,} characters that limits.result_bytes "
                f"allows, or more than {MAX_PARTS:,} parts of tool calls. Limit it with `max_tokens`.",
                permanent=True,
            )
        return text

    @property
    def has_begun(self) -> bool:
        return bool(self.whole or self._sample or self._others)

    @property
    def is_counted(self) -> bool:
        """Whether the provider has counted the tokens, of an answer that is joined at once."""
        return self._usage is not None and self._characters <= JOINED_AT_ONCE

    @property
    def reasoning(self) -> str:
        """The thoughts of the model before its answer, if the provider sends them."""
        return "".join(self._thoughts)

    @property
    def logprobs(self) -> list[Any]:
        """The tokens with their probabilities, if the provider was asked for them."""
        return self._logprobs if self.whole is None else _logprobs_of(self.whole)

    def chunks(self) -> list[Any]:
        """Return chunks that amount to those that came. They are copies, since LiteLLM counts its own."""
        usage = [] if self._usage is None else [_with_text(self._usage, None)]
        texts = [] if self._sample is None else [_with_text(self._sample, "".join(self._texts))]
        return [*texts, *self._others, *usage]


def _is_plain(chunk: Any) -> bool:
    """Return whether the chunk has nothing but text, or the usage."""
    if not chunk.choices:
        return bool(getattr(chunk, "usage", None))
    choice = chunk.choices[0]
    is_call = getattr(choice.delta, "tool_calls", None) or getattr(choice.delta, "function_call", None)
    return not is_call and choice.finish_reason is None


def _text_of(chunk: Any) -> str:
    return (chunk.choices[0].delta.content or "") if chunk.choices else ""


def thought_of(chunk: Any) -> str:
    return (getattr(chunk.choices[0].delta, "reasoning_content", None) or "") if chunk.choices else ""


def _logprobs_of(chunk: Any) -> list[Any]:
    logprobs = getattr(chunk.choices[0], "logprobs", None) if chunk.choices else None
    content = logprobs.get("content") if isinstance(logprobs, dict) else getattr(logprobs, "content", None)
    return [each if isinstance(each, dict) else each.model_dump(mode="json") for each in content or ()]


def _with_text(chunk: Any, text: str | None) -> Any:
    copy = deepcopy(chunk)
    if copy.choices:
        copy.choices[0].delta.content = text
    return copy
