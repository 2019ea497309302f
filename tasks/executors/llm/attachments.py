"""Images, documents and sounds in messages: their schema, and those behind an address are fetched.

The provider never gets an address: our own client, which keeps out of the operator's network,
fetches the file, and it is sent as data.
"""

import asyncio
import base64
from collections.abc import Sequence
from typing import Final

from aipartnerupflow.executors import ExecutorError, Files, Json
from aipartnerupflow.executors.http import Fetch
from tasks.rules.files import FILE, FILE_SCHEMA, is_file

MAX_FILES: Final = 16
MAX_FILE_BYTES: Final = 10 * 2**20
ADDRESSES: Final = ("https://", "http://")
TEXT: Final[Json] = {"type": "string"}


def _part(kind: str, description: str, fields: Json, *, needs: str) -> Json:
    return {
        "type": "object",
        "description": description,
        "properties": {
            "type": {"const": kind},
            kind: {"type": "object", "properties": fields, "required": [needs], "additionalProperties": False},
        },
        "required": ["type", kind],
    }


PART: Final[Json] = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": TEXT},
            "required": ["type", "text"],
        },
        _part(
            "image_url",
            "An image: its address, data:image/…, or a place such as {{draw.image}}",
            {
                "url": {"type": "string", "pattern": r"^(data:image/|https?://|\{\{)"},
                "detail": {"enum": ["auto", "low", "high"]},
            },
            needs="url",
        ),
        _part(
            "file",
            "A document, such as a PDF: its address, data:application/pdf;base64,…, or a place",
            {"file_data": {"type": "string", "pattern": r"^(data:|https?://|\{\{)"}, "filename": TEXT},
            needs="file_data",
        ),
        {
            "type": "object",
            "description": "A file: an image, a sound, a text or a document, by its media type",
            "properties": {"type": {"const": "file"}, "file": FILE_SCHEMA},
            "required": ["type", "file"],
        },
        _part(
            "input_audio",
            "A sound in base64, or a place",
            {"data": {"type": "string", "minLength": 1}, "format": {"enum": ["wav", "mp3"]}},
            needs="data",
        ),
    ]
}
#: Where in a part the file is.
PLACES: Final = {"image_url": "url", "file": "file_data", "input_audio": "data"}
SOUNDS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
KINDS: Final = {"image_url": "data:image/", "file": "data:"}


def file_of(part: Json) -> str | None:
    """Return the file of a part as it is given: an address, data or a place. None: it is a text."""
    kind = part.get("type", "")
    file = part[kind].get(PLACES[kind]) if kind in PLACES and isinstance(part.get(kind), dict) else None
    return file if isinstance(file, str) else None


def with_file(part: Json, file: str) -> Json:
    kind = part["type"]
    return part | {kind: part[kind] | {PLACES[kind]: file}}


async def with_files(messages: Sequence[Json], fetch: Fetch, files: Files) -> list[Json]:
    """Return the messages with their files, and those behind addresses, as data. Raises ExecutorError."""
    named = {part["file"][FILE]: part["file"] for part in _parts(messages) if _is_named(part)}
    if len(named) > MAX_FILES:
        raise ExecutorError(f"The messages have more than {MAX_FILES} files.", permanent=True)
    read = {file_id: await _read(file, files) for file_id, file in named.items()}
    addresses = {file for part in _parts(messages) if (file := file_of(part)) and file.startswith(ADDRESSES)}
    if len(addresses) > MAX_FILES:
        raise ExecutorError(f"The messages have more than {MAX_FILES} addresses of files.", permanent=True)
    found = dict(
        zip(addresses, await asyncio.gather(*(_fetched(address, fetch) for address in addresses)), strict=True)
    )
    filled = list[Json]()
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            content = [read[part["file"][FILE]] if _is_named(part) else _checked(part, found) for part in content]
        filled.append(message | {"content": content})
    return filled


def _is_named(part: Json) -> bool:
    """Return whether the part is a file of the owner of the task."""
    return part.get("type") == "file" and is_file(part.get("file"))


async def with_attached(messages: Sequence[Json], given: Sequence[Json], files: Files) -> list[Json]:
    """Return the messages with files as parts of the last one, each in the form that its media type has. Raises ExecutorError."""
    *before, last = messages or [{"role": "user", "content": ""}]
    content = last.get("content") or []
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    parts += [await _read(file, files) for file in given]
    return [*before, last | {"content": parts}]


async def _read(file: Json, files: Files) -> Json:
    known = await files.info(file)
    return _attached(known["name"], known["media_type"], await files.read(known, most_bytes=MAX_FILE_BYTES))


def _attached(name: str, media_type: str, data: bytes) -> Json:
    encoded = base64.b64encode(data).decode()
    if media_type.startswith("text/"):
        text = data.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
        return {"type": "text", "text": f"{name}:\n{text}"}
    if media_type.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{encoded}"}}
    if media_type in SOUNDS:
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": SOUNDS[media_type]}}
    return {"type": "file", "file": {"file_data": f"data:{media_type};base64,{encoded}", "filename": name}}


def _checked(part: Json, found: dict[str, str]) -> Json:
    file = file_of(part)
    if file is None:
        return part
    data = found.get(file, file)
    if not data.startswith(KINDS.get(part["type"], "")):
        raise ExecutorError(
            f"A part of the messages, {part['type']}, is neither an address nor {KINDS[part['type']]}…: {data[:40]}",
            permanent=True,
        )
    return with_file(part, data)


def _parts(messages: Sequence[Json]) -> list[Json]:
    contents = [message.get("content") for message in messages]
    return [part for content in contents if isinstance(content, list) for part in content]


async def _fetched(address: str, fetch: Fetch) -> str:
    """Return the file as a data URL. Raises ExecutorError."""
    response = await fetch("GET", address, max_body_bytes=MAX_FILE_BYTES)
    shown = response.url.partition("?")[0][:200]
    if response.status_code != 200:
        raise ExecutorError(
            f"The file at {shown} cannot be sent to the model: its server answered {response.status_code}.",
            permanent=response.status_code < 500 and response.status_code != 429,
        )
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not media_type or not response.body:
        raise ExecutorError(
            f"The file at {shown} cannot be sent to the model: it is empty or has no type.", permanent=True
        )
    return f"data:{media_type};base64,{base64.b64encode(response.body).decode()}"


def sounds_in(messages: Sequence[Json]) -> list[str]:
    """Return the sounds in the messages, in base64."""
    return [file for part in _parts(messages) if part.get("type") == "input_audio" and (file := file_of(part))]
