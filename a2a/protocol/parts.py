"""Reads the parts of incoming messages: text and data, also those in files."""

from base64 import b64decode
from binascii import Error as NotBase64
from typing import Any, Final

from django.conf import settings

from a2a.core.exceptions import ContentTypeNotSupported
from a2a.protocol.output_modes import JSON_TYPE, TEXT_TYPE
from tasks.rules.exceptions import InvalidParams
from tasks.rules.strict_json import Json, decode

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
