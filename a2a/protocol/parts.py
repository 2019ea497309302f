"""Reads the parts of incoming messages: text and data, also those in files."""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import AsyncGenerator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import orjson
from django.conf import settings

from a2a.core.exceptions import ContentTypeNotSupported
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json, decode

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
LARGEST_EXACT: Final = 2**53
"""The largest value up to which floats represent all whole numbers."""


def readable(part: Json, index: int) -> Json:
    """Convert a part to text or data. Files must be included, as JSON or plain text.

    Raises ContentTypeNotSupported, or InvalidParams for malformed content.
    """
    media_type = part.get("mediaType", "").partition(";")[0].strip().lower()
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
