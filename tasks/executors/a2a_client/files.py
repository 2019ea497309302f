"""Files for an agent, and those that it returns, as parts of A2A 1.0."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

from aipartnerupflow.executors import ExecutorError, Files, Json
from tasks.executors.received_files import saved_base64, saved_url

MOST_SENT_BYTES: Final = 6 * 2**20
"""The bytes of all files of a message: in base64 they fit into a body of 10 MiB, which servers such as this one take."""
MOST: Final = 100
"""The files that an agent may return."""


async def sent_files(given: Sequence[Json], files: Files) -> list[Json]:
    """Return files as parts with their bytes: an agent can rarely fetch what this server has. Raises ExecutorError."""
    known = [await files.info(file) for file in given]
    if sum(file["bytes"] for file in known) > MOST_SENT_BYTES:
        raise ExecutorError(
            f"inputs.files have more than {MOST_SENT_BYTES:,} bytes together. Send the agent a link to larger ones.",
            permanent=True,
        )
    return [
        {
            "raw": b64encode(await files.read(file, most_bytes=MOST_SENT_BYTES)).decode(),
            "filename": file["name"],
            "mediaType": file["media_type"],
        }
        for file in known
    ]


async def with_saved(result: Json, files: Files) -> Json:
    """Return the result with its files saved: each is the `file` of its part, and all are in `files`. Raises ExecutorError."""
    found = list[Json]()

    async def saved(part: Json) -> Json:
        raw, url = part.get("raw"), part.get("url")
        if raw is None and url is None:
            return part
        if len(found) == MOST:
            raise ExecutorError(f"The agent returned more than {MOST} files.", permanent=True)
        if raw is not None:
            name, kind = part.get("filename"), part.get("mediaType")
            file = await saved_base64(raw, name=name, media_type=kind, files=files, what="A file of the agent")
        else:
            file = await saved_url(str(url), files=files)
        found.append(file)
        return {key: value for key, value in part.items() if key not in ("raw", "url")} | {"file": file}

    async def whole(each: Json) -> Json:
        return each | {"parts": [await saved(part) for part in each.get("parts", ())]}

    artifacts = [await whole(artifact) for artifact in result["artifacts"]]
    message = {"message": await whole(result["message"])} if "message" in result else {}
    return result | {"artifacts": artifacts} | message | {"files": found}
