"""Sessions, messages and the content security policy, for pages only.

API requests use tokens and get JSON. Session middleware would cost them time on a shared thread for nothing.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

OPENER_POLICY: Final = "Cross-Origin-Opener-Policy"


@async_only_middleware
def opener_policy(get_response: GetResponse) -> GetResponse:
    """Keep pages of other origins from holding on to ours. Browsers complain of the header where a connection is not to be trusted."""

    async def say(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        if request.is_secure() or settings.SESSION_COOKIE_SECURE or _is_loopback(request.headers.get("Host", "")):
            response.headers.setdefault(OPENER_POLICY, "same-origin")
        return response

    return say


def _is_loopback(host: str) -> bool:
    """Return whether browsers trust this `Host` without TLS, since nothing of it leaves the machine."""
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def about_server(request: HttpRequest) -> dict[str, Any]:
    """Context of every template: whether to warn that the server is open to everyone."""
    return {"is_open_server": settings.APFLOW.is_open}
