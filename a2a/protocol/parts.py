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
    return {name: _task(value, modes) if name == "task" else _with_parts(value, modes) or value}


async def all_in_modes(pages: AsyncGenerator[list[Json]], modes: Sequence[str]) -> AsyncGenerator[list[Json]]:
    """`in_modes` of each response of a stream."""
    try:
        async for page in pages:
            if shown := [sent for response in page if (sent := _in_modes(response, modes)) is not None]:
                yield shown
    finally:
        await pages.aclose()


def _in_modes(response: Json, modes: Sequence[str]) -> Json | None:
    """Return the response; None for an update whose artifact the client does not accept."""
    if not modes or (update := response.get("artifactUpdate")) is None:
        return in_modes(response, modes)
    artifact = _with_parts(update["artifact"], modes)
    return {"artifactUpdate": update | {"artifact": artifact}} if artifact else None


def _task(task: Json, modes: Sequence[str]) -> Json:
    found = [shown for each in task.get("artifacts", []) if (shown := _with_parts(each, modes)) is not None]
    rest = {name: value for name, value in task.items() if name != "artifacts"}
    return rest | {"artifacts": found} if found else rest


def _with_parts(whole: Json, modes: Sequence[str]) -> Json | None:
    """Return an artifact or a message with its accepted parts; None if no part can be sent."""
    parts = [part for part in whole["parts"] if _accepts(modes, _type_of(part))]
    parts = parts or [converted for part in whole["parts"] for converted in _converted(part, modes)]
    return whole | {"parts": parts} if parts else None


def _type_of(part: Json) -> str:
    default = TEXT_TYPE if "text" in part else JSON_TYPE if "data" in part else UNKNOWN_TYPE
    kind: str = part.get("mediaType") or default
    return kind


def _converted(part: Json, modes: Sequence[str]) -> list[Json]:
    """Return the part as text or data. Files have no other form."""
    rest: dict[str, Any] = {"metadata": part["metadata"]} if "metadata" in part else {}
    if "data" in part and _accepts(modes, TEXT_TYPE):
        return [{"text": orjson.dumps(part["data"]).decode()} | rest]
    if "text" in part and _accepts(modes, JSON_TYPE):
        return [{"data": part["text"]} | rest]
    return []


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
    return _content(part["raw"], media_type, index) if "raw" in part else part


def _with_whole_numbers(value: Any) -> Any:
    """Return the value with 2 for 2.0: Protocol Buffers, as in the official clients, have only floats."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(item) for item in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_EXACT
    return int(value) if is_whole else value


def _content(raw: str, media_type: str, index: int) -> Json:
    try:
        content = b64decode(raw, validate=True)
        if media_type == JSON_TYPE:
            return {"data": decode(content, nesting=settings.APFLOW.limits.nesting)}
        return {"text": content.decode().replace("\0", "")}
    except (NotBase64, ValueError) as error:
        raise InvalidParams(
            [(f"message.parts[{index}].raw", f"is not {media_type or TEXT_TYPE} in base64: {error}")]
        ) from None
