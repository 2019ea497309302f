"""What is sent compressed, and what browsers keep."""

import gzip
import re
from typing import Final

import httpx
import pytest
from django.templatetags.static import static

from tests.dashboard.conftest import Make, root, step
from tests.servers import Server

GZIP: Final = {"Accept-Encoding": "gzip"}
PLAIN: Final = {"Accept-Encoding": "identity"}
HTML: Final = {"Accept": "text/html"}


def get(server: Server, path: str, **headers: str) -> httpx.Response:
    response = server.http.get(path, headers=HTML | {name.replace("_", "-"): value for name, value in headers.items()})
    assert response.status_code == 200, response.text
    return response


def test_pages_are_compressed_for_clients_that_accept_it(server: Server, make: Make) -> None:
    path = f"/ui/tasks/{make(root('Pressed work', 'a'), step('a'))}-root"
    pressed, plain = get(server, path, **GZIP), get(server, path, **PLAIN)
    assert pressed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert "Accept-Encoding" in pressed.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert int(pressed.headers["Content-Length"]) < len(plain.content) / 3
    assert "Pressed work" in pressed.text


def test_a_reply_to_a_form_is_not_compressed(server: Server) -> None:
    page = get(server, "/ui/new/tree/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token
    fields = {"tree": "[]", "csrfmiddlewaretoken": token[1]}
    reply = server.http.post("/ui/new/tree/", data=fields, headers=GZIP | {"Origin": server.url})
    assert reply.status_code == 422
    assert "Content-Encoding" not in reply.headers


def test_a_stream_is_not_compressed(server: Server, make: Make) -> None:
    prefix = make(root("Streamed work", "a"), step("a"))
    with server.http.stream("GET", f"/ui/events/next/{prefix}-root", headers=GZIP) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert "Content-Encoding" not in response.headers


def test_a_static_file_is_compressed_and_kept_for_a_year(server: Server) -> None:
    address = static("dashboard/page.js")
    assert address in get(server, "/").text
    pressed, plain = get(server, address, **GZIP), get(server, address, **PLAIN)
    assert pressed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert pressed.headers["Content-Encoding"] == "gzip"
    assert pressed.content == plain.content
    assert int(pressed.headers["Content-Length"]) < len(plain.content)
    refused = get(server, address, Accept_Encoding="gzip;q=0, br")
    assert "Content-Encoding" not in refused.headers


def test_a_font_is_not_compressed_again(server: Server) -> None:
    font = get(server, static("vendor/inter-latin.woff2"), **GZIP)
    assert "Content-Encoding" not in font.headers


@pytest.mark.parametrize("folder", ["/static", "/static/v-0123456789ab"])
def test_other_versions_get_the_present_file_and_keep_it_shortly(server: Server, folder: str) -> None:
    found = get(server, f"{folder}/dashboard/tree.js")
    assert found.content == get(server, static("dashboard/tree.js")).content
    assert "immutable" not in found.headers["Cache-Control"]


def test_a_range_of_a_static_file_is_not_compressed(server: Server) -> None:
    address = static("dashboard/tree.js")
    part = server.http.get(address, headers=GZIP | {"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, get(server, address).content[:10])


def test_the_random_bytes_of_a_page_hide_its_length(server: Server) -> None:
    with server.http.stream("GET", "/ui/executors/", headers=GZIP | HTML) as response:
        body = b"".join(response.iter_raw())
    assert gzip.decompress(body).startswith(b"<!doctype html>")
    assert body[3] & 8  # the name of a file, of random length
