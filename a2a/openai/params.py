"""Requests of clients of OpenAI: the fields that are honoured, and its items and messages as those of AG-UI.

A field of these wires that is not honoured is refused by name, unless it has its default. Items of type `reasoning` are
taken, since clients send the whole output back, and not read.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import msgspec
from msgspec import Meta, Struct

from a2a.agui.params import (
    AssistantMessage,
    Content,
    DeveloperMessage,
    FunctionCall,
    ImagePart,
    Message,
    Part,
    SystemMessage,
    TextPart,
    Tool,
    ToolCall,
    ToolMessage,
    UrlSource,
    UserMessage,
)
from a2a.core.parsing import Params, Text
from tasks.ids import new_id
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Items = Annotated[list[Any], Meta(max_length=10_000)]
NOT_HONOURED: Final = "not honoured here, so only its default is accepted: leave it out"
PLAIN: Final[Json] = {"type": "text"}
DEFAULTS: Final[Mapping[str, Sequence[Any]]] = MappingProxyType(
    {
        "frequency_penalty": [0],
        "parallel_tool_calls": [True],
        "presence_penalty": [0],
        "service_tier": ["auto", "default"],
        "temperature": [1],
        "tool_choice": ["auto"],
        "top_logprobs": [0],
        "top_p": [1],
    }
)
"""The fields of both wires that are not honoured, with their defaults."""
ROLES: Final = ("user", "assistant", "system", "developer", "tool")


class OpenAiParams(Params, frozen=True, kw_only=True):
    """Base class of the bodies of requests."""

    DEFAULTS: ClassVar[Mapping[str, Sequence[Any]]] = DEFAULTS
    OTHERS: ClassVar[Sequence[str]] = ()
    """Further fields that are not honoured; none of them has a default but null."""

    @classmethod
    def named(cls, value: Any) -> dict[str, Any]:
        """Return the fields without those that have their defaults. Raises InvalidParams with all that are not honoured."""
        given = super().named(value)
        given = {name: item for name, item in given.items() if item is not None}
        left = {name: item for name, item in given.items() if not _is_default(item, cls.DEFAULTS.get(name, ()))}
        if problems := [(name, NOT_HONOURED) for name in left if name in cls.DEFAULTS or name in cls.OTHERS]:
            raise InvalidParams(problems)
        return left


def _is_default(value: Any, defaults: Sequence[Any]) -> bool:
    """Return whether the value is a default. True is not 1."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in defaults)


class CreateResponse(OpenAiParams, frozen=True, kw_only=True):
    """The body of `POST /responses`. `inputs` is ours: the inputs of a flow or workflow."""

    DEFAULTS = MappingProxyType(
        {
            **DEFAULTS,
            "include": [[]],
            "reasoning": [{}],
            "store": [True],
            "stream_options": [{"include_obfuscation": False}, {}],
            "text": [{"format": PLAIN}, {"format": PLAIN, "verbosity": "medium"}, {}],
            "truncation": ["disabled"],
        }
    )
    OTHERS = (
        "context_management",
        "conversation",
        "max_output_tokens",
        "max_tool_calls",
        "moderation",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    )
    model: Text
    input: str | Items | None = None
    inputs: Json | None = None
    instructions: str | None = None
    metadata: Metadata | None = None
    previous_response_id: Text | None = None
    tools: Annotated[list[Any], Meta(max_length=128)] | None = None
    background: bool = False
    stream: bool = False


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class CreateCompletion(OpenAiParams, frozen=True, kw_only=True):
    """The body of `POST /chat/completions`."""

    DEFAULTS = MappingProxyType(
        {
            **DEFAULTS,
            "logit_bias": [{}],
            "logprobs": [False],
            "modalities": [["text"]],
            "n": [1],
            "response_format": [PLAIN],
            "store": [False],
            "verbosity": ["medium"],
        }
    )
    OTHERS = (
        "audio",
        "function_call",
        "functions",
        "max_completion_tokens",
        "max_tokens",
        "moderation",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "stop",
        "user",
        "web_search_options",
    )
    model: Text
    messages: Items
    inputs: Json | None = None
    metadata: Metadata | None = None
    tools: Annotated[list[Any], Meta(max_length=128)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None


class Wanted(Struct, frozen=True, kw_only=True):
    """The wish of a request of either wire. `place` is the field that has its messages."""

    model: str
    place: str
    messages: list[Message]
    inputs: Json | None
    tools: list[Tool]
    instructions: str | None = None
    metadata: dict[str, str] = {}
    previous: str | None = None
    is_background: bool = False

    @classmethod
    def of_response(cls, given: CreateResponse) -> Self:
        """Raise InvalidParams with the place of the first part that is not known."""
        items: list[Any] = given.input if isinstance(given.input, list) else []
        messages = _messages_of_items(items)
        if isinstance(given.input, str):
            messages = [UserMessage(id=new_id(), content=given.input)]
        return cls(
            model=given.model,
            place="input",
            messages=messages,
            inputs=given.inputs,
            tools=[_tool(each, f"tools[{index}]") for index, each in enumerate(given.tools or ())],
            instructions=given.instructions,
            metadata=given.metadata or {},
            previous=given.previous_response_id,
            is_background=given.background,
        )

    @classmethod
    def of_completion(cls, given: CreateCompletion) -> Self:
        """Raise InvalidParams with the place of the first part that is not known."""
        tools = []
        for index, each in enumerate(given.tools or ()):
            place = f"tools[{index}]"
            function = _fields(each, place, ("type", "function"))["function"]
            tools.append(_tool(_object(function, f"{place}.function") | {"type": each["type"]}, place))
        return cls(
            model=given.model,
            place="messages",
            messages=[_message(each, f"messages[{index}]") for index, each in enumerate(given.messages)],
            inputs=given.inputs,
            tools=tools,
            metadata=given.metadata or {},
        )


def _messages_of_items(items: Sequence[Any]) -> list[Message]:
    """Return the items of a request as messages. Calls that follow each other are those of one message."""
    found: list[Message] = []
    for index, each in enumerate(items):
        place = f"input[{index}]"
        item = _object(each, place)
        match item.get("type", "message"):
            case "message":
                found.append(_message({name: item[name] for name in ("role", "content") if name in item}, place))
            case "function_call":
                _required(item, place, ("call_id", "name", "arguments"))
                function = FunctionCall(name=item["name"], arguments=item["arguments"])
                call = ToolCall(id=item["call_id"], function=function)
                calls = []
                if found and isinstance(found[-1], AssistantMessage):
                    calls, content = found[-1].tool_calls or [], found[-1].content
                    found[-1] = AssistantMessage(id=new_id(), content=content, tool_calls=[*calls, call])
                else:
                    found.append(AssistantMessage(id=new_id(), tool_calls=[call]))
            case "function_call_output":
                _required(item, place, ("call_id",))
                output = _content(item.get("output"), f"{place}.output")
                found.append(ToolMessage(id=new_id(), content=output, tool_call_id=item["call_id"]))
            case "reasoning":
                continue
            case other:
                raise InvalidParams([(f"{place}.type", f"'{str(other)[:50]}' is not supported here")])
    return found


def _message(given: Any, place: str) -> Message:
    """Return a message of either wire."""
    message = _object(given, place)
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise InvalidParams([(f"{place}.role", f"must be one of {', '.join(ROLES)}")])
    known = ("role", "content", *(("tool_calls", "refusal") if role == "assistant" else ()))
    fields = _fields(message, place, (*known, "tool_call_id") if role == "tool" else known, is_sparse=True)
    if role == "assistant":
        calls = [_call(each, f"{place}.tool_calls[{n}]") for n, each in enumerate(fields.get("tool_calls") or ())]
        text = None if content is None else _text(_content(content, f"{place}.content"), f"{place}.content")
        return AssistantMessage(id=new_id(), content=text, tool_calls=calls or None)
    own = _content(content, f"{place}.content")
    match role:
        case "user":
            return UserMessage(id=new_id(), content=own)
        case "tool":
            _required(fields, place, ("tool_call_id",))
            return ToolMessage(id=new_id(), content=own, tool_call_id=fields["tool_call_id"])
        case "system":
            return SystemMessage(id=new_id(), content=_text(own, f"{place}.content"))
        case _:
            return DeveloperMessage(id=new_id(), content=_text(own, f"{place}.content"))


def _call(given: Any, place: str) -> ToolCall:
    call = _fields(given, place, ("id", "type", "function"))
    function = _object(call["function"], f"{place}.function")
    _required(function, f"{place}.function", ("name", "arguments"))
    _required(call, place, ("id",))
    return ToolCall(id=call["id"], function=FunctionCall(name=function["name"], arguments=function["arguments"]))


def _tool(given: Any, place: str) -> Tool:
    """Return a function as AG-UI has it."""
    tool = _fields(given, place, ("type", "name", "description", "parameters", "strict"), is_sparse=True)
    if tool.get("type") != "function":
        raise InvalidParams([(f"{place}.type", "must be function: other tools are not supported here")])
    description = tool.get("description") or ""
    shaped = tool | {"description": description}
    try:
        return msgspec.convert(shaped, Tool)
    except msgspec.ValidationError as error:
        raise InvalidParams([(place, str(error).replace("`", "'"))]) from None


def _content(given: Any, place: str) -> Content:
    """Return the content of a message: a text, or its parts."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise InvalidParams([(place, "must be a text or a list of parts")])
    return [_part(each, f"{place}[{index}]") for index, each in enumerate(given)]


def _part(given: Any, place: str) -> Part:
    part = _object(given, place)
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            _required(part, place, ("text",))
            return TextPart(text=part["text"])
        case "input_image":
            fields = _fields(part, place, ("type", "image_url", "detail"), is_sparse=True)
        case "image_url":
            image = _object(_fields(part, place, ("type", "image_url"))["image_url"], f"{place}.image_url")
            shown = _fields(image, f"{place}.image_url", ("url", "detail"), is_sparse=True)
            fields = {"image_url": shown.get("url"), "detail": shown.get("detail")}
        case other:
            raise InvalidParams([(f"{place}.type", f"'{str(other)[:50]}' is not supported here")])
    if fields.get("detail") not in (None, "auto"):
        raise InvalidParams([(f"{place}.detail", NOT_HONOURED)])
    _required(fields, place, ("image_url",))
    return ImagePart(source=UrlSource(value=fields["image_url"]))


def _text(content: Content, place: str) -> str:
    """Return a content that has nothing but text."""
    if isinstance(content, str):
        return content
    texts = [part.text for part in content if isinstance(part, TextPart)]
    if len(texts) < len(content):
        raise InvalidParams([(place, "must have nothing but text")])
    return "\n".join(texts)


def _object(given: Any, place: str) -> Json:
    if not isinstance(given, dict):
        raise InvalidParams([(place, "must be an object")])
    return given


def _fields(given: Any, place: str, known: Sequence[str], *, is_sparse: bool = False) -> Json:
    """Return an object that has these fields and no others, but for null. `is_sparse`: some may be missing."""
    found = {name: value for name, value in _object(given, place).items() if value is not None}
    problems = [(f"{place}.{name[:100]}", "not supported here") for name in found if name not in known]
    if not is_sparse:
        problems += [(f"{place}.{name}", "required") for name in known if name not in found]
    if problems:
        raise InvalidParams(problems)
    return found


def _required(given: Json, place: str, texts: Sequence[str]) -> None:
    """Raise InvalidParams for a field that is no text."""
    if problems := [(f"{place}.{name}", "must be a text") for name in texts if not isinstance(given.get(name), str)]:
        raise InvalidParams(problems)
