"""Files as MCP has them: blocks of content in the result of a tool, and contents of a resource.

A file is a link to a resource; a small image or sound is in the result, too, so that a model sees or hears it at once.
"""

from base64 import b64encode
from typing import Any, Final

from accounts.callers import Caller
from tasks.models import File
from tasks.rules.exceptions import FileNotFound, InvalidParams
from tasks.rules.files import FILE, named_once
from tasks.rules.strict_json import Json
from tasks.services import files

SCHEME: Final = "files://"
MOST_INLINE_BYTES: Final = 256 * 1024
"""The size of an image or a sound that is in a result."""
MOST_INLINE: Final = 4
"""The images and sounds in one result."""
MOST_READ_BYTES: Final = 4 * 2**20
"""The size of a file that is read as a resource: in memory, and in base64."""
KINDS: Final = {"image/png": "image", "image/jpeg": "image", "image/gif": "image", "image/webp": "image"}
SOUNDS: Final = "audio/"


def blocks_of(result: Any, *, caller: Caller) -> list[Json]:
    """Return the blocks for the files in a result that the caller may read. A value may name any file."""
    ids = [file[FILE] for file in named_once(result)]
    found = files.complete_files(caller=caller, file_ids=ids) if ids else {}
    blocks, inline = list[Json](), 0
    for file in (found[file_id] for file_id in ids if file_id in found):
        kind = "audio" if file.media_type.startswith(SOUNDS) else KINDS.get(file.media_type)
        if kind and inline < MOST_INLINE and (file.bytes or 0) <= MOST_INLINE_BYTES:
            inline += 1
            blocks.append({"type": kind, "data": _in_base64(file), "mimeType": file.media_type})
        blocks.append({"type": "resource_link", **described(file)})
    return blocks


def described(file: File) -> Json:
    """Return what a list of resources, and a link to one, have of a file."""
    return {"uri": f"{SCHEME}{file.id}", "name": file.name, "mimeType": file.media_type, "size": file.bytes}


def contents_of(file_id: str, *, caller: Caller) -> Json | None:
    """Return a file as the contents of a resource: as text if it is one. None: the caller has no such file.

    Raises InvalidParams for a file that is too large, or has not arrived.
    """
    try:
        file = files.get_file(caller=caller, file_id=file_id)
    except FileNotFound:
        return None
    if file.completed_at is None:
        raise InvalidParams([("uri", "the bytes of this file have not all arrived")])
    if (file.bytes or 0) > MOST_READ_BYTES:
        reason = f"the file has more than {MOST_READ_BYTES:,} bytes. Get it by HTTP: GET /files/{file.id}"
        raise InvalidParams([("uri", reason)])
    shown: Json = {"uri": f"{SCHEME}{file.id}", "mimeType": file.media_type}
    content = b"".join(files.stored_object(file).read())
    if file.media_type.startswith("text/") or file.media_type == "application/json":
        try:
            return shown | {"text": content.decode()}
        except UnicodeDecodeError:
            pass
    return shown | {"blob": b64encode(content).decode()}


def _in_base64(file: File) -> str:
    return b64encode(b"".join(files.stored_object(file).read())).decode()
