"""Calls a language model and streams its answer."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Final

import orjson
from django.conf import settings

from aipartnerupflow.executors import Context, Executor, ExecutorError, Json, Spawn
from tasks.executors.llm import conversations, fallbacks, tools
from tasks.executors.llm.agent import go_on
from tasks.executors.llm.attachments import MAX_FILES, PART, file_of, with_attached, with_file, with_files
from tasks.executors.llm.client import ask
from tasks.executors.llm.prompt import (
    CUT_OFF,
    MODEL,
    PARAMETERS,
    TEXT,
    Prompt,
    api_base_for,
    check_given,
    tries_for,
    wanted_in,
)
from tasks.rules.files import FILE_SCHEMA
from tasks.rules.places import has_places
from tasks.rules.schema import FURTHER, TooCostly, check_cost, fault, is_light, mismatch
from tasks.rules.templates import CannotFill, Filler

PLACE: Final = "inputs.response_format.json_schema.schema"
MOST_REPAIRS: Final = 5
REPAIR: Final = "That was refused: {fault}. Answer again, with the JSON only."
REFUSED: Final = "That was refused: {reason}. Answer again."
SENT_BACK: Final[ContextVar[Sequence[tuple[str, str]]]] = ContextVar("answers that checks sent back", default=())
"""The answers of this task that checks have refused, each with the reason, since the executor was last called."""


class Unfit(Exception):
    """The answer is not the JSON that was asked for. The message says why, to the model and to people."""


def repairs_in(params: Json) -> int:
    """Return how often an answer that does not fit is sent back (`params.repair`, 1). Raises ExecutorError."""
    repairs: Any = params.get("repair", 1)
    if isinstance(repairs, bool) or not isinstance(repairs, int) or not 0 <= repairs <= MOST_REPAIRS:
        raise ExecutorError(f"params.repair must be an integer from 0 to {MOST_REPAIRS}.", permanent=True)
    return int(repairs)


def check(inputs: Json) -> None:
    """Raise ExecutorError for a schema that no answer can be checked against, unless a result fills it in."""
    schema = wanted_in(inputs)
    if not schema or has_places(orjson.dumps(schema).decode()):
        return
    if problem := fault(schema):
        raise ExecutorError(f"{PLACE} is no JSON Schema: {problem}", permanent=True)
    try:
        check_cost(schema)
    except TooCostly as error:
        raise ExecutorError(f"{PLACE} {error}.", permanent=True) from None


def parsed(answer: str | None, schema: Json) -> Any:
    """Return the JSON of an answer. Raises Unfit."""
    text = (answer or "").strip()
    if text.startswith("```") and text.endswith("```"):  # of Markdown, which many models write even when asked not to
        text = text[3:-3].removeprefix("json").strip()
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unfit(f"it is not JSON ({error})") from None
    if not schema and not isinstance(value, dict):
        raise Unfit("it is JSON, but not an object")
    if not is_light(schema, {"answer": value}):
        raise Unfit("it is too large to check it against this schema")
    if problem := mismatch(schema, value):
        raise Unfit(f"it does not fit the schema: {problem}")
    return value


MESSAGE: Final[Json] = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [TEXT, {"type": "null"}, {"type": "array", "items": PART}]},
        "name": TEXT,
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "tool_call_id": TEXT,
    },
    "required": ["role"],
    "additionalProperties": False,
}


class Llm(Executor):
    """Returns one answer of a model."""

    id = "llm_executor"
    name = "Language model"
    description = (
        "Calls a language model of any provider that LiteLLM supports, and streams the response. Texts may contain {{path}}: "
        "an input, or the result of a dependency, such as {{fetch.json.title}}."
    )
    tags = ("ai", "llm")
    extra = "llm"
    input_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "prompt": {
                "type": "string",
                "minLength": 1,
                "description": "A single user message. Alternative: `messages`",
            },
            "messages": {
                "type": "array",
                "minItems": 1,
                "description": "The conversation, in OpenAI's format",
                "items": MESSAGE,
            },
            "files": {
                FURTHER: True,
                "type": "array",
                "items": FILE_SCHEMA,
                "maxItems": MAX_FILES,
                "description": "Files that are attached to the prompt, or to the last message: images, PDFs and other documents, sounds, texts",
            },
            "history": {
                "type": "array",
                "description": "Earlier messages, which precede the prompt or the messages, or the whole conversation; they are no templates",
                "items": MESSAGE,
            },
            "model": MODEL
            | {
                "description": "A model as provider/name, or a list: the next one is tried if the one before fails. Default: `params.model`, "
                "`schemas.model`, or the server's model",
            },
            "system": {"type": "string", "minLength": 1, "description": "Instructions that precede the conversation"},
            "stream": {
                FURTHER: True,
                "type": "boolean",
                "description": "Whether the answer is streamed, as `token` events. Default: true",
            },
            **PARAMETERS,
            **tools.INPUTS,
        },
    }
    result_schema: ClassVar[Json] = {
        "type": "object",
        "properties": {
            "content": {"type": ["string", "null"], "description": "The answer as text"},
            "model": {"type": "string", "description": "The model that answered"},
            "finish_reason": {
                "type": ["string", "null"],
                "description": "Why the answer ended: `stop`, `length`, `tool_calls` …; null if it was stopped",
            },
            "warning": {"type": "string", "description": "A fault of the answer: it was cut off at its length"},
            "usage": {
                "type": "object",
                "properties": {
                    "prompt_tokens": {"type": "integer"},
                    "completion_tokens": {"type": "integer"},
                    "total_tokens": {"type": "integer"},
                    "cached_tokens": {"type": "integer", "description": "The tokens of the prompt that were cached"},
                    "reasoning_tokens": {
                        "type": "integer",
                        "description": "The tokens of the completion that are reasoning",
                    },
                },
            },
            "cost_usd": {"type": ["number", "null"], "description": "null if the price is unknown"},
            "tool_calls": {"type": "array", "description": "Calls that the model requests; they are not executed"},
            "steps": {"type": "array", "description": "With tools by name: usage, cost and calls of each step"},
            "parsed": {"description": "With `response_format`, the answer as JSON"},
            "logprobs": {"type": "array", "description": "With `logprobs`: the tokens and their probabilities"},
            "reasoning": {"type": "string", "description": "The thoughts of the model, if the provider shows them"},
            "citations": {"type": "array", "description": "Sources, as the provider gives them"},
            "provider_id": {"type": ["string", "null"], "description": "The provider's id of the answer"},
        },
        "required": ["content", "model", "finish_reason", "usage", "cost_usd", "tool_calls", "provider_id"],
    }
    templates = frozenset({"prompt", "messages", "system"})
    verbatim = frozenset({"history"})
    secret_inputs = frozenset()
    param_names = frozenset(
        "model api_base fallback hedge conversation conversation_tokens fail_on_length repair".split()
    )
    example: ClassVar[Json] = {"prompt": "Name three rivers.", "model": "openai/gpt-4o-mini", "temperature": 0}
    answer = "content"
    example_result: ClassVar[Json] = {
        "content": "The Nile, the Amazon and the Yangtze.",
        "model": "openai/gpt-4o-mini",
        "finish_reason": "stop",
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 12,
            "total_tokens": 23,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
        },
        "cost_usd": 0.00001,
        "tool_calls": [],
        "provider_id": "chatcmpl-9f2",
    }

    def check_with_inputs(self, params: Json, inputs: Json) -> None:
        tools.check(params, inputs)
        repairs_in(params)
        fails_on_length(params)
        fallbacks.check(params, inputs.get("model"), has_tools=bool(inputs.get("tools")))
        conversations.check(params)
        check_given(inputs, self.input_schema["properties"])
        check(inputs)

    def caches_calls(self, inputs: Json) -> bool:
        """Return whether it is an agent: its tools have names, and may do anything."""
        given = inputs.get("tools")
        return isinstance(given, list) and any(isinstance(each, str) for each in given)

    def uncacheable(self, params: Json, inputs: Json) -> str | None:
        return None if params.get("conversation") is None else "is not for a task in a conversation, which it continues"

    async def execute(self, inputs: Json, context: Context) -> Json | Spawn:
        before, asked = _messages(inputs)
        conversation = conversations.conversation_of(context)
        earlier = [] if conversation is None else await conversation.earlier(context)
        attached = await with_attached(asked, inputs["files"], context.files) if inputs.get("files") else asked
        messages = await with_files([*before, *earlier, *attached], context.fetch, context.files)
        by_name = await tools.tools_of(inputs, user_id=context.user_id, log=context.log)

        async def ask_with(said: list[Json], more: Json, step: int) -> Json:
            return await self._answered(said, inputs | more, context, step=step)

        result: Json | Spawn
        refused = [message for sent_back in SENT_BACK.get() for message in _refusal(*sent_back)]
        if by_name is None:
            result = await self._answered([*messages, *refused], inputs, context)
        else:
            choice = inputs.get("tool_choice")
            result = await go_on(messages, by_name, context, ask=ask_with, choice=choice, refused=refused)
        if conversation is not None and not isinstance(result, Spawn) and result["content"]:
            conversation.add(asked, result["content"])
        return result

    async def _answered(self, messages: list[Json], inputs: Json, context: Context, *, step: int | None = None) -> Json:
        """Return the answer as a result, once it is what response_format asks for, or has calls of tools."""
        schema = wanted_in(inputs)
        left = repairs_in(dict(context.params))
        while True:
            prompt = Prompt(
                **tries_for(context, inputs.get("model")),
                messages=messages,
                options={name: inputs[name] for name in PARAMETERS if name in inputs},
                streams=inputs.get("stream", True),
                run_id=context.run_id,
                user_id=context.user_id,
                api_base=api_base_for(context),
                step=step,
            )
            answer = await ask(prompt, spent=context.spent)
            if answer.is_cut_off and fails_on_length(dict(context.params)):
                raise ExecutorError(CUT_OFF)
            if schema is None or answer.tool_calls:
                return answer.as_result()
            try:
                return answer.as_result() | {"parsed": parsed(answer.content, schema)}
            except Unfit as error:
                fault = str(error)
            if not left:
                raise ExecutorError(f"The answer of {answer.model} is not what response_format asks for: {fault}.")
            left -= 1
            context.report(0, f"The answer was sent back: {fault}")
            messages = [
                *messages,
                {"role": "assistant", "content": answer.content or ""},
                {"role": "user", "content": REPAIR.format(fault=fault)},
            ]


def _refusal(answer: str, reason: str) -> list[Json]:
    return [{"role": "assistant", "content": answer}, {"role": "user", "content": REFUSED.format(reason=reason)}]


def filled_texts(inputs: Json) -> Json:
    """Return the inputs of the model with their templates filled, without the values that were filled in. Raises ExecutorError.

    The texts have to be escaped before the executor gets them.
    """
    before, asked = _messages(inputs | {"history": []})
    filled = {name: value for name, value in inputs.items() if name in Llm.input_schema["properties"]}
    if before:
        filled["system"] = before[0]["content"]
    if "prompt" in inputs:
        return filled | {"prompt": asked[0]["content"]}
    return filled | {"messages": asked} if "messages" in inputs else filled


def fails_on_length(params: Json) -> bool:
    """Return `params.fail_on_length` (false): whether an answer that is cut off fails. Raises ExecutorError."""
    fails = params.get("fail_on_length", False)
    if not isinstance(fails, bool):
        raise ExecutorError("params.fail_on_length must be true or false.", permanent=True)
    return fails


def _messages(inputs: Json) -> tuple[list[Json], list[Json]]:
    """Return what precedes the conversation, and what is asked, with its templates filled. Raises ExecutorError."""
    if ("prompt" in inputs) == ("messages" in inputs) and ("prompt" in inputs or not inputs.get("history")):
        raise ExecutorError("Give either `prompt`, which is one message, or `messages`.", permanent=True)
    values = {name: value for name, value in inputs.items() if name not in Llm.input_schema["properties"]}
    asked = [{"role": "user", "content": inputs["prompt"]}] if "prompt" in inputs else []
    messages = inputs.get("messages", asked)
    filler = Filler(values, max_characters=settings.APFLOW.limits.result_bytes)
    try:
        system = [{"role": "system", "content": filler.fill(inputs["system"])}] if "system" in inputs else []
        filled = [message | {"content": _filled(message.get("content"), filler)} for message in messages]
    except CannotFill as error:
        raise ExecutorError(f"A template cannot be filled: {error}.", permanent=True) from None
    return [*system, *inputs.get("history", ())], filled


def _filled(content: Any, filler: Filler) -> Any:
    if isinstance(content, str):
        return filler.fill(content)
    if not isinstance(content, list):
        return content
    filled = list[Json]()
    for part in content:
        if "text" in part:
            filled.append(part | {"text": filler.fill(part["text"])})
        else:
            file = file_of(part)
            filled.append(part if file is None else with_file(part, filler.fill(file)))
    return filled
