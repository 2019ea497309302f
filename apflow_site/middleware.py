"""Middleware that rejects foreign hosts and origins, and isolates pages from their openers."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.decorators import async_only_middleware

from apflow_site.hosts import is_own_host, is_own_origin

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
OPENER_POLICY: Final = "Cross-Origin-Opener-Policy"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@async_only_middleware
def host_check(get_response: GetResponse) -> GetResponse:
    """Reject requests with a foreign `Host` (400), and writes from a foreign `Origin` (403)."""

    async def check(request: HttpRequest) -> HttpResponseBase:
        host = request.headers.get("Host", "")
        if not is_own_host(host):
            return _refusal(400, f"Host {host!r} is not allowed. Add it to server.allowed_hosts.")
        origin = request.headers.get("Origin")
        if origin and request.method not in SAFE_METHODS and not is_own_origin(origin, host=host):
            return _refusal(403, f"Origin {origin!r} is not the origin of this server.")
        return await get_response(request)

    return check


@async_only_middleware
def opener_policy(get_response: GetResponse) -> GetResponse:
    """Set Cross-Origin-Opener-Policy on secure connections.

    On others, browsers ignore it with a warning.
    """

    async def say(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        if request.is_secure() or settings.SESSION_COOKIE_SECURE or _is_loopback(request.headers.get("Host", "")):
            response.headers.setdefault(OPENER_POLICY, "same-origin")
        return response

    return say


def _is_loopback(host: str) -> bool:
    """Whether browsers trust this `Host` without TLS because it is the local machine."""
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refusal(status: int, message: str) -> JsonResponse:
    return JsonResponse({"error": {"code": status, "message": message}}, status=status)
