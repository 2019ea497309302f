"""Which hosts and origins may speak to this server: the one rule, for HTTP and for WebSockets.

A server that is open on loopback is still reachable from a web page whose name resolves to 127.0.0.1 (DNS rebinding). Such a page sends
its own name as Host; an address cannot be rebound, so literal addresses are always fine.
"""

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from django.conf import settings


def is_own_host(host: str) -> bool:
    """Whether the header `Host` names an address, this machine or what `server.allowed_hosts` allows."""
    name = (_split(f"//{host}").hostname or "").rstrip(".")
    return name in _own_names() or name.endswith(".localhost") or _is_address(name)


def is_own_origin(origin: str, *, host: str) -> bool:
    """Whether a page of this origin was served by the host that it now speaks to."""
    return _split(origin).netloc == host


def _split(url: str) -> SplitResult:
    """The parts of an address as a client sent it; none of one that is malformed."""
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
