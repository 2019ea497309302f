"""The HTTP client for outgoing requests, protected against requests to the own network (SSRF).

A host is resolved once, each of its addresses is checked, and the connection goes to one of exactly
these: a name server that changes its answer in between gains nothing. TLS is still verified against
the name.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from django.conf import settings

from aipartnerupflow.executors import ExecutorError, HttpResponse
from aipartnerupflow.executors.http import MAX_BODY_BYTES
from tasks.own_process import without
from tasks.telemetry.tracing import headers_for, here

with without("click", "pygments", "rich"):  # those of its command line take 6 MiB in each process
    import httpx

CONNECT_TIMEOUT_SECONDS = 10.0
MAX_STREAM_BYTES = 64 * 2**20

PART_BYTES = 2**20
Take = Callable[["httpx.Response", AsyncIterator[bytes]], Awaitable[bool]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_SHAPE = re.compile(
    r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?(?:[/?][^\s\\#\x00-\x1f\x7f]*)?", re.I
)
HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?", re.I)
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.I)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
#: Headers that frame or route a message; only the client may set them.
RESERVED_HEADERS = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
    | {"proxy-authorization", "proxy-connection"}
)

#: Not public by IANA's special-purpose registries and RFC 5735/6890. Listed here because the
#: answers of `ipaddress` differ between patch releases of Python. The last one is the Azure host
#: behind a public address.
SPECIAL_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
        ),
    )
)
#: The only block with public addresses; of it, these parts are tunnels (2002::, 2001::/23) or
#: documentation.
PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
SPECIAL_V6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: All addresses that are not public, for settings that allow all of them.
NOT_PUBLIC = tuple(map(str, (*SPECIAL_V4, *SPECIAL_V6, "::/3", "4000::/2", "8000::/1")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """The addresses that one kind of request may reach besides the internet, and the settings that allow more."""

    allow_private: Sequence[str]
    """Host names, addresses and networks."""
    allowed_ports: Collection[int]
    allow_private_by: str
    """The action of the operator that allows `{host}`."""
    allowed_ports_key: str
    any_private_port: bool = False
    """Whether `allowed_ports` is for public addresses only."""


def egress_of_tasks() -> Egress:
    """Return where the requests of tasks may go."""
    return Egress(
        allow_private=settings.APFLOW_ALLOW_PRIVATE,
        allowed_ports=settings.APFLOW_REST_ALLOWED_PORTS,
        allow_private_by="add '{host}' to executors.rest.allow_private",
        allowed_ports_key="executors.rest.allowed_ports",
    )


async def fetch(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
    content: bytes | AsyncIterator[bytes] | None = None,
    content_bytes: int | None = None,
    timeout_seconds: float = 30.0,
    max_body_bytes: int | None = MAX_BODY_BYTES,
    verify: bool = True,
    take: Take | None = None,
    egress: Egress | None = None,
    called: str | None = None,
    begin: Callable[[], Awaitable[None]] | None = None,
) -> HttpResponse:
    """Send one request and read the whole response, of any status, within `timeout_seconds`.

    `content` that is a stream has `content_bytes`. `take` may read the decompressed body instead, of any length: then it returns True,
    and the response has none. `begin` is awaited before the first byte of the request, when there is a connection.

    Follows no redirects. `params` are added to the query of `url`. With `max_body_bytes=None` the
    body is not read. With `verify=False` the certificate is not checked; then the host must be
    listed by its own name or address. `egress` defaults to that of tasks. Raises ExecutorError, whose text contains
    no header and no query; it calls the request `called`, by default its method and URL.
    """
    target = parse_url(url)
    sent_headers = checked_headers(headers or {})
    what = called or f"{method} {target.copy_with(query=None)}"
    started = time.perf_counter()
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            guarded_client(verify=verify, egress=egress) as client,
            client.stream(
                method,
                target.copy_merge_params(params or {}),
                headers=sent_headers
                if content_bytes is None
                else {**sent_headers, "Content-Length": str(content_bytes)},
                content=content,
                extensions=None if begin is None else {"trace": before_sending(begin)},
            ) as response,
        ):
            is_taken = max_body_bytes is None or (take is not None and await take(response, parts_of(response, what)))
            body = b"" if is_taken else await read_body(response, what, max_body_bytes or 0)
    except TimeoutError:
        raise ExecutorError(f"{what}: no complete response within {timeout_seconds:g} s.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # `from None`: the text of these errors may contain what was sent, and the engine may log
        # the chain.
        raise failure(what, error) from None
    return HttpResponse(
        url=str(response.url),
        status_code=response.status_code,
        headers=response.headers,
        body=body,
        elapsed_ms=round((time.perf_counter() - started) * 1000, 3),
    )


def before_sending(begin: Callable[[], Awaitable[None]]) -> Callable[[str, Any], Awaitable[None]]:
    """Return the extension `trace` of a request that awaits `begin` before its first byte is sent."""

    async def trace(event: str, info: Any) -> None:
        if event == "http11.send_request_headers.started":
            await begin()

    return trace


def guarded_client(*, verify: bool = True, egress: Egress | None = None) -> httpx.AsyncClient:
    """Return a client for one exchange, without redirects, proxies or shared cookies.

    The caller sets the deadline.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(verify=verify, egress=egress or egress_of_tasks()),
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS),
        headers={"User-Agent": "aipartnerupflow", "Accept-Encoding": "gzip"},
        follow_redirects=False,
        trust_env=False,
    )


def client_for_sdk(*, timeout_seconds: float = 30.0) -> httpx.AsyncClient:
    """Do what `Context.http` says. Connections are not used again: they are pooled by address, and one may have several names."""
    return httpx.AsyncClient(
        transport=GuardedTransport(verify=True, egress=egress_of_tasks(), keeps_connections=False),
        timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_TIMEOUT_SECONDS)),
        headers={"User-Agent": "aipartnerupflow", "Accept-Encoding": "identity"},
        event_hooks={"response": [bound_response]},
        follow_redirects=False,
        trust_env=False,
    )


async def bound_response(response: httpx.Response) -> None:
    """Bound what another library reads of a response: a hook for `guarded_client`.

    The text is UTF-8 in any case, and neither compressed nor longer than 64 MiB. Raises
    httpx.DecodingError.
    """
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise httpx.DecodingError(f"compressed as {encoding[:40]}, which was not asked for", request=response.request)
    response.encoding = "utf-8"
    response.stream = _BoundStream(response)


class _BoundStream(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response) -> None:
        self._request = response.request
        self._stream = cast("httpx.AsyncByteStream", response.stream)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MAX_STREAM_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise httpx.DecodingError(f"longer than {MAX_STREAM_BYTES} bytes", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """Checks the host of every request, and connects only to an address that it checked.

    Connections must not be shared between clients: they are pooled by address, not by name.
    """

    def __init__(self, *, verify: bool, egress: Egress, keeps_connections: bool = True) -> None:
        self._verify = verify
        self._egress = egress
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20 if keeps_connections else 0)
        self._wire = httpx.AsyncHTTPTransport(verify=tls_context(verify), trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        addresses = await judged_addresses(request.url, egress=self._egress, verify=self._verify)
        for name, value in headers_for(request.url.host, here()).items():
            request.headers.setdefault(name, value)
        for address in addresses[:-1]:
            try:
                return await self._wire.handle_async_request(_addressed(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent yet: another address of the same host may respond
        return await self._wire.handle_async_request(_addressed(request, addresses[-1]))

    async def aclose(self) -> None:
        await self._wire.aclose()


def _addressed(request: httpx.Request, address: Address) -> httpx.Request:
    """Return the same request to an address: with its Host header, and the name for TLS."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": _host(request.url).rstrip(".")},
    )


@cache
def tls_context(verify: bool = True) -> ssl.SSLContext:
    """Load the certificates once, since it takes 10 ms or more. Honors SSL_CERT_FILE, but no proxy."""
    return httpx.create_ssl_context(verify=verify, trust_env=True)


def parse_url(text: str) -> httpx.URL:
    """Parse a URL.

    Raises ExecutorError for a text that two parsers might read as two different hosts.
    """
    if not URL_SHAPE.fullmatch(text):
        raise ExecutorError(
            "The url is refused: write http(s)://host[:port]/path?query, without user name, '#', backslash or space, "
            "and an international host name in its xn-- form.",
            permanent=True,
        )
    try:
        return httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ExecutorError(f"The url is refused: {error}.", permanent=True) from None


def origin_of(url: str) -> str:
    """Return `scheme://host[:port]`, to name a URL whose path is private. Raises ExecutorError."""
    return str(parse_url(url).copy_with(raw_path=b"/")).rstrip("/")


async def judged_addresses(url: httpx.URL, *, egress: Egress, verify: bool = True) -> Sequence[Address]:
    """Return the addresses of the URL's host; all of them may be connected to.

    Raises ExecutorError if the scheme, host, port or any address is refused, or the name is
    unknown.
    """
    if url.scheme not in ("http", "https") or url.userinfo:
        raise ExecutorError("The url is refused: only http and https, without a user name.", permanent=True)
    addresses = await _resolve(_host(url), _port(url))
    _judge(url, addresses, egress=egress, verify=verify)
    return addresses


def judge_literal(url: httpx.URL, *, egress: Egress) -> None:
    """Check the URL without DNS. Raises ExecutorError for a refused address or port."""
    literal = _literal(_host(url))
    if literal is not None:
        _judge(url, [literal], egress=egress, verify=True)


def _judge(url: httpx.URL, addresses: Sequence[Address], *, egress: Egress, verify: bool) -> None:
    host = _host(url).rstrip(".")
    names, networks = _allow_list(egress)
    is_listed = host in names or all(_is_in(address, networks) for address in addresses)
    allow_host = egress.allow_private_by.format(host=host)
    refused = [each for each in addresses if not is_listed and not (is_public(each) or _is_in(each, networks))]
    if refused:
        raise _refusal(host, f"its address {refused[0]} is not public", allow_host)
    if (port := _port(url)) not in egress.allowed_ports and not (is_listed and egress.any_private_port):
        raise _refusal(host, f"port {port} is not allowed", f"add '{port}' to {egress.allowed_ports_key}")
    single = [network for network in networks if network.num_addresses == 1]
    if not verify and host not in names and not all(_is_in(address, single) for address in addresses):
        raise _refusal(host, "its certificate must be verified", allow_host)


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _host(url: httpx.URL) -> str:
    """Return the host in lower case, in the xn-- form that resolvers and certificates use."""
    return url.raw_host.decode("ascii")


def _refusal(host: str, why: str, remedy: str) -> ExecutorError:
    return ExecutorError(f"The host '{host}' is refused: {why}. The operator may {remedy}.", permanent=True)


async def _resolve(host: str, port: int) -> Sequence[Address]:
    literal = _literal(host)
    if literal is not None:
        return [literal]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ExecutorError(f"The host '{host}' cannot be resolved: {error.strerror}.") from None
    return [_unmapped(ipaddress.ip_address(sockaddr[0])) for *_, sockaddr in found]


def _literal(host: str) -> Address | None:
    """Parse the host as an address; None for a name.

    Raises ExecutorError for what only some resolvers take for an address: 2130706433, 0x7f.1,
    0177.0.0.1, 127.1.
    """
    try:
        return _unmapped(ipaddress.ip_address(host))
    except ValueError:
        last_label = host.rstrip(".").rpartition(".")[2]
    if not HOST_NAME.fullmatch(host) or len(host) > 253 or NUMBER.fullmatch(last_label):
        raise ExecutorError(
            f"The host '{host}' is refused: it is neither a host name nor an address in its usual form.", permanent=True
        )
    return None


def _unmapped(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 address (::ffff:127.0.0.1)."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Return whether the address is public; a NAT64 address counts as the IPv4 address behind it."""
    if isinstance(address, ipaddress.IPv4Address):
        return not _is_in(address, SPECIAL_V4)
    if address in NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in PUBLIC_V6 and not _is_in(address, SPECIAL_V6)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _allow_list(egress: Egress) -> tuple[frozenset[str], Sequence[Network]]:
    """Return the host names, and the addresses and networks, that the operator allows."""
    names: set[str] = set()
    networks: list[Network] = []
    for entry in egress.allow_private:
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            names.add(entry.lower().rstrip("."))
    return frozenset(names), networks


def checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers. Raises ExecutorError for a header that is invalid or reserved."""
    for name, value in headers.items():
        if name.lower() in RESERVED_HEADERS:
            raise ExecutorError(f"The header {name!r} cannot be set by a task. Remove it.", permanent=True)
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise ExecutorError(f"The header {name!r} is not valid: printable ASCII only.", permanent=True)
    return headers


async def parts_of(response: httpx.Response, what: str) -> AsyncIterator[bytes]:
    """Yield the decompressed body. No part is much larger than what has arrived of it. Raises ExecutorError."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding in ("", "identity"):
        async for chunk in response.aiter_raw():
            yield chunk
        return
    if encoding not in ("gzip", "x-gzip"):
        raise ExecutorError(f"{what}: the response's encoding is '{encoding[:40]}', expected gzip.", permanent=True)
    gzip = zlib.decompressobj(wbits=31)
    async for chunk in response.aiter_raw():
        left, is_full = chunk, True
        while left or is_full:  # zlib may have more of a full part
            try:
                part = gzip.decompress(left, PART_BYTES)
            except zlib.error:
                raise ExecutorError(f"{what}: the response is not valid gzip.") from None
            yield part
            left, is_full = gzip.unconsumed_tail, len(part) == PART_BYTES
    if not gzip.eof:
        raise ExecutorError(f"{what}: the response ends too early.")


async def read_body(response: httpx.Response, what: str, max_body_bytes: int) -> bytes:
    """Return the decompressed body. Raises ExecutorError as soon as it exceeds the limit."""
    too_long = ExecutorError(f"{what}: the response is longer than {max_body_bytes} bytes.", permanent=True)
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > max_body_bytes:
            raise too_long
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding in ("", "identity") or not raw:
        return bytes(raw)
    if encoding not in ("gzip", "x-gzip"):
        raise ExecutorError(f"{what}: the response's encoding is '{encoding[:40]}', expected gzip.", permanent=True)
    try:
        # Not left to httpx, because only zlib itself can stop at a length.
        gzip = zlib.decompressobj(wbits=31)
        body = gzip.decompress(raw, max_body_bytes + 1)
    except zlib.error:
        raise ExecutorError(f"{what}: the response is not valid gzip.") from None
    if len(body) > max_body_bytes:
        raise too_long
    if not gzip.eof:
        raise ExecutorError(f"{what}: the response ends too early.")
    return body


def failure(what: str, error: Exception) -> ExecutorError:
    """Map an error of httpx, without its text, which may contain what was sent."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ExecutorError(f"{what}: the certificate is refused: {cause.verify_message}.", permanent=True)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectTimeout):
        return ExecutorError(f"{what}: no connection within {CONNECT_TIMEOUT_SECONDS:g} s.")
    if isinstance(error, httpx.ConnectError):
        return ExecutorError(f"{what}: cannot connect. Check that the service is up and the address is right.")
    if isinstance(error, (httpx.LocalProtocolError, httpx.InvalidURL)):
        return ExecutorError(f"{what}: the request is not valid HTTP. Check its headers and params.", permanent=True)
    return ExecutorError(f"{what}: the connection was lost ({type(error).__name__}).")
