"""The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.

Only those that the operator names: any other client, on loopback too, could choose its address, and
so pass by the limits per address.
"""

import ipaddress
import os
from functools import cache
from typing import Final

from django.conf import settings

UVICORN_VARIABLE: Final = "FORWARDED_ALLOW_IPS"
EVERY: Final = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def trusted_proxies() -> list[str]:
    """Addresses and networks: `server.trusted_proxies`, or uvicorn's own variable. `*` is every address."""
    chosen = settings.APFLOW.server.trusted_proxies
    if chosen is not None:
        return list(chosen)
    return [part.strip() for part in os.environ.get(UVICORN_VARIABLE, "").split(",") if part.strip()]


def is_trusted_proxy(address: str) -> bool:
    """Return whether a connection from this address comes from a proxy. A Unix socket has no address."""
    if EVERY in trusted_proxies():
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in _networks(tuple(trusted_proxies())))


@cache
def _networks(proxies: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(proxy, strict=False) for proxy in proxies)
