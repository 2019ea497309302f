"""The parameters of a call: those that LiteLLM passes on to a model, and why the others are refused.

A list of ours, because LiteLLM takes seconds to import; a test compares it with LiteLLM's.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

import orjson

from aipartnerupflow.executors import ExecutorError, Json
from tasks.rules.schema import FURTHER
from tasks.rules.templates import DOUBLE

TEXT: Final[Json] = {"type": "string"}


def _further(description: str, **schema: Any) -> Json:
    return {FURTHER: True, "description": description, **schema}


_PENALTY: Final[Json] = {"type": "number", "minimum": -2, "maximum": 2}
#: What is passed on to the model unchanged, with the schema of each.
PARAMETERS: Final[Mapping[str, Json]] = MappingProxyType(
    {
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "max_tokens": {"type": "integer", "minimum": 1},
        "stop": {
            "anyOf": [TEXT, {"type": "array", "items": TEXT, "maxItems": 4}],
            "description": "Texts at which the answer ends",
        },
        "seed": {
            "type": "integer",
            "description": "A number: equal seeds and requests give similar answers, if the provider supports it",
        },
        "response_format": {
            "type": "object",
            "description": "json_object, or json_schema with a schema: the answer is checked, and is in `parsed`",
        },
        "tools": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Functions that the model may call",
        },
        "tool_choice": {
            "anyOf": [TEXT, {"type": "object"}],
            "description": "`auto`, `none`, `required`, or the function to call",
        },
        "parallel_tool_calls": _further("Whether one answer may request several calls", type="boolean"),
        "max_completion_tokens": _further(
            "The greatest length of the answer, with its reasoning", type="integer", minimum=1
        ),
        "reasoning_effort": _further(
            "The effort with which the model thinks first",
            enum=["none", "minimal", "low", "medium", "high", "xhigh", "max"],
        ),
        "thinking": _further("Anthropic's setting of reasoning", type="object"),
        "verbosity": _further("The length of answers", enum=["low", "medium", "high"]),
        "presence_penalty": _further("Against words that the text already has", **_PENALTY),
        "frequency_penalty": _further("Against words that the text has often", **_PENALTY),
        "logit_bias": _further("A bias from -100 to 100 for tokens, by their numbers", type="object"),
        "logprobs": _further("Whether the result has the probabilities of the tokens", type="boolean"),
        "top_logprobs": _further(
            "The number of tokens at each place whose probabilities the result has",
            type="integer",
            minimum=0,
            maximum=20,
        ),
        "top_k": _further(
            "The number of tokens from which the model chooses, for models that know it", type="integer", minimum=1
        ),
        "prediction": _further("A text that the answer will mostly repeat", type="object"),
        "web_search_options": _further("For models that search the web", type="object"),
        "include_server_side_tool_invocations": _further("Gemini: whether its own tools are shown", type="boolean"),
        "user": _further("A name for your user, which the provider sees", **TEXT),
        "safety_identifier": _further("A name for your user, for the provider's checks", **TEXT),
        "prompt_cache_key": _further("The name under which prompts that begin alike are cached", **TEXT),
        "prompt_cache_retention": _further("The time for which prompts are cached", **TEXT),
        "service_tier": _further("The provider's class of service", **TEXT),
        "store": _further("Whether the provider keeps the answer", type="boolean"),
        "timeout": _further(
            "Seconds that the provider may be silent. `params.timeout_seconds` limits the task",
            type="number",
            exclusiveMinimum=0,
            maximum=3600,
        ),
    }
)
#: What LiteLLM knows and tasks may not set, with the reason.
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "n": "a task has one answer. Use several tasks, or params.for_each",
        "functions": "it is the old form of `tools`",
        "function_call": "it is the old form of `tool_choice`",
        "modalities": "answers are text",
        "audio": "answers are text",
        "stream_options": "usage is always counted",
        "max_retries": "use params.retry",
        "request_timeout": "use `timeout`",
        "metadata": "LiteLLM does not pass it on",
        "context_management": "the messages are sent as they are",
    }
    | dict.fromkeys(("api_base", "base_url"), "use params.api_base for an address of your own")
    | dict.fromkeys(
        ("api_version", "custom_llm_provider", "default_headers", "deployment_id", "extra_headers", "organization"),
        "keys, addresses and headers are set by the server",
    )
    | dict.fromkeys(
        ("additional_drop_params", "allowed_openai_params", "drop_params"), "no parameter is dropped silently"
    )
)
IGNORED: Final = frozenset({"api_key"})
"""Earlier versions sent it. The key of a call is never an input."""
WITH_PLACES: Final = ("prompt", "messages", "system")


def check_given(inputs: Json, known: Mapping[str, Any]) -> None:
    """Refuse an input that is no parameter, and that no text names as a value.

    `known` are the properties of the executor's schema. Raises ExecutorError.
    """
    texts = orjson.dumps([inputs.get(name) for name in WITH_PLACES]).decode()
    values = {place["path"].partition(".")[0] for place in DOUBLE.finditer(texts)}
    for name in inputs.keys() - known.keys() - values - IGNORED:
        raise ExecutorError(f"inputs.{name} is refused: {_reason(name, known)}.", permanent=True)


def _reason(name: str, known: Mapping[str, Any]) -> str:
    if name in REFUSED:
        return REFUSED[name]
    close = get_close_matches(name[:100], known, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"the model has no such parameter, and no text has {{{{{name[:100]}}}}}.{hint}".removesuffix(".")
