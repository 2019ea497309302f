"""Bodies of HTTP requests and responses that are files: sent, and saved, as streams."""

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from aipartnerupflow.executors import Files, Json
from aipartnerupflow.executors.files import is_file
from tasks.rules.files import media_type_of, name_problem

UNNAMED: Final = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedBody:
    """A body of a known size, and its type."""

    content_type: str
    size: int
    parts: AsyncIterator[bytes]


async def body_of_file(file: Json, files: Files) -> StreamedBody:
    """Return a file as a body. Raises ExecutorError."""
    known = await files.info(file)
    return StreamedBody(content_type=known["media_type"], size=known["bytes"], parts=files.stream(file))


async def multipart_body(fields: Mapping[str, Any], files: Files) -> StreamedBody:
    """Return a form with fields and files (RFC 7578) as a body. Raises ExecutorError."""
    boundary = f"apflow-{os.urandom(16).hex()}"
    pieces: list[bytes | Json] = []
    size = 0
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
            if is_file(each):
                known = await files.info(each)
                head += f'; filename="{_quoted(known["name"])}"\r\nContent-Type: {known["media_type"]}\r\n\r\n'
                pieces += [head.encode(), known, b"\r\n"]
                size += known["bytes"]
            else:
                text = {True: "true", False: "false", None: ""}.get(each, each) if not isinstance(each, str) else each
                pieces.append(f"{head}\r\n\r\n{text}\r\n".encode())
    pieces.append(f"--{boundary}--\r\n".encode())
    size += sum(len(piece) for piece in pieces if isinstance(piece, bytes))

    async def parts() -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                async for part in files.stream(piece):
                    yield part

    return StreamedBody(content_type=f"multipart/form-data; boundary={boundary}", size=size, parts=parts())


def _quoted(text: str) -> str:
    """Return a name in a header of a form, as browsers write it (HTML, section 4.10.22.8)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


async def saved_body(url: str, content_type: str, parts: AsyncIterator[bytes], files: Files) -> Json:
    """Save the body of a response under the last part of its URL, and return the file. Raises ExecutorError."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if name_problem(name):
        name = UNNAMED
    return await files.save(name, parts, media_type=media_type_of(name, content_type))
