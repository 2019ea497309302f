"""The hosts and origins that a request may name.

The checks of `Host` and `Origin` prevent DNS rebinding: a web page whose name resolves to 127.0.0.1
can reach a server on loopback, but sends its own name as Host. Literal addresses cannot be rebound
and are always accepted.
"""

import ipaddress
import re
import socket
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.http import HttpRequest, JsonResponse

from apflow_site.origins import is_allowed_origin, is_own_origin

MOST_HOSTS: Final = 256
"""The number of values of `Host` whose decision is remembered."""
HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{0,5})?")
"""A value of `Host` with its port (RFC 9112, section 3.2). Several headers arrive joined with commas, and match it never."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PREFIXES: Final = ("/ui/", "/admin/", "/login/", "/logout/", "/answer/", "/static/")
FRONT: Final = "/"
"""GET returns a page, POST is JSON-RPC."""


def is_page(*, method: str | None, path: str) -> bool:
    """Return whether the response is a page for a browser."""
    return method in ("GET", "HEAD") if path == FRONT else path.startswith(PREFIXES)


def foreign(request: HttpRequest) -> JsonResponse | None:
    """Return the error reply to a foreign `Host` (400) or a write from a foreign `Origin` (403), or None."""
    host = request.headers.get("Host", "")
    if not HOST.fullmatch(host):
        return _refusal(
            400, "host_not_allowed", f"Host {host[:200]!r} is none. A request has one Host, a name or an address."
        )
    if not is_own_host(host):
        return _refusal(400, "host_not_allowed", f"Host {host!r} is not allowed. Add it to server.allowed_hosts.")
    origin = request.headers.get("Origin")
    if not origin or request.method in SAFE_METHODS or is_own_origin(origin, host=host):
        return None
    if is_allowed_origin(origin) and not is_page(method=request.method, path=request.path):
        return None
    message = f"Origin {origin!r} is not the origin of this server, nor in server.allowed_origins."
    return _refusal(403, "origin_not_allowed", message)


def _refusal(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message}}, status=status)


def is_own_host(host: str) -> bool:
    """Return whether `Host` is an address, a name of this machine, or in `server.allowed_hosts`."""
    server = settings.APFLOW.server
    return HOST.fullmatch(host) is not None and _is_own(
        host, public_url=server.public_url or "", allowed=tuple(server.allowed_hosts)
    )


@lru_cache(MOST_HOSTS)
def _is_own(host: str, *, public_url: str, allowed: tuple[str, ...]) -> bool:
    name = (_split(f"//{host}").hostname or "").rstrip(".")
    own = {
        "localhost",
        "testserver",
        socket.gethostname().lower(),
        urlsplit(public_url).hostname,
        *map(str.lower, allowed),
    }
    return bool(name) and (name in own or name.endswith(".localhost") or _is_address(name))


def _split(url: str) -> SplitResult:
    """Split a URL from a client; all parts are empty if it is malformed."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
