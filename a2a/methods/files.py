"""Methods for files. Their bytes arrive at, and are read from, `/files` (`a2a.endpoints.files`)."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from msgspec import Meta

from a2a.core.mapping import native_time
from a2a.core.parsing import Params, Text
from a2a.methods.method import OPERATOR, VIEWER, Response, Rest, method
from a2a.methods.results import DataResult
from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import File
from tasks.rules import exceptions as errors
from tasks.rules.files import FILE, MEDIA_TYPE, SHA256
from tasks.rules.strict_json import Json
from tasks.services import files
from tasks.services.history import own_run
from tasks.storage.file_store import on_thread

MOST_LISTED: Final = 1_000
FileName = Annotated[str, Meta(min_length=1, max_length=255, extra_json_schema={"pattern": r"^[^/\\\x00-\x1f]+$"})]
Sha256 = Annotated[str, Meta(pattern=f"^{SHA256.pattern}$")]


class CreateFile(Params, frozen=True, kw_only=True):
    """files.create"""

    name: FileName
    bytes: Annotated[int, Meta(ge=0, le=2**50)]
    media_type: Annotated[str, Meta(pattern=f"^{MEDIA_TYPE.pattern}$")] | None = None
    """Default: the usual one of the name."""
    sha256: Sha256 | None = None
    """In hexadecimal. Bytes with another one are refused."""


class OneFile(Params, frozen=True, kw_only=True):
    """The file that a method is about."""

    file_id: Text


class ListFiles(Params, frozen=True, kw_only=True):
    """files.list"""

    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 100
    cursor: Text | None = None
    run_id: Text | None = None
    """Only files that the tree of this run names: in inputs, in results, or made by its tasks."""


class LinkFile(Params, frozen=True, kw_only=True):
    """files.link"""

    file_id: Text
    minutes: Annotated[int, Meta(ge=1, le=10_080)] | None = None
    """Default and most: `files.link_minutes`."""


class FileValue(Response, frozen=True, kw_only=True, rename={"file": FILE}):
    """A file as a value, as inputs may have it. `$file` is its id."""

    file: str
    name: str
    media_type: str
    bytes: int
    sha256: str


class FileInfo(Response, frozen=True, kw_only=True):
    """A file. While it is not complete, `received` of its bytes have arrived, and `PUT` at its `url` continues there.

    `file` is the value by which inputs name it, null until it is complete.
    """

    id: str
    name: str
    media_type: str
    bytes: int | None
    sha256: str | None
    user_id: str
    created_at: str
    is_complete: bool
    url: str
    file: FileValue | None
    received: int | None = None


class Files(Response, frozen=True, kw_only=True):
    """A page of files, the newest first, and the bytes that the caller's files take of `limits.file_bytes_per_user`."""

    files: list[FileInfo]
    next_cursor: str | None
    used_bytes: int


class FileDeleted(Response, frozen=True, kw_only=True):
    """The file is deleted."""

    file_id: str


class FileLink(Response, frozen=True, kw_only=True):
    """A URL with which a browser may read the file until `expires_at`, without a login."""

    url: str
    expires_at: str


@method(
    "files.create",
    role=OPERATOR,
    answer=FileInfo,
    rest=[Rest("createFile", "POST files/", answers={201: FileInfo}, rules={"required": ["name", "bytes"]})],
)
async def create_file(caller: Caller, given: CreateFile) -> DataResult:
    """Announce a file, whose bytes then follow with `PUT` at its `url`, in one request or several."""
    file = await pools.write(
        files.create_file,
        caller=caller,
        name=given.name,
        media_type=given.media_type,
        size=given.bytes,
        sha256=given.sha256,
    )
    return DataResult(native=native_file(file) | {"received": 0})


@method(
    "files.get",
    role=VIEWER,
    answer=FileInfo,
    rest=[Rest("getFile", "GET files/<file_id>/")],
)
async def get_file(caller: Caller, given: OneFile) -> DataResult:
    """Return a file: its name, type, size and hash, and while it is not complete, how many bytes have arrived."""
    file = await pools.read(files.get_file, caller=caller, file_id=given.file_id)
    shown = native_file(file)
    return DataResult(native=shown | {"received": await on_thread(files.received, file)})


@method(
    "files.list",
    role=VIEWER,
    answer=Files,
    rest=[Rest("listFiles", "GET files/", errors=(errors.RunNotFound,))],
)
def list_files(caller: Caller, given: ListFiles) -> DataResult:
    """List the files, or those of a run, the newest first."""
    root_id = None if given.run_id is None else own_run(caller=caller, run_id=given.run_id).root_id
    found = files.list_files(caller=caller, limit=given.limit + 1, after=given.cursor, root_id=root_id)
    page = found[: given.limit]
    native = {
        "files": [native_file(each) for each in page],
        "next_cursor": page[-1].id if len(found) > given.limit else None,
        "used_bytes": files.space_of(caller.user_id),
    }
    return DataResult(native=native)


@method(
    "files.delete",
    role=OPERATOR,
    answer=FileDeleted,
    rest=[Rest("deleteFile", "DELETE files/<file_id>/", errors=(errors.CannotDelete,))],
)
async def delete_file(caller: Caller, given: OneFile) -> DataResult:
    """Delete a file that no tree and no flow names."""
    await remove(await pools.write(files.delete_file, caller=caller, file_id=given.file_id))
    return DataResult(native={"file_id": given.file_id})


@method(
    "files.link",
    role=VIEWER,
    answer=FileLink,
    rest=[Rest("linkFile", "POST files/<file_id>/link/", errors=(errors.StatusConflict,))],
)
async def link_file(caller: Caller, given: LinkFile, *, url: Any) -> DataResult:
    """Return a link with which a browser, or another program, may read the file for some minutes without a login."""
    file = files.complete(await pools.read(files.get_file, caller=caller, file_id=given.file_id))
    link = files.link_to(file, minutes=given.minutes)
    found = f"{url().rstrip('/')}{path_of(file)}?link={quote(link.token)}"
    return DataResult(native={"url": found, "expires_at": native_time(link.expires_at)})


async def remove(doomed: files.Doomed) -> None:
    """Remove objects that nothing refers to any more. After a crash in between, housekeeping does."""
    if doomed:
        await on_thread(files.remove_objects, doomed)
        await pools.write(files.forget_objects, doomed)


def native_file(file: File) -> Json:
    """Return what replies have of a file."""
    return {
        "id": file.id,
        "name": file.name,
        "media_type": file.media_type,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "user_id": file.user_id,
        "created_at": native_time(file.created_at),
        "is_complete": file.completed_at is not None,
        "url": path_of(file),
        "file": None if file.completed_at is None else file.value,
    }


def path_of(file: File) -> str:
    """Return the path of the bytes of a file, from the base URL of the server."""
    return f"/files/{file.id}"
