"""The attachments of messages: their data is saved as files of the caller, so that trees and the history do not contain it."""

from typing import Final

from msgspec import structs

from a2a.agui.params import (
    AudioPart,
    DataSource,
    DocumentPart,
    ImagePart,
    Message,
    Part,
    RunAgentInput,
    SavedSource,
    UserMessage,
)
from a2a.methods.sent_files import SentFiles
from tasks.rules.files import FILE

SOUNDS: Final = frozenset({"audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3"})


def has_data(given: RunAgentInput) -> bool:
    """Return whether a message of the user has an attachment with its data."""
    return any(
        _is_saved(part)
        for message in given.messages
        if isinstance(message, UserMessage) and isinstance(message.content, list)
        for part in message.content
    )


async def with_saved(given: RunAgentInput, sent: SentFiles) -> RunAgentInput:
    """Return the request with a file for each attachment with its data. Raises the errors of `SentFiles.save`."""
    messages = [await _saved(message, sent, f"messages[{index}]") for index, message in enumerate(given.messages)]
    return structs.replace(given, messages=messages)


async def _saved(message: Message, sent: SentFiles, place: str) -> Message:
    if not isinstance(message, UserMessage) or isinstance(message.content, str):
        return message
    parts = list[Part]()
    for index, part in enumerate(message.content):
        if _is_saved(part):
            assert isinstance(part, ImagePart | DocumentPart | AudioPart)  # noqa: S101  (as _is_saved says)
            source = part.source
            assert isinstance(source, DataSource)  # noqa: S101
            field = f"{place}.content[{index}].source.value"
            file = await sent.save(source.value, name=None, media_type=source.mime_type, field=field)
            part = structs.replace(part, source=SavedSource(value=file[FILE], whole=file))
        parts.append(part)
    return structs.replace(message, content=parts)


def _is_saved(part: Part) -> bool:
    """Return whether a part has data that a model or an executor may get. Others are refused later, by name."""
    if not isinstance(part, ImagePart | DocumentPart | AudioPart) or not isinstance(part.source, DataSource):
        return False
    return not isinstance(part, AudioPart) or part.source.mime_type in SOUNDS
