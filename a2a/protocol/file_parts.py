"""File parts: those of a message are saved as files of the caller, and files in results become parts with a signed link.

Between both, a file part is `{"data": <the file>, "filename", "mediaType"}`: so it is stored, and message handlers get it.
"""

from collections.abc import Callable
from urllib.parse import quote, urlsplit

from msgspec import structs

from a2a.methods.files import path_of
from a2a.methods.sent_files import SentFiles
from a2a.protocol.params import Message, Part
from a2a.protocol.parts import is_file_part, of_file, sends_file, wholes
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import File
from tasks.rules.files import FILE
from tasks.rules.strict_json import Json
from tasks.services import files


async def with_saved(message: Message, sent: SentFiles, *, url: Callable[[], str]) -> Message:
    """Return the message with each file that it has, or that it names by its address on this server, as our file part.

    Other addresses stay. Raises InvalidParams, LimitReached and FileTooLarge.
    """
    parts = []
    for index, part in enumerate(message.parts):
        value = None
        if sends_file(part):
            value = await sent.save(
                str(part.raw),
                name=part.filename or None,
                media_type=part.media_type or None,
                field=f"message.parts[{index}].raw",
            )
        elif part.url and (file_id := _id_in(part.url, url())):
            found = await pools.read(files.complete_files, caller=sent.caller, file_ids=[file_id])
            value = found[file_id].value if file_id in found else None
        parts.append(part if value is None else _as_part(part, value))
    return structs.replace(message, parts=parts)


def _as_part(part: Part, file: Json) -> Part:
    return Part(data=file, filename=file["name"], media_type=file["media_type"], metadata=part.metadata)


def _id_in(url: str, base: str) -> str | None:
    """Return the id in an address of `/files/` of this server."""
    start = f"{base.rstrip('/')}/files/"
    return urlsplit(url).path.rpartition("/")[2] if base and url.startswith(start) else None


def with_links(response: Json, *, caller: Caller, url: str) -> Json:
    """Return the response with a signed link in place of each of our file parts. Call it on a thread that may read.

    A value in a result may name any file: only those that the caller may read get a link. Without the URL of this server,
    and for all others, the part has the value as data.
    """
    wanted = {part["data"][FILE] for whole in wholes(response) for part in whole["parts"] if is_file_part(part)}
    found = files.complete_files(caller=caller, file_ids=sorted(wanted)) if wanted and url else {}
    for whole in wholes(response):
        whole["parts"] = [
            _linked(part, found.get(part["data"][FILE]), url) if is_file_part(part) else part for part in whole["parts"]
        ]
    return response


def _linked(part: Json, file: File | None, url: str) -> Json:
    rest: Json = part.get("metadata", {})
    if file is None:
        return {"data": part["data"]} | ({"metadata": rest} if rest else {})
    shown = of_file(file.value)
    link = f"{url.rstrip('/')}{path_of(file)}?link={quote(files.link_to(file).token)}"
    return (
        {"url": link}
        | {name: shown[name] for name in ("filename", "mediaType")}
        | {"metadata": rest | {"file": file.value}}
    )
