"""The guarded client against a zoo of hostile urls, a changing name server, hostile answers, and real TLS."""

import asyncio
import gzip
import ipaddress
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis.strategies import ip_addresses
from pytest_django import Settings

from aipartnerupflow.executors import ExecutorError
from tasks.executors.http import safe_http
from tasks.executors.http.safe_http import Address, fetch, guarded_client, is_public
from tests.certificates import server_context
from tests.tasks.executors.conftest import Web, serving

#: What the name server of the tests answers; other names do not exist.
NAMES: Mapping[str, Sequence[str]] = {
    "localhost": ["127.0.0.1"],
    "loopback.test": ["127.0.0.1"],
    "loopback6.test": ["::1"],
    "mixed.test": ["93.184.215.14", "127.0.0.1"],
    "mixed6.test": ["2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "sixtofour.test": ["2002:7f00:1::"],
    "metadata.test": ["169.254.169.254"],
    "private.test": ["10.0.0.7"],
    "zero.test": ["0.0.0.0"],
    "xn--bcher-kva.test": ["127.0.0.1"],
}

#: Refused, too, for white space and control characters, which a file of lines cannot hold; `{port}` is the canary's.
UNPRINTABLE = [
    "http://127.0.0.1:{port}/\r\nX-Injected: 1",
    "http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "http://example.com:80 @127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/ ",
    "http://127.0.0.1\t:{port}/",
    "http://127.0.0.1\n.example.com:{port}/",
    "http://localhost\x00.example.com:{port}/",
    "http://loopback\xad.test:{port}/",
    "http://loopback.test\u200b:{port}/",
    "http://127.0.0.1:{port}\u2028/",
    "",
]
ZOO_FILE = Path(__file__).with_name("ssrf_zoo.txt")
ZOO = [line for line in ZOO_FILE.read_text("utf-8").splitlines() if line and not line.startswith("#")] + UNPRINTABLE


class Canary:
    """A listener on every loopback address of the machine that counts who comes."""

    def __init__(self) -> None:
        self.port = 0
        self.visits = 0

    async def visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nalive")
        await writer.drain()
        writer.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    """On all IPv4 addresses, so that 127.0.0.2 and 0.0.0.0 count, and on ::1 where the machine has it."""
    canary = Canary()
    loop = asyncio.new_event_loop()

    async def listen() -> list[asyncio.Server]:
        first = await asyncio.start_server(canary.visited, "0.0.0.0", 0)
        canary.port = first.sockets[0].getsockname()[1]
        if not has_ipv6_loopback():
            return [first]
        return [first, await asyncio.start_server(canary.visited, "::1", canary.port)]

    servers = loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield canary
    for server in servers:
        loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


Answer = Callable[[str], Sequence[str] | None]


def patch_resolver(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> list[str]:
    """Let `answer` be the name server; return the list of names that it is asked for.

    Numbers in any notation are still read by the system's own resolver: 2130706433 is 127.0.0.1 to it.
    """
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        asked.append(name)
        addresses = answer(name.lower().rstrip("."))
        if addresses is None:
            return resolve(host, port, flags=socket.AI_NUMERICHOST, type=socket.SOCK_STREAM)
        return [one for address in addresses for one in resolve(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return patch_resolver(monkeypatch, NAMES.get)


def test_the_zoo_is_large_and_has_no_url_twice() -> None:
    assert len(set(ZOO)) == len(ZOO) >= 150


async def test_no_url_of_the_zoo_reaches_the_canary(canary: Canary, names: list[str], settings: Settings) -> None:
    settings.APFLOW_REST_ALLOWED_PORTS = (80, 443, canary.port)
    for pattern in ZOO:
        url = pattern.replace("{port}", str(canary.port))
        with pytest.raises(ExecutorError) as caught:
            await fetch("GET", url, timeout_seconds=60)
            pytest.fail(f"not refused: {url!r}")
        assert caught.value.permanent, url
        assert "refused" in str(caught.value), url
    assert canary.visits == 0


async def test_no_url_of_the_zoo_reaches_the_canary_through_a_bare_client(
    canary: Canary, names: list[str], settings: Settings
) -> None:
    settings.APFLOW_REST_ALLOWED_PORTS = (80, 443, canary.port)
    async with guarded_client() as client:
        for pattern in ZOO:
            with pytest.raises((ExecutorError, httpx.HTTPError, httpx.InvalidURL)):
                await client.get(pattern.replace("{port}", str(canary.port)))
                pytest.fail(f"not refused: {pattern!r}")
    assert canary.visits == 0


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:{port}/"),
        ("127.0.0.0/8", "http://127.0.0.1:{port}/"),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]:{port}/"),
        ("127.0.0.1", "http://loopback.test:{port}/"),
        ("loopback.test", "http://loopback.test:{port}/"),
        ("LoopBack.test.", "http://LOOPBACK.test:{port}/"),
        ("loopback.test", "http://loopback.test.:{port}/"),
        ("xn--bcher-kva.test", "http://xn--bcher-kva.test:{port}/ä?q=ö"),
    ],
)
async def test_what_the_operator_lists_is_reached_on_the_ports_that_are_allowed(
    listed: str, url: str, canary: Canary, names: list[str], settings: Settings
) -> None:
    settings.APFLOW_ALLOW_PRIVATE = (listed,)
    with pytest.raises(ExecutorError, match=rf"port {canary.port} is not allowed.*executors\.rest\.allowed_ports"):
        await fetch("GET", url.replace("{port}", str(canary.port)))
    assert canary.visits == 0
    settings.APFLOW_REST_ALLOWED_PORTS = (80, canary.port)
    reply = await fetch("GET", url.replace("{port}", str(canary.port)))
    assert (reply.status_code, reply.body, canary.visits) == (200, b"alive", 1)


@pytest.mark.parametrize(
    ("listed", "url", "advice"),
    [
        ("loopback.test", "http://127.0.0.1:{port}/", "add '127.0.0.1' to executors.rest.allow_private"),
        ("10.0.0.0/8", "http://loopback.test/", "add 'loopback.test' to executors.rest.allow_private"),
        ("test", "http://loopback.test/", "add 'loopback.test' to executors.rest.allow_private"),
        ("127.0.0.1", "http://93.184.215.14:{port}/", "add '{port}' to executors.rest.allowed_ports"),
        ("127.0.0.1", "http://93.184.215.14:22/", "add '22' to executors.rest.allowed_ports"),
        ("127.0.0.1", "http://mixed.test:{port}/", "add '{port}' to executors.rest.allowed_ports"),
    ],
)
async def test_what_is_not_listed_is_refused_with_the_setting_to_change(
    listed: str, url: str, advice: str, canary: Canary, names: list[str], settings: Settings
) -> None:
    settings.APFLOW_ALLOW_PRIVATE = (listed,)
    with pytest.raises(ExecutorError) as caught:
        await fetch("GET", url.replace("{port}", str(canary.port)))
    assert advice.replace("{port}", str(canary.port)) in str(caught.value)
    assert caught.value.permanent
    assert canary.visits == 0


@pytest.mark.parametrize("listed", ["another.test", "93.184.0.0/16"])
async def test_a_certificate_may_go_unchecked_only_at_a_host_that_is_listed_by_itself(
    listed: str, names: list[str], settings: Settings
) -> None:
    settings.APFLOW_ALLOW_PRIVATE = (listed,)
    with pytest.raises(ExecutorError, match=r"must be verified.*executors\.rest\.allow_private"):
        await fetch("GET", "https://93.184.215.14/", verify=False)


async def test_a_name_that_is_bound_to_another_address_after_the_check_gains_nothing(
    web: Web, allow_loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["169.254.169.254"]])
    asked = patch_resolver(monkeypatch, lambda name: next(answers))
    web.answer(200, b"from the address that was judged")
    reply = await fetch("GET", f"http://rebind.test:{web.port}/", timeout_seconds=60)
    assert reply.body == b"from the address that was judged"
    assert asked == ["rebind.test"]
    assert web.received[0].headers["host"] == f"rebind.test:{web.port}"
    with pytest.raises(ExecutorError, match=r"169\.254\.169\.254 is not public"):
        await fetch("GET", f"http://rebind.test:{web.port}/", timeout_seconds=60)


async def test_the_next_address_of_a_host_is_tried_when_one_does_not_answer(
    web: Web, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.APFLOW_ALLOW_PRIVATE = ("two.test",)
    settings.APFLOW_REST_ALLOWED_PORTS = range(1, 65536)
    patch_resolver(monkeypatch, lambda name: ["::1", "127.0.0.1"])  # the server listens on IPv4 only
    web.answer(200, b"second")
    assert (await fetch("POST", f"http://two.test:{web.port}/", content=b"x")).body == b"second"
    assert [received.body for received in web.received] == [b"x"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("93.184.215.14", True),
        ("172.15.255.255", True),
        ("172.32.0.0", True),
        ("100.63.255.255", True),
        ("100.128.0.0", True),
        ("223.255.255.255", True),
        ("2606:4700:4700::1111", True),
        ("2a00:1450:4001:82a::200e", True),
        ("64:ff9b::8.8.8.8", True),
        ("64:ff9b::10.0.0.1", False),
        ("192.0.0.8", False),
        ("4000::1", False),
        ("5f00::1", False),
    ],
)
def test_public_is_what_is_handed_out_to_the_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@given(address=ip_addresses())
def test_nothing_that_the_standard_library_keeps_from_the_public_is_public(address: Address) -> None:
    assert not is_public(address) or (address.is_global and not address.is_multicast)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_answered_and_not_followed(
    status: int, web: Web, canary: Canary, allow_loopback: None
) -> None:
    web.answer(status, b"", Location=f"http://127.0.0.1:{canary.port}/", Content_Length="0")
    reply = await fetch("GET", web.url)
    assert reply.status_code == status
    assert canary.visits == 0


async def test_proxies_of_the_environment_are_not_used(
    web: Web, canary: Canary, allow_loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    web.answer(200, b"direct")
    assert (await fetch("GET", web.url)).body == b"direct"
    assert canary.visits == 0


async def test_params_are_added_to_the_query_of_the_url(web: Web, allow_loopback: None) -> None:
    reply = await fetch("GET", f"{web.url}/search?a=1", params={"b": "x y", "c": [1, 2], "d": True})
    assert web.received[0].path == "/search?a=1&b=x+y&c=1&c=2&d=true"
    assert reply.url == f"{web.url}/search?a=1&b=x+y&c=1&c=2&d=true"


async def test_a_compressed_answer_is_unpacked(web: Web, allow_loopback: None) -> None:
    web.answer(200, gzip.compress(b"text" * 1000), Content_Encoding="gzip")
    assert (await fetch("GET", web.url)).body == b"text" * 1000
    assert web.received[0].headers["accept-encoding"] == "gzip"


ONE_MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("chunks", "headers", "message", "permanent"),
    [
        ([b"x" * ONE_MIB] * 10_000, {}, "longer than 4194304 bytes", True),
        ([b"x" * (4 * ONE_MIB + 1)], {}, "longer than 4194304 bytes", True),
        ([gzip.compress(bytes(64 * ONE_MIB))], {"Content-Encoding": "gzip"}, "longer than 4194304 bytes", True),
        ([gzip.compress(b"text" * 1000)[:-12]], {"Content-Encoding": "gzip"}, "ends too early", False),
        ([b"no gzip"], {"Content-Encoding": "gzip"}, "is not valid gzip", False),
        ([b"\x0b\x02\x80hello\x03"], {"Content-Encoding": "br"}, "encoding is 'br', expected gzip", True),
        ([b"short"], {"Content-Length": "100"}, "the connection was lost (RemoteProtocolError)", False),
    ],
)
async def test_a_hostile_answer_is_bounded(
    chunks: list[bytes],
    headers: dict[str, str],
    message: str,
    permanent: bool,
    web: Web,
    allow_loopback: None,
) -> None:
    web.chunks, web.headers = chunks, headers
    with pytest.raises(ExecutorError) as caught:
        await fetch("GET", web.url)
    assert message in str(caught.value)
    assert caught.value.permanent is permanent


async def test_a_bomb_is_not_unpacked_to_its_end(web: Web, allow_loopback: None) -> None:
    web.answer(200, gzip.compress(bytes(64 * ONE_MIB)), Content_Encoding="gzip")
    tracemalloc.start()
    try:
        with pytest.raises(ExecutorError, match="longer than"):
            await fetch("GET", web.url)
        assert tracemalloc.get_traced_memory()[1] < 32 * ONE_MIB  # bytes, at the peak
    finally:
        tracemalloc.stop()


async def test_a_body_of_exactly_the_limit_is_taken(web: Web, allow_loopback: None) -> None:
    web.answer(200, b"x" * 4 * ONE_MIB)
    assert len((await fetch("GET", web.url)).body) == 4 * ONE_MIB


async def test_the_time_is_bounded_in_all(web: Web, allow_loopback: None) -> None:
    web.hangs = True
    with pytest.raises(ExecutorError, match=r"no complete response within 0\.3 s") as caught:
        await fetch("GET", web.url, timeout_seconds=0.3)
    assert not caught.value.permanent


async def test_cancelling_ends_the_request_at_once(web: Web, allow_loopback: None) -> None:
    web.hangs = True
    request = asyncio.create_task(fetch("GET", web.url))
    assert await asyncio.to_thread(web.arrived.wait, 60)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(request, timeout=60)


async def test_a_service_that_is_down_may_be_tried_again(settings: Settings, names: list[str]) -> None:
    settings.APFLOW_ALLOW_PRIVATE = ("127.0.0.1",)
    settings.APFLOW_REST_ALLOWED_PORTS = range(1, 65536)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ExecutorError, match="cannot connect") as caught:
            await fetch("GET", f"http://127.0.0.1:{unused.getsockname()[1]}/?token=canary-secret")
    assert not caught.value.permanent
    assert "canary-secret" not in str(caught.value)


@pytest.mark.parametrize(("called", "says"), [(None, "GET http://localhost:{}/secret: "), ("A hook", "A hook: ")])
async def test_an_error_calls_the_request_as_it_is_told_to(
    settings: Settings, names: list[str], called: str | None, says: str
) -> None:
    settings.APFLOW_ALLOW_PRIVATE = ["localhost"]
    settings.APFLOW_REST_ALLOWED_PORTS = range(1, 65536)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ExecutorError) as refused:
            await fetch("GET", f"http://localhost:{port}/secret?key=secret", called=called)
    assert str(refused.value).startswith(says.format(port) + "cannot connect")


async def test_a_name_that_is_unknown_may_be_tried_again(names: list[str]) -> None:
    with pytest.raises(ExecutorError, match=r"The host 'nobody\.test' cannot be resolved") as caught:
        await fetch("GET", "http://nobody.test/")
    assert not caught.value.permanent


CANARY = "canary-secret"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": CANARY},
        {"host": CANARY},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "close"},
        {"Proxy-Authorization": CANARY},
        {"X-Bad": f"{CANARY}\r\nInjected: 1"},
        {"X-Bad": f"{CANARY}\n"},
        {"X-Bad": f"{CANARY}\x00"},
        {"X-Bad": f"{CANARY}ä"},
        {"X-Bad": f" {CANARY}"},
        {"X Bad": CANARY},
        {"X-Bad:": CANARY},
        {"": CANARY},
        {"Ä": CANARY},
    ],
)
async def test_a_header_that_could_change_the_request_is_refused_without_its_value(
    headers: dict[str, str], web: Web, allow_loopback: None
) -> None:
    with pytest.raises(ExecutorError) as caught:
        await fetch("GET", web.url, headers=headers)
    assert caught.value.permanent
    assert CANARY not in str(caught.value)
    assert web.received == []


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Web]:
    """An HTTPS server whose certificate, for `tls.test`, is the only one that the operator's SSL_CERT_FILE trusts."""
    tls = server_context(tmp_path, "tls.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    patch_resolver(monkeypatch, lambda name: ["127.0.0.1"])
    settings.APFLOW_ALLOW_PRIVATE = ("127.0.0.1",)
    settings.APFLOW_REST_ALLOWED_PORTS = range(1, 65536)
    safe_http.tls_context.cache_clear()
    web = Web()
    tls.sni_callback = lambda connection, name, context: web.headers.update({"X-Asked-For": str(name)})
    with serving(web, tls):
        yield web
    safe_http.tls_context.cache_clear()


async def test_the_certificate_is_checked_against_the_name_and_not_the_address(tls_server: Web) -> None:
    reply = await fetch("GET", f"https://tls.test:{tls_server.port}/")
    assert (reply.status_code, reply.headers["x-asked-for"]) == (200, "tls.test")
    with pytest.raises(ExecutorError, match=r"the certificate is refused: Hostname mismatch") as caught:
        await fetch("GET", f"https://other.test:{tls_server.port}/")
    assert caught.value.permanent


async def test_a_certificate_that_nobody_vouches_for_is_refused_unless_unchecked(
    tls_server: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    safe_http.tls_context.cache_clear()
    with pytest.raises(ExecutorError, match=r"the certificate is refused: self-signed certificate"):
        await fetch("GET", f"https://tls.test:{tls_server.port}/")
    assert (await fetch("GET", f"https://tls.test:{tls_server.port}/", verify=False)).status_code == 200


async def test_what_another_library_reads_is_bounded(
    web: Web, allow_loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the server says of its answer: a charset that takes hours, a bomb, no end."""
    monkeypatch.setattr(safe_http, "MAX_STREAM_BYTES", 1000)
    async with guarded_client() as client:
        client.event_hooks = {"response": [safe_http.bound_response]}
        web.answer(500, b"x" * 1000, Content_Type="text/plain; charset=punycode")
        assert (await client.get(web.url)).text == "x" * 1000
        web.answer(200, b"x" * 1001)
        with pytest.raises(httpx.DecodingError, match="longer than 1000 bytes"):
            await client.get(web.url)
        web.answer(200, gzip.compress(b"x"), Content_Encoding="gzip")
        with pytest.raises(httpx.DecodingError, match="compressed as gzip"):
            await client.get(web.url)
