"""Sessions, messages, static files and the content policy: for pages only.

Programs come with tokens and get JSON; they would pay for a session that they never have, on a thread that all share.
"""

import io
from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import async_only_middleware
from django.utils.module_loading import import_string
from whitenoise.middleware import WhiteNoiseMiddleware

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

PREFIXES: Final = ("/ui/", "/admin/", "/login/", "/logout/", "/answer/", "/static/")
FRONT: Final = "/"
"""A page when it is read; posted to, it speaks JSON-RPC."""


@async_only_middleware
def pages(get_response: GetResponse) -> GetResponse:
    """Put `settings.PAGE_MIDDLEWARE` around every request for a page. No answer of any kind is to be guessed at."""
    chain: Any = get_response
    for path in reversed(settings.PAGE_MIDDLEWARE):
        chain = import_string(path)(chain)

    async def choose(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await (chain if is_page(request) else get_response)(request)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    return choose


def is_page(request: HttpRequest) -> bool:
    """Whether a browser shows what is answered."""
    if request.path == FRONT:
        return request.method in ("GET", "HEAD")
    return request.path.startswith(PREFIXES)


def about_server(request: HttpRequest) -> dict[str, Any]:
    """For every template: whether to warn that anybody may do anything here."""
    return {"is_open_server": settings.APFLOW.is_open}


class StaticFiles(WhiteNoiseMiddleware):
    """The files of all apps, found at the start. WhiteNoise knows no async, and would stream a file from a thread."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        file = self.files.get(request.path_info)
        if file is None:
            response: HttpResponseBase = await self.get_response(request)
            return response
        found = file.get_response(request.method, request.META)
        with found.file or io.BytesIO() as content:
            return HttpResponse(content.read(), status=int(found.status), headers=dict(found.headers))
