"""Sessions, messages, static files and the content security policy, for pages only.

API requests use tokens and get JSON. Session middleware would cost them time on a shared thread for nothing.
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
"""GET returns a page, POST is JSON-RPC."""


@async_only_middleware
def pages(get_response: GetResponse) -> GetResponse:
    """Run `settings.PAGE_MIDDLEWARE` for pages only. Disable content sniffing for all responses."""
    chain: Any = get_response
    for path in reversed(settings.PAGE_MIDDLEWARE):
        chain = import_string(path)(chain)

    async def choose(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await (chain if is_page(request) else get_response)(request)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        return response

    return choose


def is_page(request: HttpRequest) -> bool:
    """Whether the response is a page for a browser."""
    if request.path == FRONT:
        return request.method in ("GET", "HEAD")
    return request.path.startswith(PREFIXES)


def about_server(request: HttpRequest) -> dict[str, Any]:
    """Context of every template: whether to warn that the server is open to everyone."""
    return {"is_open_server": settings.APFLOW.is_open}


class StaticFiles(WhiteNoiseMiddleware):
    """Serve the static files of all apps, collected at startup. WhiteNoise itself is not async: it streams from a thread."""

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
