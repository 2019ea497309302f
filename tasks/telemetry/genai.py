"""The attributes of calls of models by OpenTelemetry's conventions for generative AI, in the version of `tasks.telemetry.otel.CONVENTIONS`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final

import orjson
from django.conf import settings

from tasks.rules.strict_json import Json
from tasks.telemetry import tracing
from tasks.telemetry.tracing import ERROR, Span

PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "azure": "azure.ai.openai",
        "azure_ai": "azure.ai.inference",
        "bedrock": "aws.bedrock",
        "bedrock_converse": "aws.bedrock",
        "cohere_chat": "cohere",
        "gemini": "gcp.gemini",
        "mistral": "mistral_ai",
        "vertex_ai": "gcp.vertex_ai",
        "watsonx": "ibm.watsonx.ai",
        "xai": "x_ai",
    }
)
"""The names of providers in the conventions, by those of LiteLLM where they differ."""
NUMBERS: Final = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")
"""The parameters of a request that are doubles."""
USAGE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "input_tokens": "prompt_tokens",
        "output_tokens": "completion_tokens",
        "cache_read.input_tokens": "cached_tokens",
        "reasoning.output_tokens": "reasoning_tokens",
    }
)
OF_METRICS: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "server.address",
    "server.port",
)
OTHER: Final = "_OTHER"


def requested(model: str, options: Mapping[str, Any], *, conversation: str | None) -> Json:
    """Return the attributes of a request: of an inference span, or of an agent that makes such requests."""
    provider, slash, rest = model.partition("/")
    facts: Json = {
        "gen_ai.provider.name": PROVIDERS.get(provider, provider) if slash else OTHER,
        "gen_ai.request.model": rest if slash else model,
        "gen_ai.conversation.id": conversation,
        "gen_ai.request.max_tokens": options.get("max_tokens", options.get("max_completion_tokens")),
        "gen_ai.request.seed": options.get("seed"),
    }
    facts |= {f"gen_ai.request.{name}": float(options[name]) for name in NUMBERS if options.get(name) is not None}
    if stop := options.get("stop"):
        facts["gen_ai.request.stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if isinstance(wanted := options.get("response_format"), dict):
        facts["gen_ai.output.type"] = "text" if wanted.get("type") == "text" else "json"
    if provider == "openai" and (tier := options.get("service_tier")) not in (None, "auto"):
        facts["openai.request.service_tier"] = tier
    return facts


def used(usage: Mapping[str, Any] | None) -> Json:
    """Return the attributes of the usage of a call, or of several."""
    found = {f"gen_ai.usage.{name}": usage.get(ours) for name, ours in USAGE.items()} if usage else {}
    if not found.get("gen_ai.usage.reasoning.output_tokens"):
        found.pop("gen_ai.usage.reasoning.output_tokens", None)
    return found


def evaluated(run_id: str, trace: str | None, name: str, value: Any, reason: str | None, *, task_id: str) -> None:
    """Send a score as the event `gen_ai.evaluation.result`, on a span below that of the run; `trace` is `Run.trace`.

    The reason is content, as answers are (`telemetry.content`).
    """
    run = tracing.span_of_run(run_id, trace, {})
    if run is None:
        return
    is_word = isinstance(value, bool | str)
    facts = {
        "gen_ai.evaluation.name": name,
        "gen_ai.evaluation.score.value": None if value is None or isinstance(value, str) else float(value),
        "gen_ai.evaluation.score.label": str(value).lower() if is_word else None,
        "gen_ai.evaluation.explanation": reason if settings.APFLOW.telemetry.content else None,
    }
    span = run.child("evaluation", attributes={"apflow.run.id": run_id, "apflow.task.id": task_id or None})
    span.event = ("gen_ai.evaluation.result", facts)
    span.end()


def measure(span: Span, *, seconds: float, first_seconds: float | None) -> None:
    """Record the metrics of a call whose span has all attributes."""
    known = span.attributes
    facts = {name: known[name] for name in OF_METRICS if known.get(name) is not None}
    failure = {ERROR: known[ERROR]} if ERROR in known else {}
    tracing.measure("gen_ai.client.operation.duration", seconds, facts | failure)
    if first_seconds is not None:
        tracing.measure("gen_ai.client.operation.time_to_first_chunk", first_seconds, facts)
    for kind in ("input", "output"):
        if (count := known.get(f"gen_ai.usage.{kind}_tokens")) is not None:
            tracing.measure("gen_ai.client.token.usage", count, facts | {"gen_ai.token.type": kind})


def content_of(stored: str, *, finish_reason: str | None) -> Json:
    """Return the attributes of the content of a call: JSON texts by the schemas of the conventions.

    `stored` is what `tasks.rules.call_content.stored_content` has masked and bounded.
    """
    content: Json = orjson.loads(stored)
    answer = list(_parts({"content": content["answer"], "tool_calls": content["tool_calls"]}))
    if content["reasoning"]:
        answer.insert(0, {"type": "reasoning", "content": content["reasoning"]})
    facts: Json = {"gen_ai.input.messages": _text([_message(each) for each in content["messages"]])}
    if answer:
        said = {"role": "assistant", "parts": answer, "finish_reason": finish_reason or "error"}
        facts["gen_ai.output.messages"] = _text([said])
    tools = [each.get("function") for each in (content["options"] or {}).get("tools") or () if isinstance(each, dict)]
    if tools:
        facts["gen_ai.tool.definitions"] = _text([{"type": "function", **(tool or {})} for tool in tools])
    return facts


def _message(message: Any) -> Json:
    if not isinstance(message, dict):
        return {"role": "user", "parts": [{"type": "text", "content": str(message)}]}
    role = message.get("role", "user")
    if role == "tool":
        answer = {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message.get("content")}
        return {"role": role, "parts": [answer]}
    return {"role": role, "parts": list(_parts(message))}


def _parts(message: Mapping[str, Any]) -> Iterator[Json]:
    """Yield the parts of a message in OpenAI's format."""
    content = message.get("content")
    for each in content if isinstance(content, list) else [content]:
        if isinstance(each, str) and each:
            yield {"type": "text", "content": each}
        elif isinstance(each, dict):
            yield {"type": "text", "content": each["text"]} if isinstance(each.get("text"), str) else each
    calls: Iterable[Any] = message.get("tool_calls") or ()
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            continue
        arguments = function.get("arguments")
        with suppress(orjson.JSONDecodeError):  # the text of the model, as it is, or one that lost its middle
            arguments = orjson.loads(arguments) if isinstance(arguments, str) else arguments
        yield {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": arguments}


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
