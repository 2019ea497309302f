"""The messages of a thread as a language model reads them. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from a2a.agui.params import (
    ActivityMessage,
    AssistantMessage,
    AudioPart,
    ContextEntry,
    DataSource,
    DocumentPart,
    FileSource,
    ImagePart,
    Message,
    Part,
    ReasoningMessage,
    TextPart,
    Tool,
    ToolMessage,
    UserMessage,
    text_of,
)
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json

SOUNDS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
ACCEPTED: Final = "is no text, image, document, or sound in wav or mp3 with its data; a language model gets only these"
NOT_READ: Final = (ActivityMessage, ReasoningMessage)
"""Messages that a front end keeps for itself."""


def conversation(messages: Sequence[Message], context: Sequence[ContextEntry]) -> list[Json]:
    """Return the messages in OpenAI's format, after one that has the context of the front end. Raises InvalidParams."""
    said = "\n".join(f"{entry.description}: {entry.value}" for entry in context)
    return [{"role": "system", "content": said}] * bool(said) + list(_read(messages))


def tools_of(given: Sequence[Tool]) -> list[Json]:
    """Return the tools of a front end in OpenAI's format."""
    nothing: Json = {"type": "object", "properties": {}}
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or nothing,
            },
        }
        for tool in given
    ]


def asked_in(messages: Sequence[Message]) -> UserMessage | None:
    """Return the newest message of the user."""
    return next((each for each in reversed(messages) if isinstance(each, UserMessage)), None)


def turn_in(messages: Sequence[Message]) -> Message | None:
    """Return the message that asks for this run: the newest one of the user, or of a tool of the front end."""
    return next((each for each in reversed(messages) if isinstance(each, UserMessage | ToolMessage)), None)


def has_files(message: Message) -> bool:
    """Return whether the message has more than text."""
    content = getattr(message, "content", None)
    return isinstance(content, list) and not all(isinstance(part, TextPart) for part in content)


def earlier_texts(messages: Sequence[Message], *, until: Message | None) -> list[Json]:
    """Return the texts before a message, as messages of A2A."""
    before = list(messages[: messages.index(until)]) if until is not None else list(messages)
    roles = {UserMessage: "ROLE_USER", AssistantMessage: "ROLE_AGENT"}
    return [
        {"role": roles[type(each)], "parts": [{"text": text}]}
        for each in before
        if isinstance(each, UserMessage | AssistantMessage) and (text := text_of(each.content))
    ]


def _read(messages: Sequence[Message]) -> Iterator[Json]:
    for index, message in enumerate(messages):
        place = f"messages[{index}].content"
        match message:
            case UserMessage(content=content):
                yield {"role": "user", "content": _content(content, place)}
            case ToolMessage(content=content, tool_call_id=call_id, error=error):
                yield {"role": "tool", "tool_call_id": call_id, "content": error or text_of(content)}
            case AssistantMessage():
                yield _answer(message)
            case ActivityMessage() | ReasoningMessage():
                continue
            case _:
                yield {"role": message.__struct_config__.tag, "content": message.content}


def _answer(message: AssistantMessage) -> Json:
    said: Json = {"role": "assistant", "content": message.content}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments},
        }
        for call in message.tool_calls or ()
    ]
    return said | {"tool_calls": calls} if calls else said


def _content(content: str | list[Part], place: str) -> Any:
    if isinstance(content, str):
        return content
    return [_part(part, f"{place}[{index}]") for index, part in enumerate(content)]


def _part(part: Part, place: str) -> Json:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    source = part.source
    if isinstance(source, FileSource):
        raise InvalidParams([(f"{place}.source", "names a file at another provider; send its data or its URL")])
    is_data = isinstance(source, DataSource)
    url = f"data:{source.mime_type};base64,{source.value}" if is_data else source.value
    match part:
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": url}}
        case DocumentPart():
            return {"type": "file", "file": {"file_data": url}}
        case AudioPart() if is_data and source.mime_type in SOUNDS:
            return {"type": "input_audio", "input_audio": {"data": source.value, "format": SOUNDS[source.mime_type]}}
        case _:
            raise InvalidParams([(place, ACCEPTED)])
