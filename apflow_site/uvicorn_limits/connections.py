"""The open connections of this process, by address, the proxies before them, and how the kernel ends dead ones."""

import asyncio
import ipaddress
import os
import socket
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from django.conf import settings

UVICORN_VARIABLE: Final = "FORWARDED_ALLOW_IPS"
EVERY: Final = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def trusted_proxies() -> list[str]:
    """Return the addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; `*` is every address.

    Only those of `server.trusted_proxies`, or of uvicorn's own variable: any other client, on loopback too, could choose
    its address, and so pass by the limits per address.
    """
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


PERIOD_SECONDS: Final = 30.0
"""The seconds over which the rate is measured before a client is too slow. Shorter pauses are ordinary."""


class Pace:
    """Watches a number of bytes that should grow while a client is expected to do its part."""

    def __init__(self, count: Callable[[], int], too_slow: Callable[[], None]) -> None:
        """`count` returns the bytes so far; `too_slow` is called once the client has been too slow."""
        self._count = count
        self._too_slow = too_slow
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Watch from now on, unless it is watched already or there is no minimum."""
        least = settings.APFLOW.limits.client_bytes_per_second * PERIOD_SECONDS
        if self._timer is None and least:
            self._watch(least)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, least: float) -> None:
        before = self._count()
        self._timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS, self._look, before, least)

    def _look(self, before: int, least: float) -> None:
        if self._count() - before < least:
            self._timer = None
            self._too_slow()
        else:
            self._watch(least)


def pace_of_reader(transport: asyncio.Transport) -> Pace:
    """Return the pace at which the client takes what has been written, while the buffer is full. It is cut off."""
    return Pace(lambda: -transport.get_write_buffer_size(), transport.abort)


JOINED_BYTES: Final = 64 * 1024


class JoinedWrites:
    """A transport that sends at once what is written in one turn of the event loop, up to JOINED_BYTES.

    Uvicorn writes the head and the body of a response one after the other. Sent one by one, each takes a call of the kernel and
    wakes the client. Everything but writing, and the ends of it, is as in the transport itself.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(data)
        self._size += len(data)
        if self._size > JOINED_BYTES:
            self._send()

    def close(self) -> None:
        self._send()
        self._transport.close()

    def write_eof(self) -> None:
        self._send()
        self._transport.write_eof()

    def _send(self) -> None:
        if self._waiting:
            data, self._waiting, self._size = b"".join(self._waiting), [], 0
            if not self._transport.is_closing():
                self._transport.write(data)


PROBE_SECONDS: Final = 30
"""After so long without a packet, and then as often, the kernel asks whether the peer is alive."""
PROBES: Final = 3
UNACKNOWLEDGED_SECONDS: Final = 120
"""The seconds that a peer may leave data unacknowledged, or have no room for it, before the connection ends."""

UNFINISHED_REQUESTS: Final = 16
"""One address may have as many bytes of unfinished headers as so many requests of the largest size."""


class Connections:
    """Counter of open connections. Used only on the event loop of the process, so it needs no lock."""

    def __init__(self) -> None:
        self._by_address: Counter[str] = Counter()
        self._unfinished: Counter[str] = Counter()

    def admit(self, address: str) -> bool:
        """Count a connection. Returns False if the address has reached its limit.

        Trusted proxies have no limit: their connections are those of many clients.
        """
        if is_trusted_proxy(address):
            return True
        if self._by_address[address] >= settings.APFLOW.limits.connections_per_address:
            return False
        self._by_address[address] += 1
        return True

    def release(self, address: str) -> None:
        """Stop counting a connection that was admitted."""
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def hold(self, address: str, size: int) -> bool:
        """Count bytes of unfinished headers, or with a negative number release them.

        Returns False if the address has more than UNFINISHED_REQUESTS requests may have. Headers
        usually arrive in one piece, so only an attacker reaches this.
        """
        self._unfinished[address] += size
        if self._unfinished[address] <= 0:
            del self._unfinished[address]
            return True
        most = UNFINISHED_REQUESTS * settings.APFLOW.limits.header_bytes
        return self._unfinished[address] <= most or is_trusted_proxy(address)


@cache
def open_connections() -> Connections:
    """Return the connections of this process."""
    return Connections()


def end_if_dead(transport: Any) -> None:
    """Let the kernel end the connection when the peer has gone without a word (a half-open connection)."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_SECONDS),
        ("TCP_KEEPINTVL", PROBE_SECONDS),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1000),
    ):
        if option := getattr(socket, name, None):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
