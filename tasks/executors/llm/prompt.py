"""Prompts and completions of models, and the parameters of a call: those that LiteLLM passes on, and why others are refused.

The parameters are a list of ours, because LiteLLM takes seconds to import; a test compares it with LiteLLM's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import Context, ExecutorError, Json
from tasks.rules.schema import FURTHER
from tasks.rules.templates import PLACE

TEXT: Final[Json] = {"type": "string"}
_PENALTY: Final[Json] = {"type": "number", "minimum": -2, "maximum": 2}
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
TREE_WANTED: Final = "Answer with the JSON of a tree of tasks and nothing else."
"""The sentence that asks for a tree; the demo model recognizes it."""
CUT_OFF: Final = (
    "The answer is cut off at its greatest length (finish_reason: length). Raise `max_tokens`, or ask for less."
)
NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})
MOST_MODELS: Final = 5
MODEL: Final[Json] = {
    "type": ["string", "array"],
    "minLength": 1,
    "minItems": 1,
    "maxItems": MOST_MODELS,
    "items": {"type": "string", "minLength": 1},
}
"""The schema of a model, or of several of which the later ones are asked if the first fails."""


def _further(description: str, **schema: Any) -> Json:
    return {FURTHER: True, "description": description, **schema}


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


def check_given(inputs: Json, known: Mapping[str, Any]) -> None:
    """Refuse an input that is no parameter, and that no text names as a value.

    `known` are the properties of the executor's schema. Raises ExecutorError.
    """
    texts = orjson.dumps([inputs.get(name) for name in WITH_PLACES]).decode()
    values = {place["path"].partition(".")[0] for place in PLACE.finditer(texts) if place["path"]}
    for name in inputs.keys() - known.keys() - values - IGNORED:
        close = get_close_matches(name[:100], known, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        unknown = f"the model has no such parameter, and no text has {{{{{name[:100]}}}}}.{hint}".removesuffix(".")
        raise ExecutorError(f"inputs.{name} is refused: {REFUSED.get(name, unknown)}.", permanent=True)


def wanted_in(inputs: Mapping[str, Any]) -> Json | None:
    """Return the JSON Schema that the answer has to fit, which may be empty; None if any text will do."""
    wanted = inputs.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_object", "json_schema"):
        return None
    schema = (wanted.get("json_schema") or {}).get("schema") if wanted["type"] == "json_schema" else None
    return schema if isinstance(schema, dict) else {}


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
    others: Sequence[str] = ()
    """The models that are asked after `model`, as `fallback` says (`tasks.executors.llm.fallbacks`)."""
    fallback: Any = None
    hedge: Any = None


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
    rate_headers: Mapping[str, str] = field(default_factory=dict)
    """The headers in which the provider says what is left of its limits."""

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


def models_for(context: Context, wanted: Any = None) -> list[str]:
    """Return the models, the first to be asked first: `wanted`, or those in the task's params, its schemas, or the settings.

    Raises ExecutorError.
    """
    found = wanted_models(wanted, context.params, context.schemas)
    if not found:
        raise ExecutorError(
            "No model is given. Add `model` to the task's params (such as openai/gpt-4o, or demo/demo to try without a key); "
            "the operator may set llm.default_model.",
            permanent=True,
        )
    if problem := fault_of_models(found):
        raise ExecutorError(f"The model {problem}.", permanent=True)
    return found if isinstance(found, list) else [found]


def wanted_models(wanted: Any, params: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """Return the first that is given: `wanted`, or those in the params, the schemas or the settings, unchecked."""
    return wanted or params.get("model") or schemas.get("model") or settings.APFLOW_LLM.default_model


def fault_of_models(given: Any) -> str | None:
    """Return why these are neither a model nor a list of some; None if they are. It completes "the model …"."""
    models = given if isinstance(given, list) else [given]
    if not 0 < len(models) <= MOST_MODELS:
        return f"is a list of {len(models)} models. Give 1 to {MOST_MODELS}"
    if not all(isinstance(each, str) and each for each in models):
        return "is not a text. Write it as provider/name, such as openai/gpt-4o, or as a list of such texts"
    return None


def tries_for(context: Context, wanted: Any = None) -> Json:
    """Return the fields of a prompt that say which models are asked, and when. Raises ExecutorError."""
    model, *others = models_for(context, wanted)
    given = {name: context.params.get(name) for name in ("fallback", "hedge")}
    return {"model": model, "others": others, **given}


def api_base_for(context: Context) -> str | None:
    """Return the address in `params.api_base`, or None. Raises ExecutorError."""
    api_base = context.params.get("api_base")
    if api_base is not None and not isinstance(api_base, str):
        raise ExecutorError(
            "`params.api_base` is not a text. Give an https:// address, or leave it out.", permanent=True
        )
    return api_base
