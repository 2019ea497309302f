"""Counts model calls that a graph makes by itself, with keys of its own: their tokens, cost, and the node that made them."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from aipartnerupflow.executors import Json
from aipartnerupflow.models import MARK

PRICES: Final = "model_prices_and_context_window_backup.json"
"""LiteLLM's table of prices, which costs seconds to load with the whole of LiteLLM."""


class ModelCalls(BaseCallbackHandler):
    """Reports the usage of each call to `spent`. Calls by `run_clients` are recorded already."""

    run_inline = True

    def __init__(self, spent: Callable[[Json], None]) -> None:
        self._spent = spent
        self._begun: dict[UUID, Mapping[str, Any]] = {}

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, metadata: Json | None = None, **_: Any
    ) -> None:
        self._begun[run_id] = metadata or {}

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        begun = self._begun.pop(run_id, {})
        message = _message(response)
        if message is None or message.response_metadata.get("system_fingerprint") == MARK:
            return
        self._spent(_usage(message, begun))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._begun.pop(run_id, None)


def _message(response: LLMResult) -> AIMessage | None:
    generation = response.generations[0][0] if response.generations and response.generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return message if isinstance(message, AIMessage) else None


def _usage(message: AIMessage, begun: Mapping[str, Any]) -> Json:
    used: Mapping[str, Any] = message.usage_metadata or {}
    model = "/".join(filter(None, (begun.get("ls_provider"), begun.get("ls_model_name"))))
    prompt, completion = used.get("input_tokens", 0), used.get("output_tokens", 0)
    cached = (used.get("input_token_details") or {}).get("cache_read") or 0
    return {
        "model": model,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": used.get("total_tokens", 0),
        "cached_tokens": cached,
        "reasoning_tokens": (used.get("output_token_details") or {}).get("reasoning") or 0,
        "cost_usd": cost_usd(model, prompt=prompt, completion=completion, cached=cached) if used else None,
        "agent": begun.get("langgraph_node"),
        "step": begun.get("langgraph_step"),
    }


def cost_usd(model: str, *, prompt: int, completion: int, cached: int) -> float | None:
    """Return the cost of so many tokens; None for a model whose price is unknown."""
    prices = _prices()
    price = prices.get(model) or prices.get(model.partition("/")[2]) or {}
    one, other = price.get("input_cost_per_token"), price.get("output_cost_per_token")
    if not isinstance(one, float) or not isinstance(other, float):
        return None
    of_cached = float(price.get("cache_read_input_token_cost", one))
    return round((prompt - cached) * one + cached * of_cached + completion * other, 10)


@cache
def _prices() -> Mapping[str, Json]:
    found = find_spec("litellm")
    if found is None or not found.origin:
        return {}
    prices: Mapping[str, Json] = json.loads(Path(found.origin).with_name(PRICES).read_bytes())
    return prices
