"""The bytes of files: `POST /files`, and `GET`, `HEAD` and `PUT /files/{id}`. They stream, in constant memory, both ways.

The body of an upload is read here, as it arrives (`BODY` in the scope), and not before the view as all other bodies.
"""

import re
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from a2a.core.exceptions import UnsupportedMediaType
from a2a.core.http import json_response, refusal, require_method
from a2a.live.stream_limits import open_streams
from a2a.methods.dispatch import require
from a2a.methods.files import native_file, path_of, remove
from accounts.auth import authenticate
from accounts.callers import Caller, Role
from apflow_site.db import pools
from apflow_site.db.calls import working_for
from tasks.models import File
from tasks.rules.exceptions import FileDiffers, FileTooLarge, InvalidParams, LimitReached
from tasks.rules.files import SHA256, safe_type
from tasks.services import files
from tasks.services.files import Receiving
from tasks.storage.file_store import on_thread

BODY: Final = "apflow.receive"
"""The name in the ASGI scope under which the view finds what receives the body of its request."""
TOGETHER_BYTES: Final = 2**20
"""The bytes of an upload that are written together."""
TOUCHED_SECONDS: Final = 60.0
"""The seconds after which an upload notes that it is alive."""
FORM: Final = "application/x-www-form-urlencoded"
"""The type that curl sends by default."""
RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
OFFSET: Final = re.compile("[0-9]{1,18}")
POLICY: Final = "sandbox; default-src 'none'; frame-ancestors 'self'"
OF_NEW: Final = ("name", "media_type", "sha256")

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class ClientLeft(Exception):
    """The client has left before the end of the body."""


@csrf_exempt
async def new_file(request: HttpRequest) -> HttpResponseBase:
    """`POST /files?name=`: store the body as a file, and return it as a value."""
    try:
        require_method(request, "POST")
        caller = await _who_may_write(request)
        given = _query(request, OF_NEW)
        if "name" not in given:
            raise InvalidParams([("name", "required, in the query: /files?name=report.pdf")])
        if "sha256" in given and not SHA256.fullmatch(given["sha256"]):
            raise InvalidParams([("sha256", "must have 64 hexadecimal digits")])
        size = _length(request)
        files.refuse_large(size or 0)
        sent = "" if (request.content_type or "") == FORM else request.headers.get("Content-Type", "")
        with open_streams().one_of(caller):
            file = await pools.write(
                files.create_file,
                caller=caller,
                name=given["name"],
                media_type=given.get("media_type") or sent,
                size=size,
                sha256=given.get("sha256"),
            )
            try:
                file = await _receive(request, file, at=0)
            except BaseException:
                await remove(await pools.write(files.give_up, file))
                raise
        return json_response(file.value, status=201)
    except ClientLeft:
        return HttpResponse(status=400)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)


@csrf_exempt  # the permit in the form grants the right to send files; no cookie is used
async def announced_file(request: HttpRequest) -> HttpResponseBase:
    """Announce a file that was chosen in a form (`POST /ui/files/`), and return the URL to which its bytes are sent."""
    try:
        require_method(request, "POST")
        given = {name: request.POST.get(name, "") for name in ("permit", "name", "bytes", "media_type")}
        if problems := [(name, "contains a NUL character") for name, value in given.items() if "\0" in value]:
            raise InvalidParams(problems)
        if not OFFSET.fullmatch(given["bytes"]):
            raise InvalidParams([("bytes", "must be the size of the file")])
        owner = await pools.auth(files.permitted_owner, given["permit"])
        working_for.set(owner)
        file = await pools.write(
            files.create_file,
            caller=Caller(user_id=owner),
            name=given["name"],
            media_type=given["media_type"],
            size=int(given["bytes"]),
        )
        return json_response({"url": f"{path_of(file)}?upload={quote(files.upload_token(file))}"}, status=201)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)


@csrf_exempt
async def file_bytes(request: HttpRequest, file_id: str) -> HttpResponseBase:
    """`GET /files/{id}`: the bytes, or a range of them. `PUT`: the bytes of a file that was announced, from `Upload-Offset`."""
    try:
        require_method(request, "GET", "HEAD", "PUT")
        if request.method == "PUT":
            return await _put(request, file_id)
        given = _query(request, ("link",))
        if "link" in given:
            file = await pools.read(files.linked_file, file_id, token=given["link"])
            return await _download(request, file, reader=Caller(user_id=file.user_id))
        caller = await authenticate(request)
        file = await pools.read(files.get_file, caller=caller, file_id=file_id)
        return await _download(request, file, reader=caller)
    except ClientLeft:
        return HttpResponse(status=400)
    except Exception as error:  # noqa: BLE001  the protocol edge: every error gets its code, unknown ones the log
        return refusal(error)


# --- upload ---


async def _who_may_write(request: HttpRequest) -> Caller:
    """Return the caller. Raises AuthenticationFailed and RoleTooLow."""
    caller = await authenticate(request)
    require(caller, Role.OPERATOR, what=f"{request.method} /files")
    return caller


async def _put(request: HttpRequest, file_id: str) -> HttpResponseBase:
    given = _query(request, ("upload",))
    caller = None if "upload" in given else await _who_may_write(request)
    offset = request.headers.get("Upload-Offset", "0")
    if not OFFSET.fullmatch(offset):
        raise InvalidParams([("Upload-Offset", "must be the number of bytes that have arrived")])
    if caller is None:
        file = await pools.read(files.file_to_send, file_id, token=given["upload"])
        caller = Caller(user_id=file.user_id)
    else:
        file = await pools.read(files.get_file, caller=caller, file_id=file_id)
    is_known = file.completed_at is not None and _length(request) == 0 and int(offset) == file.bytes
    if not is_known:  # else the client has missed the response to its last bytes
        with open_streams().one_of(caller):
            file = await _receive(request, file, at=int(offset))
    return json_response(native_file(file) | {"received": await on_thread(files.received, file)})


async def _receive(request: HttpRequest, file: File, *, at: int) -> File:
    """Write the body at the end of the file, and complete it if it has all its bytes.

    The file is deleted if its bytes are too many, or have another hash. If the client leaves, the bytes that have arrived stay.
    """
    receive: Receive = request.scope[BODY]  # type: ignore[attr-defined]  # only ASGI has a scope
    receiving = await on_thread(Receiving, file, at=at, length=_length(request))
    noted, is_kept = time.monotonic(), True
    try:
        while at and await on_thread(receiving.take_up):
            pass
        async for data in _together(receive):
            size = receiving.size + len(data)
            if time.monotonic() - noted > TOUCHED_SECONDS or (file.bytes is None and size > file.stored.bytes):
                await pools.write(files.keep_space, file, size=size)
                noted = time.monotonic()
            await on_thread(receiving.write, data)
        if file.bytes is not None and receiving.size < file.bytes:
            return file
        await on_thread(receiving.complete)
        completed, doomed = await pools.write(files.complete_file, file, size=receiving.size, sha256=receiving.sha256)
    except (FileDiffers, FileTooLarge, LimitReached):
        is_kept = False
        await remove(await pools.write(files.give_up, file))
        raise
    finally:
        await on_thread(receiving.close, keep=is_kept)
    await remove(doomed)
    return completed


async def _together(receive: Receive) -> AsyncGenerator[bytes]:
    """Yield the body, TOGETHER_BYTES at a time. Raises ClientLeft."""
    parts, size, has_more = list[bytes](), 0, True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            if parts:  # what has arrived is stored, and the client continues after it
                yield b"".join(parts)
            raise ClientLeft
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        has_more = message.get("more_body", False)
        if size >= TOGETHER_BYTES or not has_more:
            if size:
                yield b"".join(parts)
            parts, size = [], 0


def _length(request: HttpRequest) -> int | None:
    """Return the size of the body, if the client says it. Raises UnsupportedMediaType for a compressed one."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding} is not supported. Send the file unencoded.")
    length = request.headers.get("Content-Length")
    return None if length is None else int(length)


def _query(request: HttpRequest, known: tuple[str, ...]) -> dict[str, str]:
    """Return the query. Raises InvalidParams for a name that is not known, and one that occurs twice."""
    problems = [(name[:100], "unknown parameter") for name in request.GET if name not in known]
    problems += [(name, "occurs twice") for name in known if len(request.GET.getlist(name)) > 1]
    problems += [(name, "contains a NUL character") for name in known if "\0" in request.GET.get(name, "")]
    if problems:
        raise InvalidParams(problems)
    return {name: value for name, value in request.GET.items() if isinstance(value, str) and value}


# --- download ---


async def _download(request: HttpRequest, file: File, *, reader: Caller) -> HttpResponseBase:
    """Return the bytes. They count as an open stream of the reader; those of a link as one of the owner."""
    files.complete(file)
    size, etag = file.bytes or 0, f'"{file.sha256}"'
    headers = headers_of_file(file) | {"ETag": etag, "Accept-Ranges": "bytes"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    if etag in known or "*" in known:
        return HttpResponse(status=304, headers=headers)
    start, stop, status = 0, size, 200
    wanted = request.headers.get("Range")
    if wanted is not None and request.headers.get("If-Range", etag) == etag:
        found = _range(wanted, size)
        if found is None:
            return HttpResponse(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
        if found != (0, 0):
            (start, stop), status = found, 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD" or start == stop:
        return HttpResponse(status=status, headers=headers)
    open_streams().refuse_if_full(reader)
    parts = files.stored_object(file).read(start, stop)
    first = await on_thread(next, parts)  # a fault of the object becomes an error, not a cut response
    release = open_streams().take_place(reader)
    response = StreamingHttpResponse(_sent(first, parts, release), status=status, headers=headers)
    weakref.finalize(response, release)  # the client may leave before the first byte
    return response


async def _sent(first: bytes, parts: Iterator[bytes], release: Callable[[], None]) -> AsyncGenerator[bytes]:
    try:
        data: bytes | None = first
        while data is not None:
            ahead = on_thread(next, parts, None)
            yield data
            data = await ahead
    finally:
        release()


def _range(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the bytes that the header asks for (RFC 9110, section 14.1.2): from, and before. (0, 0): all of them. None: there are none.

    Several ranges, or units that are not known, are ignored, as section 14.2 allows.
    """
    found = RANGE.fullmatch(wanted.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return 0, 0
    if not found[1]:
        last = min(int(found[2]), size)
        return (size - last, size) if last else None
    start, stop = int(found[1]), min(int(found[2]) + 1, size) if found[2] else size
    if found[2] and int(found[2]) < start:
        return 0, 0
    return (start, stop) if start < size else None


def headers_of_file(file: File) -> dict[str, str]:
    """Return the headers with which a browser stores the file, and runs nothing of it."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", file.name)
    return {
        "Content-Type": safe_type(file.media_type),
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file.name, safe='')}",
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
