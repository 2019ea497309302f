"""Files that other servers and agents return: in base64 or by URL. They are saved for the owner of the task."""

from base64 import b64decode
from collections.abc import AsyncIterator
from mimetypes import guess_extension
from typing import Any

import httpx

from aipartnerupflow.executors import ExecutorError, Files, Json
from tasks.executors.http.file_bodies import saved_body
from tasks.executors.http.safe_http import fetch
from tasks.rules.files import MEDIA_TYPE, name_problem
from tasks.storage.file_store import on_thread


async def saved_base64(data: Any, *, name: str | None, media_type: Any, files: Files, what: str) -> Json:
    """Save bytes in base64. A name that no file can have is replaced. Raises ExecutorError, permanent, for what is no base64."""
    try:
        content = await on_thread(lambda: b64decode(data, validate=True))
    except (TypeError, ValueError):
        raise ExecutorError(f"{what} is not base64.", permanent=True) from None
    kind = media_type if isinstance(media_type, str) and MEDIA_TYPE.fullmatch(media_type) else None
    if not isinstance(name, str) or name_problem(name):
        name = f"file{guess_extension(kind or '') or ''}"
    return await files.save(name, content, media_type=kind)


async def saved_url(url: str, *, files: Files) -> Json:
    """Fetch a file within the rules for requests of tasks, without credentials, and save it as it arrives. Raises ExecutorError."""
    saved = Json()

    async def take(response: httpx.Response, parts: AsyncIterator[bytes]) -> bool:
        if response.status_code == httpx.codes.OK:
            kind = response.headers.get("content-type", "")
            saved.update(await saved_body(str(response.url), kind, parts, files))
        return bool(saved)

    reply = await fetch("GET", url, take=take)
    if not saved:
        shown = url.partition("?")[0][:200]
        raise ExecutorError(f"The file at {shown} cannot be saved: its server answered {reply.status_code}.")
    return saved
