"""Prompts and completions of models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings

from aipartnerupflow.executors import Context, ExecutorError, Json

TREE_WANTED: Final = "Answer with the JSON of a tree of tasks and nothing else."
"""The sentence that asks for a tree; the demo model recognizes it."""
CUT_OFF: Final = (
    "The answer is cut off at its greatest length (finish_reason: length). Raise `max_tokens`, or ask for less."
)
NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Messages for a model, in OpenAI's format.

    `options` are its parameters (`temperature`, `tools` and so on). Without `streams` the answer
    is heard when it is complete.

    `run_id` and `user_id` determine the key. `api_base` is an address that the user chose. `agent`, `crew_task` and
    `step` (from 1) name the caller in the record of the call.
    """

    model: str
    messages: Sequence[Json]
    run_id: str
    user_id: str
    options: Mapping[str, Any] = field(default_factory=lambda: NO_OPTIONS)
    streams: bool = True
    api_base: str | None = None
    agent: str | None = None
    crew_task: str | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A model's answer.

    `usage` is `{prompt_tokens, completion_tokens, total_tokens, cached_tokens, reasoning_tokens,
    cost_usd}`; the cost is None if the price is unknown. Cached tokens are part of the prompt's,
    and those of reasoning part of the completion's.

    `finish_reason` is None for an answer that was stopped. `provider_id` is the provider's own id
    of the answer.
    """

    content: str | None
    model: str
    usage: Json
    tool_calls: list[Json] = field(default_factory=list)
    finish_reason: str | None = None
    reasoning: str | None = None
    citations: list[Any] = field(default_factory=list)
    provider_id: str | None = None
    logprobs: list[Any] = field(default_factory=list)

    def as_result(self) -> Json:
        counts = {name: value for name, value in self.usage.items() if name != "cost_usd"}
        always = {
            "content": self.content,
            "model": self.model,
            "finish_reason": self.finish_reason,
            "usage": counts,
            "cost_usd": self.usage["cost_usd"],
            "tool_calls": self.tool_calls,
            "provider_id": self.provider_id,
        }
        more = {"reasoning": self.reasoning, "citations": self.citations, "logprobs": self.logprobs}
        if self.is_cut_off:
            more["warning"] = CUT_OFF
        return always | {name: value for name, value in more.items() if value}

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer ended at its greatest length."""
        return self.finish_reason == "length"


def model_for(context: Context, *wanted: str | None) -> str:
    """Return the first model given: in `wanted`, the task's params, its schemas, or the settings.

    Raises ExecutorError.
    """
    places = (*wanted, context.params.get("model"), context.schemas.get("model"), settings.APFLOW_LLM.default_model)
    model = next((place for place in places if place), None)
    if model is None:
        raise ExecutorError(
            "No model is given. Add `model` to the task's params (such as openai/gpt-4o, or demo/demo to try without a key); "
            "the operator may set llm.default_model.",
            permanent=True,
        )
    if not isinstance(model, str):
        raise ExecutorError(
            "The model is not a text. Write it as provider/name, such as openai/gpt-4o.", permanent=True
        )
    return model


def api_base_for(context: Context) -> str | None:
    """Return the address in `params.api_base`, or None. Raises ExecutorError."""
    api_base = context.params.get("api_base")
    if api_base is not None and not isinstance(api_base, str):
        raise ExecutorError(
            "`params.api_base` is not a text. Give an https:// address, or leave it out.", permanent=True
        )
    return api_base
