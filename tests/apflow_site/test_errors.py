"""What is answered where there is no view."""

import socket
from typing import Final
from urllib.parse import urlsplit

import pytest
from django.test import AsyncClient

from tests.servers import Server

FOREIGN_HOST: Final = 4400
"""The code with which a WebSocket is closed."""


async def test_an_unknown_address_answers_in_json_and_says_where_to_look() -> None:
    answer = await AsyncClient().get("/nowhere")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert "/nowhere" in answer.json()["error"]["message"]


async def test_an_unknown_page_is_answered_with_a_page() -> None:
    answer = await AsyncClient().get("/ui/nowhere/<b>")
    assert answer.status_code == 404
    assert "There is no page at /ui/nowhere/&lt;b&gt;." in answer.content.decode()


async def test_what_people_type_leads_to_the_page() -> None:
    for typed in ("/usage", "/usage/", "/ui/usage"):
        answer = await AsyncClient().get(typed, {"days": "7"})
        assert (answer.status_code, answer["Location"]) == (302, "/ui/usage/?days=7")
    assert (await AsyncClient().post("/usage")).status_code == 405


async def test_a_form_without_its_token_is_answered_with_a_page() -> None:
    answer = await AsyncClient(enforce_csrf_checks=True).post("/ui/run/x")
    assert answer.status_code == 403
    assert "reload the page" in answer.content.decode()


def test_a_name_that_could_be_rebound_is_refused_as_host(open_server: Server) -> None:
    answer = open_server.http.get("/health", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "host_not_allowed"
    assert "server.allowed_hosts" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "hosts",
    [
        ["localhost", "evil.example"],
        ["evil.example", "localhost"],
        ["localhost", "localhost"],
        ["localhost:8000", "evil.example"],
        ["127.0.0.1:8000,evil.example"],
        ["localhost/evil.example"],
        ["localhost?evil.example"],
        [],
    ],
)
def test_a_request_has_one_host(open_server: Server, hosts: list[str]) -> None:
    """RFC 9112, section 3.2. Of several, a proxy may take another one than the server."""
    address = urlsplit(open_server.url)
    for path, fields in (("/health", ["Connection: close"]), ("/ui/", ["Connection: close"]), ("/ws", UPGRADE)):
        lines = [f"GET {path} HTTP/1.1", *(f"Host: {host}" for host in hosts), *fields, "", ""]
        with socket.create_connection((str(address.hostname), address.port), timeout=120) as connection:
            connection.sendall("\r\n".join(lines).encode())
            answer = b""
            while FOREIGN_HOST.to_bytes(2) not in answer and (some := connection.recv(65_536)):
                answer += some
        assert answer.startswith(b"HTTP/1.1 400") or FOREIGN_HOST.to_bytes(2) in answer, (path, answer[:300])


UPGRADE = [
    *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
]


async def test_a_foreign_origin_may_not_write() -> None:
    headers = {"Origin": "http://evil.example"}
    answer = await AsyncClient().post("/tasks", {}, content_type="application/json", headers=headers)
    assert answer.status_code == 403
