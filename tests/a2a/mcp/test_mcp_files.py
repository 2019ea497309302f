"""Files of MCP: bytes in arguments become files of the caller, and files in results are links to resources, images and sounds."""

import os
from base64 import b64decode, b64encode

import pytest

from tests.a2a.a2a_client import token_of
from tests.a2a.mcp.mcp_client import Client, Json
from tests.servers import Server

pytestmark = pytest.mark.both_engines_nightly
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def data_uri(content: bytes, media_type: str = "application/pdf") -> str:
    return f"data:{media_type};base64,{b64encode(content).decode()}"


def as_user(client: Client, name: str) -> Client:
    return Client(http=client.http, version=client.version, token=token_of(name))


@pytest.fixture
def carol(alice: Client) -> Client:
    """A user without files, with a client of each era."""
    return as_user(alice, f"carol-{os.urandom(4).hex()}")


def files_of(client: Client) -> Json:
    request = {"jsonrpc": "2.0", "id": 1, "method": "files.list", "params": {}}
    found: Json = client.http.post("/tasks", json=request, headers={"Authorization": f"Bearer {client.token}"}).json()[
        "result"
    ]
    return found


@pytest.mark.both_engines
def test_bytes_become_a_file_whose_link_can_be_read(carol: Client) -> None:
    content = os.urandom(5000)
    called = carol.result(
        "tools/call",
        {"name": "echo_executor", "arguments": {"given": {"$file": data_uri(content), "name": "a report.pdf"}}},
    )
    value = called["structuredContent"]["result"]["given"]
    assert (value["name"], value["media_type"], value["bytes"]) == ("a report.pdf", "application/pdf", 5000)
    _, link = called["content"]
    uri = f"files://{value['$file']}"
    assert link == {
        "type": "resource_link",
        "uri": uri,
        "name": "a report.pdf",
        "mimeType": "application/pdf",
        "size": 5000,
    }
    (read,) = carol.result("resources/read", {"uri": uri})["contents"]
    assert (b64decode(read["blob"]), read["uri"], read["mimeType"]) == (content, uri, "application/pdf")
    again = carol.result("tools/call", {"name": "echo_executor", "arguments": {"given": value}})
    assert again["content"][1] == link


def test_small_images_and_sounds_are_in_the_result_and_texts_are_read_as_texts(carol: Client) -> None:
    given = {
        "image": {"$file": data_uri(PNG, "image/png")},
        "sound": {"$file": data_uri(b"RIFF", "audio/wav"), "name": "a.wav"},
        "large": {"$file": data_uri(bytes(300_000), "image/png"), "name": "large.png"},
        "words": {"$file": data_uri("Flüsse".encode(), "text/markdown"), "name": "a.md"},
    }
    called = carol.result("tools/call", {"name": "echo_executor", "arguments": given})
    kinds = [block["type"] for block in called["content"]]
    assert sorted(kinds) == ["audio", "image", *["resource_link"] * 4, "text"]
    image = next(block for block in called["content"] if block["type"] == "image")
    assert (b64decode(image["data"]), image["mimeType"]) == (PNG, "image/png")
    words = called["structuredContent"]["result"]["words"]["$file"]
    (read,) = carol.result("resources/read", {"uri": f"files://{words}"})["contents"]
    assert read == {"uri": f"files://{words}", "mimeType": "text/markdown", "text": "Flüsse"}


def test_another_user_reads_nothing_and_gets_no_link(carol: Client) -> None:
    given = {"given": {"$file": data_uri(b"mine"), "name": "a.pdf"}}
    value = carol.result("tools/call", {"name": "echo_executor", "arguments": given})["structuredContent"]["result"][
        "given"
    ]
    dave = as_user(carol, "dave")
    not_yours = dave.error("resources/read", {"uri": f"files://{value['$file']}"})
    not_there = dave.error("resources/read", {"uri": "files://nowhere"})
    assert not_yours["message"].replace(value["$file"], "nowhere") == not_there["message"]
    assert not_yours["code"] == not_there["code"]
    refused = dave.result("tools/call", {"name": "echo_executor", "arguments": {"given": value}})
    assert refused["isError"] is True
    assert "no complete file" in refused["content"][0]["text"]


@pytest.mark.both_engines
def test_what_is_refused_leaves_nothing_behind(carol: Client, mcp_server: Server) -> None:
    good: Json = {"$file": data_uri(os.urandom(100)), "name": "good.pdf"}
    wrong: list[tuple[Json, str]] = [
        ({"$file": "data:application/pdf;base64,%%%"}, "arguments.given[1]: is not base64"),
        ({"$file": data_uri(b"x", "nonsense")}, "must have a media type"),
        ({"$file": data_uri(b"x"), "name": "../x"}, "without a path"),
        ({"$file": "not an id"}, "no complete file"),
    ]
    for value, reason in wrong:
        arguments = {"given": [good, value]}
        refused = carol.result("tools/call", {"name": "echo_executor", "arguments": arguments})
        assert refused["isError"] is True
        assert reason in refused["content"][0]["text"].replace(" has ", " "), refused
    found = files_of(carol)
    assert (found["files"], found["used_bytes"]) == ([], 0)


def test_a_file_that_is_too_large_to_read_is_refused_with_the_way_to_get_it(carol: Client) -> None:
    headers = {"Authorization": f"Bearer {carol.token}"}
    value = carol.http.post("/files", params={"name": "a.bin"}, content=bytes(4 * 2**20 + 1), headers=headers).json()
    refused = carol.error("resources/read", {"uri": f"files://{value['$file']}"})
    assert f"GET /files/{value['$file']}" in str(refused)


def test_the_template_of_files_completes_their_ids(carol: Client) -> None:
    given = {"given": {"$file": data_uri(b"mine"), "name": "a.pdf"}}
    value = carol.result("tools/call", {"name": "echo_executor", "arguments": given})["structuredContent"]["result"][
        "given"
    ]
    asked = {"ref": {"type": "ref/resource", "uri": "files://{id}"}, "argument": {"name": "id", "value": ""}}
    assert carol.result("completion/complete", asked)["completion"]["values"] == [value["$file"]]
