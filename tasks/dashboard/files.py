"""Files on pages: those that a value names, their previews, and their downloads."""

from typing import Any, Final
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.dashboard.pages import page, render_page
from tasks.models import File
from tasks.rules.files import FILE, moved_in
from tasks.rules.previews import PDF, bytes_for, preview_of
from tasks.services import files
from tasks.services.files.references import named_in
from tasks.storage.file_store import on_thread

MOST_SHOWN: Final = 20


def files_named(caller: Caller, *values: Any) -> list[File]:
    """Return the files that the values name and the caller may read, MOST_SHOWN of them; not large values that were moved."""
    named = named_in(*values)
    moved = {each[FILE] for value in values for each in moved_in(value)} if named else set()
    ids = sorted(named - moved)[:MOST_SHOWN]
    return list(File.objects.for_caller(caller).filter(id__in=ids, completed_at__isnull=False)) if ids else []


@page()
async def preview(request: HttpRequest, caller: Caller, file_id: str) -> HttpResponse:
    """`GET /ui/files/{id}/preview/`: a part of a page that shows the beginning of a file."""
    file = files.complete(await pools.read(files.get_file, caller=caller, file_id=file_id))
    if file.media_type == PDF:
        from tasks.dashboard.pdf import pdf_preview  # noqa: PLC0415  (with what runs commands: no other page needs it)

        shown = await pdf_preview(file, reader=caller.user_id)
    else:
        size, most = file.bytes or 0, bytes_for(file.media_type)
        parts = files.stored_object(file).read(0, min(size, most))
        head = b"".join(await on_thread(list[bytes], parts))
        shown = preview_of(head, name=file.name, media_type=file.media_type, size=size)
    return await render_page(request, caller, "dashboard/file_preview.html", {"file": file, "preview": shown})


@page()
async def download(request: HttpRequest, caller: Caller, file_id: str) -> HttpResponse:
    """`GET /ui/files/{id}/`: lead to the bytes, with a link that is valid for some minutes."""
    file = files.complete(await pools.read(files.get_file, caller=caller, file_id=file_id))
    return HttpResponseRedirect(f"/files/{file.id}?link={quote(files.link_to(file).token)}")
