"""Model calls in the results of methods, as types."""

from typing import Any, Literal

from a2a.methods.response import Response


class CallUsage(Response, frozen=True, kw_only=True):
    """The tokens of one call. `cached_tokens` of the prompt and `reasoning_tokens` of the completion are null if unknown."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None
    reasoning_tokens: int | None


class ModelCall(Response, frozen=True, kw_only=True):
    """One call of a language model by a task.

    `agent` and `crew_task` are those of a crew, `step` that of an agent, from 1. `duration_ms` is null for a call that
    an executor made itself and reported.
    """

    id: str
    task_id: str
    executor: str
    attempt: int
    step: int | None
    agent: str | None
    crew_task: str | None
    model: str
    status: Literal["completed", "failed", "cancelled"]
    started_at: str
    duration_ms: int | None
    usage: CallUsage | None
    cost_usd: float | None
    finish_reason: str | None
    error: str | None


class CallContent(Response, frozen=True, kw_only=True):
    """The content of a call, within bounds. `answer` is null if there was no text, and `reasoning` if the provider shows none.

    `citations` are sources as the provider gives them.
    """

    messages: list[Any]
    left_out_messages: int
    answer: str | None
    reasoning: str | None
    citations: list[Any]
    left_out_citations: int
    tool_calls: list[Any]
    left_out_tool_calls: int


class ModelCallWithContent(ModelCall, frozen=True, kw_only=True):
    """A call with what was said; `content` is null if that is not stored."""

    content: CallContent | None


class ModelCalls(Response, frozen=True, kw_only=True):
    """A page of model calls, the oldest first. `next_cursor` is null on the last page."""

    calls: list[ModelCallWithContent]
    next_cursor: str | None
