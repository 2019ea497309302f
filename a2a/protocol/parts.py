"""Reads the parts of incoming messages: text and data, also those in files."""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import AsyncGenerator, Iterator, Sequence
from fnmatch import fnmatchcase
from mimetypes import guess_type
from typing import TYPE_CHECKING, Any, Final

import orjson
from django.conf import settings

from a2a.core.exceptions import ContentTypeNotSupported
from tasks.rules.exceptions import InvalidParams
from tasks.rules.files import is_file
from tasks.rules.strict_json import Json, decode

if TYPE_CHECKING:
    from a2a.protocol.params import Part

JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain"
OUTPUT_MODES: Final = (JSON_TYPE, TEXT_TYPE)
UNKNOWN_TYPE: Final = "application/octet-stream"


def check_modes(modes: Sequence[str]) -> None:
    """Raise ContentTypeNotSupported if the client accepts nothing that every result can be sent as."""
    if modes and not any(_accepts(modes, kind) for kind in OUTPUT_MODES):
        raise ContentTypeNotSupported(
            f"configuration.acceptedOutputModes has none of the media types of this server: {', '.join(OUTPUT_MODES)}. "
            "Add one of them, or omit the field."
        )


def in_modes(response: Json, modes: Sequence[str]) -> Json:
    """Return a response with the parts that the client accepts.

    Without any accepted part, data is converted to text and text to data. An artifact with neither
    is left out; a message that has neither stays as it is.
    """
    ((name, value),) = response.items()
    if not modes or name == "statusUpdate":
        return response
    if name != "task":
        return {name: _with_parts(value, modes) or value}
    artifacts = [found for each in value.get("artifacts", []) if (found := _with_parts(each, modes)) is not None]
    task = {field: content for field, content in value.items() if field != "artifacts"}
    return {name: task | {"artifacts": artifacts} if artifacts else task}


async def all_in_modes(pages: AsyncGenerator[list[Json]], modes: Sequence[str]) -> AsyncGenerator[list[Json]]:
    """Yield the responses of a stream as `in_modes` does, without the updates whose artifact the client does not accept."""
    try:
        async for page in pages:
            sent = []
            for response in page:
                update = response.get("artifactUpdate")
                if not modes or update is None:
                    sent.append(in_modes(response, modes))
                elif artifact := _with_parts(update["artifact"], modes):
                    sent.append({"artifactUpdate": update | {"artifact": artifact}})
            if sent:
                yield sent
    finally:
        await pages.aclose()


def _with_parts(whole: Json, modes: Sequence[str]) -> Json | None:
    """Return an artifact or a message with its accepted parts; None if no part can be sent."""
    accepted, converted = [], list[Json]()
    for part in whole["parts"]:
        default = TEXT_TYPE if "text" in part else JSON_TYPE if "data" in part else UNKNOWN_TYPE
        rest: Json = {"metadata": part["metadata"]} if "metadata" in part else {}
        if _accepts(modes, part.get("mediaType") or default):
            accepted.append(part)
        elif is_file_part(part) and _accepts(modes, JSON_TYPE):
            accepted.append({"data": part["data"]} | rest)
        elif "data" in part and _accepts(modes, TEXT_TYPE):
            converted.append({"text": orjson.dumps(part["data"]).decode()} | rest)
        elif "text" in part and _accepts(modes, JSON_TYPE):
            converted.append({"data": part["text"]} | rest)
    parts = accepted or converted
    return whole | {"parts": parts} if parts else None


def _accepts(modes: Sequence[str], kind: str) -> bool:
    """Return whether a media type is among the modes, which may be patterns: `text/*`, or `text` for short."""
    bare = _bare(kind)
    return any(fnmatchcase(bare, pattern if "/" in pattern else f"{pattern}/*") for pattern in map(_bare, modes))


def _bare(kind: str) -> str:
    """Return the media type without its parameters."""
    return kind.partition(";")[0].strip().lower()


INPUT_MODES: Final = (JSON_TYPE, TEXT_TYPE)
"""The types of what is read as data or text, and not saved as a file."""


def of_file(file: Json) -> Json:
    """Return a file as our file part, which `file_parts` makes a link of for clients."""
    return {"data": file, "filename": file.get("name"), "mediaType": file.get("media_type")}


def is_file_part(part: Json) -> bool:
    """Return whether it is a file part as we store it."""
    return "filename" in part and is_file(part.get("data"))


def has_file_part(response: Json) -> bool:
    """Return whether a result or an item of a stream has one of our file parts."""
    return any(is_file_part(part) for whole in wholes(response) for part in whole["parts"])


def wholes(response: Json) -> Iterator[Json]:
    """Yield what has parts in a result: the messages and artifacts of a Task, of a page of Tasks, or of an item of a stream."""
    for task in (response, response.get("task", {}), *response.get("tasks", ())):
        yield from task.get("artifacts", ())
        yield from task.get("history", ())
        yield from _said(task.get("status"))
    yield from _said(response)
    if update := response.get("artifactUpdate"):
        yield update["artifact"]
    if update := response.get("statusUpdate"):
        yield from _said(update["status"])


def _said(status: object) -> Iterator[Json]:
    if isinstance(status, dict) and isinstance(message := status.get("message"), dict):
        yield message


def is_data(part: Json) -> bool:
    """Return whether it is a data part, and no file part."""
    return "data" in part and not is_file_part(part)


def sends_file(part: "Part") -> bool:
    """Return whether a part of a message has the bytes of a file, which are neither data nor text to read."""
    kind = _bare(part.media_type or guess_type(part.filename or "")[0] or TEXT_TYPE)
    return bool(part.raw) and kind not in INPUT_MODES


LARGEST_EXACT: Final = 2**53
"""The largest value up to which floats represent all whole numbers."""


def readable(part: Json, index: int) -> Json:
    """Convert a part to text or data, also one in a file of JSON or plain text. All other files are no text.

    Raises ContentTypeNotSupported, or InvalidParams for malformed content.
    """
    media_type = _bare(part.get("mediaType", ""))
    if media_type and media_type not in INPUT_MODES and not ("text" in part and media_type.startswith("text/")):
        raise ContentTypeNotSupported(
            f"message.parts[{index}]: the media type {media_type!r} is not supported. Send {' or '.join(INPUT_MODES)}."
        )
    if "data" in part:
        return part | {"data": _with_whole_numbers(part["data"])}
    if "url" in part:
        raise ContentTypeNotSupported(f"message.parts[{index}]: files by URL are not supported. Send the content.")
    if "raw" not in part:
        return part
    try:
        content = b64decode(part["raw"], validate=True)
        if media_type == JSON_TYPE:
            return {"data": decode(content, nesting=settings.APFLOW.limits.nesting)}
        return {"text": content.decode().replace("\0", "")}
    except (NotBase64, ValueError) as error:
        raise InvalidParams(
            [(f"message.parts[{index}].raw", f"is not {media_type or TEXT_TYPE} in base64: {error}")]
        ) from None


def _with_whole_numbers(value: Any) -> Any:
    """Return the value with 2 for 2.0: Protocol Buffers, as in the official clients, have only floats."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT
    return int(value) if is_whole else value
