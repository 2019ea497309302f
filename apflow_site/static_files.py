"""Static files and pages, compressed. Event streams are never compressed, because that would delay them."""

import asyncio
import gzip
import io
import re
from collections.abc import Awaitable, Callable
from typing import Final

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.utils.cache import patch_vary_headers
from django.utils.decorators import async_only_middleware
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

from apflow_site.static_version import static_version

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

VERSIONED: Final = re.compile(r"^/static/(v-[0-9a-f]+)/")
FOREVER: Final = "public, max-age=31536000, immutable"
SMALLEST: Final = 1_000
"""Shorter responses are not compressed."""
TEXTS: Final = ("text/", "application/javascript", "image/svg+xml", "application/json")
TAKES_GZIP: Final = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))")


@async_only_middleware
def compressed(get_response: GetResponse) -> GetResponse:
    """Compress pages for clients that accept it, on a thread: a page may have megabytes.

    The length of a compressed page could tell an eavesdropper how much a secret in it resembles a parameter that
    it repeats (BREACH). CSRF tokens are masked for each request, Django adds up to 100 random bytes, and replies to
    forms, one of which shows a new API key, are not compressed.
    """

    def unreachable(request: HttpRequest) -> HttpResponse:
        raise AssertionError("only process_response is called")

    middleware = GZipMiddleware(unreachable)

    async def answer(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        if request.method != "GET" or not isinstance(response, HttpResponse) or len(response.content) < SMALLEST:
            return response
        return await asyncio.to_thread(middleware.process_response, request, response)

    return answer


class StaticFiles(WhiteNoiseMiddleware):
    """Serve the static files of all apps, listed at startup, each compressed once.

    WhiteNoise itself is not async: it streams from a thread. The folder of an older version, which a page
    that is still open may ask for, has the present files.
    """

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: GetResponse) -> None:
        super().__init__(get_response)
        markcoroutinefunction(self)
        self._gzipped: dict[str, bytes] = {}

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        versioned = VERSIONED.match(request.path_info)
        path = VERSIONED.sub("/static/", request.path_info)
        file = self.files.get(path)
        if file is None:
            response: HttpResponseBase = await self.get_response(request)
            return response
        answer = self._answer(path, file, request)
        if versioned and versioned[1] == static_version():
            answer["Cache-Control"] = FOREVER
        return answer

    def _answer(self, path: str, file: StaticFile, request: HttpRequest) -> HttpResponse:
        found = file.get_response(request.method, request.META)
        with found.file or io.BytesIO() as content:
            answer = HttpResponse(content.read(), status=int(found.status), headers=dict(found.headers))
        if answer.status_code != 200 or not answer["Content-Type"].startswith(TEXTS):
            return answer
        patch_vary_headers(answer, ["Accept-Encoding"])
        if request.method == "GET" and TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")):
            if path not in self._gzipped:
                self._gzipped[path] = gzip.compress(answer.content, mtime=0)
            answer.content = self._gzipped[path]
            answer["Content-Encoding"] = "gzip"
            answer["Content-Length"] = str(len(answer.content))
            answer["ETag"] = f"W/{answer['ETag']}"
        return answer
