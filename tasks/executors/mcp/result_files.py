"""Images, sounds and resources in the result of a server, as files."""

from typing import Final
from urllib.parse import unquote, urlsplit

from aipartnerupflow.executors import ExecutorError, Files, Json
from tasks.executors.received_files import saved_base64

MOST: Final = 100
"""The files in one result."""
MEDIA: Final = frozenset({"image", "audio"})


async def with_saved(result: Json, files: Files) -> Json:
    """Return the result with its bytes as files: each in its part as `file`, and all in `files`. Raises ExecutorError."""
    found, parts = list[Json](), []
    for part in result.get("content", ()):
        inner = part["resource"] if isinstance(part.get("resource"), dict) else part
        field = "data" if part.get("type") in MEDIA else "blob"
        if field not in inner:
            parts.append(part)
            continue
        if len(found) == MOST:
            raise ExecutorError(f"The result of the MCP server has more than {MOST} files.", permanent=True)
        uri = inner.get("uri")
        name = unquote(urlsplit(uri).path.rpartition("/")[2]) if isinstance(uri, str) else None
        what = f"A part of the result of the MCP server, {str(part.get('type', 'resource'))[:100]},"
        file = await saved_base64(inner[field], name=name, media_type=inner.get("mimeType"), files=files, what=what)
        found.append(file)
        kept = {key: value for key, value in inner.items() if key != field} | {"file": file}
        parts.append(kept if inner is part else part | {"resource": kept})
    return result | ({"content": parts} if "content" in result else {}) | {"files": found}
