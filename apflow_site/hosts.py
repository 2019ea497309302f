"""Checks of the headers `Host` and `Origin`, for HTTP and for WebSockets.

They prevent DNS rebinding: a web page whose name resolves to 127.0.0.1 can reach a server on
loopback, but sends its own name as Host. Literal addresses cannot be rebound and are always
allowed.
"""

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from django.conf import settings


def is_own_host(host: str) -> bool:
    """Whether `Host` is an address, a name of this machine, or in `server.allowed_hosts`."""
    name = (_split(f"//{host}").hostname or "").rstrip(".")
    return name in _own_names() or name.endswith(".localhost") or _is_address(name)


def is_own_origin(origin: str, *, host: str) -> bool:
    """Whether a page of this origin came from the host to which it sends the request."""
    return _split(origin).netloc == host


def _split(url: str) -> SplitResult:
    """Split a URL from a client; all parts are empty if it is malformed."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _own_names() -> frozenset[str]:
    server = settings.APFLOW.server
    public = urlsplit(server.public_url or "").hostname
    return frozenset(
        {"localhost", "testserver", socket.gethostname().lower(), public or "", *map(str.lower, server.allowed_hosts)}
        - {""}
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
